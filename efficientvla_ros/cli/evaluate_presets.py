"""`efficientvla evaluate --presets`: several plans of one policy on the same seeds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import typer

from efficientvla_ros.evaluation.presets import parse_presets
from efficientvla_ros.evaluation.settings import EXPERT, EvaluationSettings
from efficientvla_ros.types import InputError


def evaluate_presets(
    settings: EvaluationSettings,
    presets: str,
    workers: int,
    json_file: Path | None,
    plot: Path | None,
    deviation_episodes: int = 0,
    channel_plot: Path | None = None,
) -> None:
    """Runs what is missing, shows the tables, and writes report and pictures where asked for.

    Args:
        settings: of every episode.
        presets: names, separated by commas.
        workers: processes.
        json_file: report to write.
        plot: picture of success over speed-up to write.
        deviation_episodes: episodes of dense on whose images the presets' actions are compared.
        channel_plot: picture of one episode of the first preset that adapts channels, beside
            which its data are written as JSON.

    Raises:
        InputError: a preset is unknown, the model has none, or none adapts channels for the
            picture.
    """
    from efficientvla_ros.evaluation.channel_tables import channel_table
    from efficientvla_ros.evaluation.preset_report import build_preset_report
    from efficientvla_ros.evaluation.preset_tables import plan_notes, preset_table
    from efficientvla_ros.evaluation.progress_file import ProgressFile
    from efficientvla_ros.evaluation.report import write_json

    names = parse_presets(presets)
    if settings.model == EXPERT:
        raise InputError('the scripted expert is no network, so it has no presets')
    adaptive = None if channel_plot is None else _first_adaptive(names)
    files = {} if json_file is None else {
        name: ProgressFile(json_file, settings, name) for name in names
    }  # fmt: skip
    rows = {
        name: {s: row for s, row in files[name].rows.items() if s in settings.seeds}
        if files
        else {}
        for name in names
    }
    # Seed by seed: all presets meet the same load of the machine.
    missing = [(name, seed) for seed in settings.seeds for name in names if seed not in rows[name]]
    try:
        for name, row in _with_bar(settings, rows, missing, workers):
            rows[name][row['seed']] = row
            if files:
                files[name].add(row)
    except KeyboardInterrupt:
        done = sum(map(len, rows.values()))
        hint = ', the same command goes on from here' if files else ''
        typer.echo(
            f'interrupted after {done} of {settings.episodes * len(names)} episodes{hint}',
            err=True,
        )
        raise typer.Exit(130) from None
    deviations = _deviations(settings, names, min(deviation_episodes, settings.episodes), workers)
    report = build_preset_report(
        settings, {name: list(part.values()) for name, part in rows.items()}, deviations
    )
    typer.echo(preset_table(report))
    channels = channel_table(report)
    if channels:
        typer.echo(channels)
    for line in plan_notes(report):
        typer.echo(line, err=True)
    if json_file is not None:
        write_json(json_file, report)
        for file in files.values():
            file.remove()
        typer.echo(f'report: {json_file}')
    if plot is not None:
        from efficientvla_ros.evaluation.preset_plot import plot_presets

        plot_presets(report, plot)
        typer.echo(f'picture: {plot}')
    if channel_plot is not None:
        _draw_episode(settings, adaptive, channel_plot)


def _first_adaptive(names: Sequence[str]) -> str:
    from efficientvla_ros.evaluation.presets import adapts_channels

    found = next((name for name in names if adapts_channels(name)), None)
    if found is None:
        raise InputError('--channel-plot needs a preset that adapts channels, such as ecovla_25')
    return found


def _deviations(
    settings: EvaluationSettings, names: Sequence[str], count: int, workers: int
) -> list[dict]:
    from rich.console import Console
    from rich.progress import track

    from efficientvla_ros.evaluation.workers import run_deviations

    if count == 0:
        return []
    found = run_deviations(settings, names, settings.seeds[:count], workers)
    console = Console(stderr=True)
    return list(track(found, 'deviation', total=count, console=console, transient=True))


def _draw_episode(settings: EvaluationSettings, preset: str, picture: Path) -> None:
    from efficientvla_ros.evaluation.channel_trace import plot_trace
    from efficientvla_ros.evaluation.report import write_json
    from efficientvla_ros.evaluation.workers import run_trace

    found = run_trace(settings, preset, settings.seed)
    plot_trace(found, picture)
    write_json(picture.with_suffix('.json'), found)
    typer.echo(f'picture: {picture}, data beside it')


def _with_bar(
    settings: EvaluationSettings,
    done: dict[str, dict[int, dict]],
    jobs: Sequence[tuple[str, int]],
    workers: int,
) -> Iterator[tuple[str, dict]]:
    """Yields preset and row of the episodes that are missing; a bar for each preset."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
    )

    from efficientvla_ros.evaluation.workers import run_episodes

    if not jobs:
        return
    columns = (
        TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(),
        TextColumn('success {task.fields[rate]}'), TimeElapsedColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True)) as bar:
        counts, lines = {}, {}
        for name, rows in done.items():
            successes = sum(row['outcome'] == 'success' for row in rows.values())
            counts[name] = [successes, len(rows)]
            lines[name] = bar.add_task(
                name, total=settings.episodes, completed=len(rows), rate=_rate(counts[name])
            )
        for name, row in run_episodes(settings, jobs, workers):
            counts[name][0] += row.success
            counts[name][1] += 1
            bar.update(lines[name], completed=counts[name][1], rate=_rate(counts[name]))
            yield name, row.as_dict()


def _rate(count: list[int]) -> str:
    return f'{count[0]}/{count[1]}'
