"""`efficientvla benchmark`: latency of every stage of the policy."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from efficientvla_ros.cli.benchmark_tables import benchmark_summary, preset_summary
from efficientvla_ros.cli.options import (
    DdimSteps,
    Device,
    Dtype,
    Guidance,
    Threads,
    Tokenizer,
    UnnormKey,
)
from efficientvla_ros.types import InputError

if TYPE_CHECKING:
    from efficientvla_ros.evaluation.turns import Turn

SCHEMA = 'efficientvla_ros/benchmark/1'
SCHEMA_PRESETS = 'efficientvla_ros/benchmark_presets/1'

_IMAGES = 'random', 'simulated'


def command(
    model: Annotated[
        str,
        typer.Option(help='Embedded model, checkpoint folder or file, or a name to be random.'),
    ] = 'tabletop-small',
    device: Device = 'cpu',
    dtype: Dtype = 'auto',
    tokenizer: Tokenizer = None,
    unnorm_key: UnnormKey = None,
    threads: Threads = 1,
    runs: Annotated[int, typer.Option(min=1, help='Timed inferences.')] = 200,
    warm_up_runs: Annotated[
        int, typer.Option(min=0, help='Inferences before them that do not count.')
    ] = 10,
    image_height: Annotated[int, typer.Option(min=1, help='Camera image, pixels.')] = 480,
    image_width: Annotated[int, typer.Option(min=1, help='Camera image, pixels.')] = 640,
    instruction: Annotated[str, typer.Option(help='Instruction.')] = 'pick the red can',
    ddim_steps: DdimSteps = None,
    guidance: Guidance = None,
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
    presets: Annotated[
        str | None,
        typer.Option(
            help='Acceleration presets, separated by commas; they take turns in one run, dense '
            'always among them.'
        ),
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option(
            help='Calibration profile; the one beside the weights if not given. Random weights '
            'are measured with one of random images.'
        ),
    ] = None,
    images: Annotated[
        str | None,
        typer.Option(
            help='With --presets: random, or simulated for those of episodes on the table top. '
            'Simulated if a preset adapts channels to what it sees, else random.'
        ),
    ] = None,
    gap: Annotated[
        bool,
        typer.Option(
            help='With --presets: let channel updates end before the next inference, as in the '
            'time until the next image; without, inferences run back to back.'
        ),
    ] = True,
    timeline: Annotated[
        Path | None,
        typer.Option(
            help='With --presets: write when which stage and channel update ran, as a Chrome '
            'trace (JSON).'
        ),
    ] = None,
    slots: Annotated[
        bool,
        typer.Option(
            help='Also measure what changing some of the channels held costs, against filling '
            'all slots anew.'
        ),
    ] = False,
    json_file: Annotated[
        Path | None, typer.Option('--json', help='Write the report here.')
    ] = None,
) -> None:
    """Measure the latency of every stage of the policy (p50, p95 and p99) and its memory."""
    from rich.console import Console
    from rich.progress import Progress

    from efficientvla_ros.evaluation.benchmark import check_baseline, run_benchmark
    from efficientvla_ros.evaluation.preset_benchmark import benchmark_presets, give_profile
    from efficientvla_ros.evaluation.presets import parse_presets
    from efficientvla_ros.evaluation.provenance import provenance
    from efficientvla_ros.evaluation.report import write_json
    from efficientvla_ros.evaluation.slot_benchmark import measure_slots
    from efficientvla_ros.runtime.engine import load_engine
    from efficientvla_ros.runtime.timeline import Timeline

    check_baseline(baseline)
    names = None if presets is None else parse_presets(presets)
    if timeline is not None and names is None:
        raise InputError('--timeline needs --presets')
    images = _kind_of_images(images, names)
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
            profile=profile,
            progress=lambda done, total: bar.update(loading, completed=done, total=total),
        )
        load_seconds = time.perf_counter() - start
        prompt_tokens = engine.prompt_length(instruction)
        bar.remove_task(loading)
        source = None if names is None else give_profile(engine, instruction)
        line = bar.add_task('inferences', total=runs)
        shape = image_height, image_width
        options = {
            'warm_up_runs': warm_up_runs,
            'baseline': baseline,
            'progress': lambda done: bar.update(line, completed=done),
        }
        if names is None:
            options |= {'image_shape': shape, 'runs': runs}
            measured = run_benchmark(engine, instruction, **options)
        else:
            options |= {'turns': _turns(images, names, shape, runs), 'gap': gap}
            if timeline is not None:
                engine.timeline = Timeline()
            measured = benchmark_presets(engine, names, instruction, **options)
    if slots:
        measured['slots'] = measure_slots(engine)
    show = benchmark_summary if names is None else preset_summary
    typer.echo(show(measured, load_seconds))
    if timeline is not None:
        engine.timeline.save(timeline)
        typer.echo(f'timeline: {timeline}')
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
        if names is not None:
            settings |= {
                'presets': list(names),
                'profile': source,
                'images': images,
                'gap': gap,
            }
        schema = SCHEMA if names is None else SCHEMA_PRESETS
        report = {'schema': schema, **provenance(device), 'settings': settings}
        write_json(json_file, {**report, 'load_s': load_seconds, **measured})
        typer.echo(f'report: {json_file}')


def _kind_of_images(wanted: str | None, names: Sequence[str] | None) -> str:
    """Returns `random` or `simulated`; raises InputError for anything else."""
    from efficientvla_ros.evaluation.presets import adapts_channels

    if wanted is not None:
        if names is None:
            raise InputError('--images needs --presets')
        if wanted not in _IMAGES:
            raise InputError(f'images {wanted!r} are unknown, expected {" or ".join(_IMAGES)}')
        return wanted
    return 'simulated' if any(map(adapts_channels, names or ())) else 'random'


def _turns(images: str, names: Sequence[str], shape: tuple[int, int], runs: int) -> list[Turn]:
    from efficientvla_ros.evaluation import turns
    from efficientvla_ros.evaluation.presets import adapts_channels

    if images == 'simulated':
        return turns.simulated_turns(shape, runs)
    adapts = any(map(adapts_channels, names))
    return turns.random_turns(shape, runs, turns.EPISODE_TURN if adapts else turns.TURN)
