"""`efficientvla evaluate --presets`: several plans of one policy on the same seeds."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import typer

from efficientvla_ros.cli.preset_episodes import PresetEpisodes
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

    names = parse_presets(presets)
    if settings.model == EXPERT:
        raise InputError('the scripted expert is no network, so it has no presets')
    adaptive = None if channel_plot is None else _first_adaptive(names)
    episodes = PresetEpisodes([settings], names, json_file)
    episodes.run(workers)
    rows = episodes.rows[settings]
    deviations = deviations_of(
        settings, names, min(deviation_episodes, settings.episodes), workers
    )
    report = build_preset_report(
        settings, {name: list(part.values()) for name, part in rows.items()}, deviations
    )
    typer.echo(preset_table(report))
    channels = channel_table(report)
    if channels:
        typer.echo(channels)
    for line in plan_notes(report):
        typer.echo(line, err=True)
    episodes.conclude(report)
    if plot is not None:
        from efficientvla_ros.evaluation.preset_plot import plot_presets

        plot_presets(report, plot)
        typer.echo(f'picture: {plot}')
    if channel_plot is not None:
        _draw_episode(settings, adaptive, _longest(rows[adaptive].values()), channel_plot)


def _first_adaptive(names: Sequence[str]) -> str:
    from efficientvla_ros.evaluation.presets import adapts_channels

    found = next((name for name in names if adapts_channels(name)), None)
    if found is None:
        raise InputError('--channel-plot needs a preset that adapts channels, such as ecovla_25')
    return found


def deviations_of(
    settings: EvaluationSettings, names: Sequence[str], count: int, workers: int
) -> list[dict]:
    """Compares presets with dense on its first `count` episodes (`deviation.replay_presets`)."""
    from rich.console import Console
    from rich.progress import track

    from efficientvla_ros.evaluation.workers import run_deviations

    if count == 0:
        return []
    found = run_deviations(settings, names, settings.seeds[:count], workers)
    console = Console(stderr=True)
    return list(track(found, 'deviation', total=count, console=console, transient=True))


def _longest(rows: Collection[dict]) -> int:
    """Seed of the longest episode that succeeded; of all, where none did."""
    succeeded = [row for row in rows if row['outcome'] == 'success']
    return max(succeeded or rows, key=lambda row: row['ticks'])['seed']


def _draw_episode(settings: EvaluationSettings, preset: str, seed: int, picture: Path) -> None:
    from efficientvla_ros.evaluation.channel_trace import plot_trace
    from efficientvla_ros.evaluation.report import write_json
    from efficientvla_ros.evaluation.workers import run_trace

    found = run_trace(settings, preset, seed)
    plot_trace(found, picture)
    write_json(picture.with_suffix('.json'), found)
    typer.echo(f'picture: {picture}, data beside it')
