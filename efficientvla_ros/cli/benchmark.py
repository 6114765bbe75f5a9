"""`efficientvla benchmark`: latency of every stage of the policy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

SCHEMA = 'efficientvla_ros/benchmark/1'


def command(
    model: Annotated[
        str,
        typer.Option(help='Embedded model, checkpoint folder or file, or a name to be random.'),
    ] = 'tabletop',
    device: Annotated[str, typer.Option(help='cpu, cuda or cuda:N.')] = 'cpu',
    dtype: Annotated[
        str, typer.Option(help='auto (float32 on a CPU, bfloat16 on CUDA), float32, bfloat16.')
    ] = 'auto',
    tokenizer: Annotated[
        str | None, typer.Option(help="Folder with tokenizer.json; the checkpoint's if not given.")
    ] = None,
    unnorm_key: Annotated[
        str | None, typer.Option(help='Data set whose action statistics are used.')
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help='CPU threads of torch.')] = 1,
    runs: Annotated[int, typer.Option(min=1, help='Timed inferences.')] = 200,
    image_height: Annotated[int, typer.Option(min=1, help='Camera image, pixels.')] = 480,
    image_width: Annotated[int, typer.Option(min=1, help='Camera image, pixels.')] = 640,
    instruction: Annotated[str, typer.Option(help='Instruction.')] = 'pick the red can',
    ddim_steps: Annotated[
        int | None, typer.Option(help="Sampling steps; the model's own if not given.")
    ] = None,
    guidance: Annotated[
        float | None, typer.Option(help="Guidance scale; the model's own if not given.")
    ] = None,
    random_weights: Annotated[
        bool,
        typer.Option(
            help='Do not read the weights: latency does not depend on them. The model can then '
            'be any known name, such as cogact-base.'
        ),
    ] = False,
    json_file: Annotated[
        Path | None, typer.Option('--json', help='Write the report here.')
    ] = None,
) -> None:
    """Measure the latency of every stage of the policy: p50, p95 and p99."""
    from rich.console import Console
    from rich.progress import Progress

    from efficientvla_ros.evaluation.latency import WARM_UP_RUNS, measure_latency
    from efficientvla_ros.evaluation.provenance import provenance
    from efficientvla_ros.evaluation.report import write_json
    from efficientvla_ros.runtime.engine import load_engine

    with Progress(console=Console(stderr=True), transient=True) as bar:
        loading = bar.add_task('loading', total=None)
        engine = load_engine(
            model,
            device=device,
            dtype=dtype,
            threads=threads,
            tokenizer=tokenizer,
            unnorm_key=unnorm_key,
            num_ddim_steps=ddim_steps,
            guidance=guidance,
            random_weights=random_weights,
            progress=lambda done, total: bar.update(loading, completed=done, total=total),
        )
        prompt_tokens = engine.prompt_length(instruction)
        bar.remove_task(loading)
        line = bar.add_task('inferences', total=runs)
        latency = measure_latency(
            engine,
            instruction,
            (image_height, image_width),
            runs,
            lambda done: bar.update(line, completed=done),
        )
    typer.echo(_table(latency))
    if json_file is not None:
        settings = {
            'model': model,
            'device': device,
            'dtype': str(engine.dtype).removeprefix('torch.'),
            'tokenizer': tokenizer,
            'unnorm_key': unnorm_key,
            'threads': threads,
            'runs': runs,
            'warm_up_runs': WARM_UP_RUNS,
            'image': [image_height, image_width],
            'prompt_tokens': prompt_tokens,
            'ddim_steps': engine.num_ddim_steps,
            'guidance': engine.guidance,
            'random_weights': random_weights,
        }
        write_json(
            json_file,
            {'schema': SCHEMA, **provenance(), 'settings': settings, 'latency_s': latency},
        )
        typer.echo(f'report: {json_file}')


def _table(latency: dict[str, dict[str, float]]) -> str:
    rows = [f'{"stage":<12} {"p50":>8} {"p95":>8} {"p99":>8}  ms']
    for stage, values in latency.items():
        cells = ' '.join(f'{1e3 * values[key]:8.2f}' for key in ('p50', 'p95', 'p99'))
        rows.append(f'{stage:<12} {cells}')
    return '\n'.join(rows)
