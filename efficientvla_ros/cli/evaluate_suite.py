"""`efficientvla evaluate --task all --presets`: the whole benchmark of one policy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import typer

from efficientvla_ros.cli.evaluate_presets import deviations_of
from efficientvla_ros.cli.preset_episodes import PresetEpisodes
from efficientvla_ros.evaluation.presets import parse_presets
from efficientvla_ros.evaluation.settings import EXPERT, EvaluationSettings
from efficientvla_ros.types import InputError

ALL = 'all'
"""Name that stands for every task, or every setting."""


def evaluate_suite(
    settings: EvaluationSettings,
    presets: str,
    workers: int,
    json_file: Path | None,
    plot: Path | None = None,
    deviation_episodes: int = 0,
    compare_with: Path | None = None,
) -> None:
    """Runs what is missing of all tasks, shows a table a setting, and writes the report.

    Args:
        settings: of every episode; task and setting may be `ALL`.
        presets: names, separated by commas.
        workers: processes.
        json_file: report to write.
        plot: picture of success over speed-up to write; of several settings one each, with its
            name in the file's.
        deviation_episodes: episodes of dense in each task on whose images the presets' actions
            are compared.
        compare_with: report of which the same episodes are to end likewise.

    Raises:
        InputError: a preset is unknown, the model has none, or the other report does not fit.
    """
    from efficientvla_ros.evaluation.preset_tables import plan_notes
    from efficientvla_ros.evaluation.suite import (
        build_suite_report,
        compare_suites,
        read_suite_report,
        suite_tables,
    )

    names = parse_presets(presets)
    if settings.model == EXPERT:
        raise InputError('the scripted expert is no network, so it has no presets')
    other = None if compare_with is None else read_suite_report(compare_with)
    cells = cells_of(settings)
    episodes = PresetEpisodes(cells, names, json_file)
    episodes.run(workers)
    count = min(deviation_episodes, settings.episodes)
    deviations = {cell: deviations_of(cell, names, count, workers) for cell in cells if count}
    rows = {
        cell: {name: list(part.values()) for name, part in found.items()}
        for cell, found in episodes.rows.items()
    }
    report = build_suite_report(rows, deviations)
    typer.echo(suite_tables(report))
    for line in plan_notes({'presets': next(iter(report['overall'].values()))}):
        typer.echo(line, err=True)
    episodes.conclude(report)
    if plot is not None:
        _draw(report, plot)
    if other is not None:
        common, alike = compare_suites(report, other)
        typer.echo(f'{alike} of {common} episodes ended as in {compare_with}')


def _draw(report: dict[str, Any], plot: Path) -> None:
    from efficientvla_ros.evaluation.preset_plot import plot_presets

    overall = report['overall']
    for setting, presets in overall.items():
        picture = plot if len(overall) == 1 else plot.with_stem(f'{plot.stem}_{setting}')
        plot_presets({'settings': report['settings'], 'presets': presets}, picture)
        typer.echo(f'picture: {picture}')


def cells_of(settings: EvaluationSettings) -> list[EvaluationSettings]:
    """Returns the settings of every task and setting that are meant."""
    from efficientvla_ros.simulation.tasks import SETTINGS, TASKS

    looks = SETTINGS if settings.setting == ALL else (settings.setting,)
    tasks = TASKS if settings.task == ALL else (settings.task,)
    return [replace(settings, task=task, setting=look) for look in looks for task in tasks]
