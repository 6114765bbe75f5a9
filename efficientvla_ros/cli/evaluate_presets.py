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
) -> None:
    """Runs what is missing, shows the table, and writes report and picture where asked for.

    Raises:
        InputError: a preset is unknown, or the model has none.
    """
    from efficientvla_ros.evaluation.preset_report import build_preset_report
    from efficientvla_ros.evaluation.preset_tables import plan_notes, preset_table
    from efficientvla_ros.evaluation.progress_file import ProgressFile
    from efficientvla_ros.evaluation.report import write_json

    names = parse_presets(presets)
    if settings.model == EXPERT:
        raise InputError('the scripted expert is no network, so it has no presets')
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
    report = build_preset_report(
        settings, {name: list(part.values()) for name, part in rows.items()}
    )
    typer.echo(preset_table(report))
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
