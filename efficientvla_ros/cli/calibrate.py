"""`efficientvla calibrate`: measures what the pruning of a model needs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from efficientvla_ros.acceleration.config import SCORING_LAYER
from efficientvla_ros.cli.options import Device, Dtype, Threads, Tokenizer, UnnormKey
from efficientvla_ros.types import InputError

if TYPE_CHECKING:
    from efficientvla_ros.evaluation.calibration_frames import Frame
    from efficientvla_ros.models.config import VLMConfig
    from efficientvla_ros.runtime.engine import Engine

SIMULATOR = 'simulator'


def command(
    out: Annotated[Path, typer.Option(help='File for the profile.')],
    data: Annotated[
        str,
        typer.Option(
            help='Folder made by `efficientvla record`, rosbag2 folder, or "simulator": the '
            'model acts in simulated episodes.'
        ),
    ],
    model: Annotated[
        str, typer.Option(help='Embedded model, checkpoint folder or file, or a name.')
    ] = 'tabletop-small',
    frames: Annotated[int, typer.Option(min=1, help='Frames to measure on.')] = 128,
    task: Annotated[
        str | None,
        typer.Option(
            help='Of simulated episodes; "all" takes an equal part of each. [default: pick]'
        ),
    ] = None,
    greedy: Annotated[
        bool,
        typer.Option(
            '--greedy', help='Also measure which layers go if importance is taken anew each time.'
        ),
    ] = False,
    keep: Annotated[
        list[int] | None,
        typer.Option(
            help='Layers to keep, for the report; can be given more than once. The published '
            'fractions if not given.'
        ),
    ] = None,
    scoring_layer: Annotated[
        int, typer.Option(help='Layer that scores tokens; it and those before it stay.')
    ] = SCORING_LAYER,
    image_topic: Annotated[
        str | None, typer.Option(help='Of a rosbag2 recording; the only one if not given.')
    ] = None,
    instruction_topic: Annotated[
        str | None, typer.Option(help='Of a rosbag2 recording; the only one if not given.')
    ] = None,
    instruction: Annotated[
        str | None, typer.Option(help='For all frames of a rosbag2 recording.')
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help='Of the resampling.')] = 0,
    device: Device = 'cpu',
    dtype: Dtype = 'auto',
    threads: Threads = 1,
    tokenizer: Tokenizer = None,
    unnorm_key: UnnormKey = None,
    random_weights: Annotated[
        bool, typer.Option('--random-weights', help='Any known model name, without files.')
    ] = False,
    json_file: Annotated[
        Path | None, typer.Option('--json', help='Write the report here.')
    ] = None,
    plot: Annotated[Path | None, typer.Option(help='Write a picture here (PNG, SVG).')] = None,
) -> None:
    """Measure layer importance, MLP and attention channels of a model, and write its profile."""
    _check_options(data, scoring_layer, out)
    tasks = _tasks(data, task)
    from rich.console import Console
    from rich.progress import Progress

    from efficientvla_ros.acceleration.calibration import CalibrationSample, calibrate
    from efficientvla_ros.acceleration.layer_pruning import (
        PruningError,
        check_keep,
        protected_layers,
    )
    from efficientvla_ros.acceleration.profile import ProfileError, save_profile
    from efficientvla_ros.cli.calibrate_tables import print_report
    from efficientvla_ros.evaluation.calibration_report import calibration_report, plot_report
    from efficientvla_ros.evaluation.provenance import provenance
    from efficientvla_ros.evaluation.report import write_json
    from efficientvla_ros.runtime.engine import load_engine

    with Progress(console=Console(stderr=True), transient=True) as bar:
        line = bar.add_task('loading', total=None)
        engine = load_engine(
            model,
            device=device,
            dtype=dtype,
            threads=threads,
            tokenizer=tokenizer,
            unnorm_key=unnorm_key,
            random_weights=random_weights,
            progress=lambda done, total: bar.update(line, completed=done, total=total),
        )
        try:
            protected = protected_layers(engine.config.llm.layers, scoring_layer)
            counts = keep or _published_counts(engine.config, len(protected))
            for count in counts:
                check_keep(engine.config.llm.layers, count, protected)
            bar.update(line, description='frames', completed=0, total=frames)
            topics = {
                'image_topic': image_topic,
                'instruction_topic': instruction_topic,
                'instruction': instruction,
            }
            found = _frames(
                data, engine, frames, tasks, topics, lambda done: bar.update(line, completed=done)
            )
            samples = [
                CalibrationSample(frame.image, engine.prompt_ids(frame.instruction), frame.episode)
                for frame in found
            ]
            bar.update(line, description='calibration', completed=0, total=None)
            profile = calibrate(
                engine.model,
                samples,
                source=data if data == SIMULATOR else Path(data).name,
                greedy_protected=protected if greedy else None,
                progress=lambda done, total: bar.update(line, completed=done, total=total),
            )
        except (PruningError, ProfileError) as error:
            raise InputError(str(error)) from error
    report = calibration_report(profile, scoring_layer=scoring_layer, keep=counts, seed=seed)
    save_profile(profile, out)
    print_report(report, frames)
    typer.echo(f'profile: {out}')
    if json_file is not None:
        settings = {'model': model, 'data': data, 'device': device, 'frames': frames, 'seed': seed}
        write_json(json_file, {**report, **provenance(device), 'settings': settings})
        typer.echo(f'report: {json_file}')
    if plot is not None:
        plot_report(report, plot)
        typer.echo(f'plot: {plot}')


def _check_options(data: str, scoring_layer: int, out: Path) -> None:
    """Refuses what cannot work before a large model is loaded."""
    if scoring_layer < 0:
        raise InputError(f'--scoring-layer is {scoring_layer}, expected 0 or more')
    from efficientvla_ros.simulation.dataset_card import recording_folders

    folder = Path(data)
    described = any((folder / name).is_file() for name in ('recording.json', 'metadata.yaml'))
    if data != SIMULATOR and not described and not recording_folders(folder):
        raise InputError(
            f'--data {data!r} is not a recording, expected "{SIMULATOR}", a folder made by '
            '`efficientvla record` or a rosbag2 folder with metadata.yaml'
        )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        is_writable = not out.is_dir() and os.access(out.parent, os.W_OK)
    except OSError:
        is_writable = False
    if not is_writable:
        raise InputError(f'--out {out} cannot be written, expected the path of a file')


def _tasks(data: str, task: str | None) -> tuple[str, ...]:
    from efficientvla_ros.simulation.goals import ALL_TASKS, PICK, TASKS

    if task is not None and data != SIMULATOR:
        raise InputError(f'--task is for --data {SIMULATOR}, but --data is {data!r}')
    if task not in (None, ALL_TASKS, *TASKS):
        raise InputError(f'--task is {task!r}, expected one of: {", ".join((*TASKS, ALL_TASKS))}')
    return TASKS if task == ALL_TASKS else (task or PICK,)


def _published_counts(config: VLMConfig, least: int) -> list[int]:
    """Layers that the published presets keep of a model, where they are `least` or more."""
    from efficientvla_ros.acceleration.presets import preset

    found = {preset(name, config).layers for name in ('efficientvla', 'efficientvla_light')}
    return sorted(count for count in found if count >= least)


def _frames(
    data: str,
    engine: Engine,
    count: int,
    tasks: tuple[str, ...],
    topics: dict[str, Any],
    progress: Any,
) -> list[Frame]:
    from efficientvla_ros.cli.rosbag_frames import rosbag_frames
    from efficientvla_ros.evaluation import calibration_frames

    folder = Path(data)
    if (folder / 'metadata.yaml').is_file():
        return rosbag_frames(folder, count, **topics)
    for option, value in topics.items():
        if value is not None:
            name = option.replace('_', '-')
            raise InputError(f'--{name} is for a rosbag2 recording, but --data is {data!r}')
    if data == SIMULATOR:
        return calibration_frames.simulator_frames(engine, count, tasks=tasks, progress=progress)
    return calibration_frames.recorded_frames(folder, count)
