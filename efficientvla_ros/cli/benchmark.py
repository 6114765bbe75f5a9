"""`efficientvla benchmark`: latency of every stage of the policy."""

from __future__ import annotations

import time
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
    warm_up_runs: Annotated[
        int, typer.Option(min=0, help='Inferences before them that do not count.')
    ] = 10,
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
    baseline: Annotated[
        str | None,
        typer.Option(
            help='eager: also measure CogACT as the original code runs it, on the same weights.'
        ),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option('--json', help='Write the report here.')
    ] = None,
) -> None:
    """Measure the latency of every stage of the policy (p50, p95 and p99) and its memory."""
    from rich.console import Console
    from rich.progress import Progress

    from efficientvla_ros.evaluation.benchmark import check_baseline, run_benchmark
    from efficientvla_ros.evaluation.provenance import provenance
    from efficientvla_ros.evaluation.report import write_json
    from efficientvla_ros.runtime.engine import load_engine

    check_baseline(baseline)
    with Progress(console=Console(stderr=True), transient=True) as bar:
        loading = bar.add_task('loading', total=None)
        start = time.perf_counter()
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
        load_seconds = time.perf_counter() - start
        prompt_tokens = engine.prompt_length(instruction)
        bar.remove_task(loading)
        line = bar.add_task('inferences', total=runs)
        measured = run_benchmark(
            engine,
            instruction,
            image_shape=(image_height, image_width),
            runs=runs,
            warm_up_runs=warm_up_runs,
            baseline=baseline,
            progress=lambda done: bar.update(line, completed=done),
        )
    typer.echo(_summary(measured, load_seconds))
    if json_file is not None:
        settings = {
            'model': model,
            'device': device,
            'dtype': str(engine.dtype).removeprefix('torch.'),
            'tokenizer': tokenizer,
            'unnorm_key': unnorm_key,
            'threads': threads,
            'runs': runs,
            'warm_up_runs': warm_up_runs,
            'baseline': baseline,
            'image': [image_height, image_width],
            'prompt_tokens': prompt_tokens,
            'ddim_steps': engine.num_ddim_steps,
            'guidance': engine.guidance,
            'random_weights': random_weights,
        }
        report = {'schema': SCHEMA, **provenance(device), 'settings': settings}
        write_json(json_file, {**report, 'load_s': load_seconds, **measured})
        typer.echo(f'report: {json_file}')


def _summary(measured: dict, load_seconds: float) -> str:
    memory = measured['memory']
    peak = memory.get('peak_device_bytes', memory['peak_rss_bytes'])
    lines = [
        f'loaded in {load_seconds:.1f} s; weights {memory["weights_bytes"] / 1e9:.2f} GB, '
        f'peak memory {peak / 1e9:.2f} GB; other processes kept '
        f'{measured["cores_busy_elsewhere"]:.1f} cores busy',
        _table(measured['latency_s']),
    ]
    if 'baseline' in measured:
        baseline = measured['baseline']
        lines += [
            f'baseline {baseline["name"]}; largest relative difference of the plans: '
            f'{baseline["relative_difference"]:.1e}',
            _table(baseline['latency_s'], baseline['speed_up']),
        ]
    return '\n'.join(lines)


def _table(latency: dict[str, dict[str, float]], speed_up: dict[str, float] | None = None) -> str:
    rows = [f'{"stage":<12} {"p50":>9} {"p95":>9} {"p99":>9}  ms']
    for stage, values in latency.items():
        cells = ' '.join(f'{1e3 * values[key]:9.2f}' for key in ('p50', 'p95', 'p99'))
        factor = f'  engine {speed_up[stage]:.2f}x as fast' if speed_up else ''
        rows.append(f'{stage:<12} {cells}{factor}')
    return '\n'.join(rows)
