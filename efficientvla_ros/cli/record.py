"""`efficientvla record`: demonstrations of the scripted expert."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    out: Annotated[Path, typer.Option(help='Folder for the shards; resumed when it has some.')],
    task: Annotated[str, typer.Option(help='Task to demonstrate.')] = 'pick',
    episodes: Annotated[int, typer.Option(help='Episodes to try; successes are kept.')] = 3000,
    seed: Annotated[int, typer.Option(help='Seed of the first episode.')] = 0,
    workers: Annotated[int, typer.Option(help='Processes that record in parallel.')] = 2,
    image_size: Annotated[int, typer.Option(help='Side of the square images, pixels.')] = 224,
    policy: Annotated[
        str,
        typer.Option(help="Let this model act in part; the labels stay the expert's (DAgger)."),
    ] = '',
    scattered: Annotated[
        bool, typer.Option('--scattered', help='Three frames an episode, from random poses.')
    ] = False,
) -> None:
    """Record demonstrations of the scripted expert in the simulator."""
    from functools import partial

    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn, TimeRemainingColumn

    from efficientvla_ros.evaluation.policy_actor import make_actor
    from efficientvla_ros.simulation.recording import RecordingSettings, record

    settings = RecordingSettings(task, episodes, seed, image_size, policy, scattered)
    actor = partial(make_actor, policy) if policy else None
    console = Console()
    columns = (
        *Progress.get_default_columns()[:2],
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        line = bar.add_task('episodes', total=episodes)
        summary = record(
            settings, out, workers, lambda done: bar.update(line, completed=done), actor
        )
    console.print(
        f'{summary.kept} of {summary.tried} episodes kept, {summary.frames} frames in {out}',
        markup=False,
    )
