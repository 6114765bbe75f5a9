"""`efficientvla record`: demonstrations of the scripted expert, and a look at them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from efficientvla_ros.types import InputError

_FRAMES_PER_SECOND = 5.0


def command(
    picture: Annotated[
        Path | None, typer.Argument(help='With --look: the picture (PNG, JPEG) or video (MP4).')
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help='Folder for the shards; resumed when it has some.')
    ] = None,
    task: Annotated[
        str, typer.Option(help='Task to demonstrate; "all" makes a folder of each in --out.')
    ] = 'pick',
    setting: Annotated[
        str, typer.Option(help='Look and events: matching, variants or dynamic.')
    ] = 'matching',
    episodes: Annotated[
        int, typer.Option(help='Episodes of a task to try; successes are kept.')
    ] = 3000,
    seed: Annotated[int, typer.Option(help='Seed of the first episode.')] = 0,
    workers: Annotated[int, typer.Option(help='Processes that record in parallel.')] = 2,
    image_size: Annotated[int, typer.Option(help='Side of the square images, pixels.')] = 224,
    policy: Annotated[
        str,
        typer.Option(help="Let this model act in part; the labels stay the expert's (DAgger)."),
    ] = '',
    preset: Annotated[
        str, typer.Option(help='With --policy: the acceleration preset that it acts by.')
    ] = 'dense',
    scattered: Annotated[
        bool, typer.Option('--scattered', help='Three frames an episode, from random poses.')
    ] = False,
    look: Annotated[
        Path | None,
        typer.Option(help='Show episodes of this recording in a contact sheet or video instead.'),
    ] = None,
) -> None:
    """Record demonstrations of the scripted expert in the simulator, or look at some."""
    if look is not None:
        if picture is None:
            raise InputError('--look needs a file to write to, as in `--look FOLDER sheet.png`')
        _look(look, picture)
        return
    if out is None or picture is not None:
        raise InputError('expected --out FOLDER to record, or --look FOLDER PICTURE to look')
    _record(out, task, setting, episodes, seed, workers, image_size, policy, preset, scattered)


def _record(
    out: Path,
    task: str,
    setting: str,
    episodes: int,
    seed: int,
    workers: int,
    image_size: int,
    policy: str,
    preset: str,
    scattered: bool,
) -> None:
    from functools import partial

    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn, TimeRemainingColumn

    from efficientvla_ros.evaluation.policy_actor import make_actor
    from efficientvla_ros.evaluation.presets import DENSE, check_preset
    from efficientvla_ros.simulation.recorder import record, record_all
    from efficientvla_ros.simulation.recording import RecordingSettings

    # Rendering in several threads of several processes is slower than in one of each.
    os.environ.setdefault('LP_NUM_THREADS', '1')
    every = task == 'all'
    check_preset(preset)
    if preset != DENSE and not policy:
        raise InputError(f'--preset {preset} needs a --policy that acts by it')
    acts = policy if preset == DENSE else f'{policy}, {preset}'
    settings = RecordingSettings(
        'pick' if every else task, episodes, seed, image_size, acts, scattered, setting
    )
    actor = partial(make_actor, policy, preset) if policy else None
    console = Console()
    columns = (
        *Progress.get_default_columns()[:2],
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        lines: dict[str, int] = {}

        def show(name: str, done: int) -> None:
            if name not in lines:
                lines[name] = bar.add_task(name, total=episodes)
            bar.update(lines[name], completed=done)

        if every:
            summary = record_all(settings, out, workers, show, actor)
        else:
            summary = record(settings, out, workers, partial(show, 'episodes'), actor)
    console.print(
        f'{summary.kept} of {summary.tried} episodes kept, {summary.frames} frames in {out}',
        markup=False,
    )


def _look(folder: Path, picture: Path) -> None:
    from efficientvla_ros.simulation.recording_look import contact_sheet, episodes_of

    if picture.suffix.lower() == '.mp4':
        from efficientvla_ros.evaluation.video import Caption, VideoWriter

        video = VideoWriter(picture, _FRAMES_PER_SECOND)
        try:
            stamp_ns = 0
            for episode in episodes_of(folder):
                for image, instruction in zip(episode.images, episode.instructions):
                    stamp_ns += round(1e9 / _FRAMES_PER_SECOND)
                    video.add(image, stamp_ns, Caption(instruction, episode.caption))
        finally:
            video.close()
    else:
        import cv2

        if picture.suffix.lower() not in ('.png', '.jpg', '.jpeg'):
            raise InputError(f'{picture} is no picture or video, expected .png, .jpg or .mp4')
        if not cv2.imwrite(str(picture), contact_sheet(folder)[..., ::-1]):
            raise InputError(f'{picture} cannot be written')
    typer.echo(f'{picture}')
