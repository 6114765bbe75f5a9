"""One episode tick by tick: similarity, updates, deviation and what the arm was doing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from efficientvla_ros.evaluation.deviation import deviations, replay
from efficientvla_ros.evaluation.presets import DENSE
from efficientvla_ros.simulation.phases import PHASES

if TYPE_CHECKING:
    from efficientvla_ros.evaluation.closed_loop import EpisodeRow
    from efficientvla_ros.evaluation.watched_policy import Look
    from efficientvla_ros.runtime.engine import Engine

SCHEMA = 'efficientvla_ros/channel_trace/1'

_COLOURS = dict(zip(PHASES, ('tab:blue', 'tab:cyan', 'tab:orange', 'tab:green')))


def trace(engine: Engine, looks: Sequence[Look], row: EpisodeRow, preset: str) -> dict[str, Any]:
    """Returns an episode tick by tick, ready for JSON.

    Each tick's actions are compared with those of the dense plan on the same image, which is run
    here; the engine is left with that plan.

    Args:
        engine: ran it.
        looks: its inferences, with phases.
        row: what happened.
        preset: that it ran by.
    """
    start = looks[0].observation.stamp_ns
    reference, _ = replay(engine, DENSE, [look.observation for look in looks])
    reports = [look.report for look in looks]
    return {
        'schema': SCHEMA,
        'preset': preset,
        'seed': row.seed,
        'instruction': row.instruction,
        'outcome': row.outcome,
        'seconds': [1e-9 * (look.observation.stamp_ns - start) for look in looks],
        'phases': [look.phase for look in looks],
        'similarity': [report.similarity for report in reports],
        'updates': [report.updated for report in reports],
        'reasons': [report.update_reason for report in reports],
        'ratio': [report.channel_ratio for report in reports],
        'age': [report.pattern_age for report in reports],
        **deviations(engine, [look.chunk.actions for look in looks], reference),
    }


def plot_trace(found: dict[str, Any], picture: Path) -> None:
    """Draws a `trace` over time: similarity with updates above, deviation with audits below.

    Args:
        found: the episode.
        picture: file to write (PNG, SVG).
    """
    import matplotlib

    matplotlib.use('Agg')
    import matplotlib.pyplot as plt

    times = found['seconds']
    figure, (upper, lower) = plt.subplots(2, 1, figsize=(8.4, 4.8), sharex=True)
    for axis in (upper, lower):
        _shade(axis, times, found['phases'])
        axis.grid(alpha=0.3)
    values = [float('nan') if value is None else value for value in found['similarity']]
    upper.plot(times, values, marker='.', color='black')
    upper.set_ylabel('similarity to the image before')
    for time, updated, reason in zip(times, found['updates'], found['reasons']):
        if updated:
            upper.axvline(time, color='tab:red', linewidth=1.0)
            lower.axvline(time, color='tab:red', linewidth=1.0)
            upper.annotate(
                reason, (time, 0.02), xycoords=('data', 'axes fraction'), rotation=90,
                fontsize=7, color='tab:red', ha='right', va='bottom',
            )  # fmt: skip
    lower.plot(times, [100.0 * value for value in found['relative']], marker='.', color='black')
    lower.set(xlabel='time, s', ylabel='deviation from dense,\n% of the range of actions')
    lower.set_ylim(bottom=0.0)
    shown = [name for name in PHASES if name in found['phases']]
    patches = [plt.Rectangle((0, 0), 1, 1, color=_COLOURS[name], alpha=0.25) for name in shown]
    line = plt.Line2D([], [], color='tab:red')
    upper.legend([*patches, line], [*shown, 'update'], fontsize=8, ncols=5, loc='lower center',
                 bbox_to_anchor=(0.5, 1.08))  # fmt: skip
    upper.set_title(
        f'{found["preset"]}: "{found["instruction"]}", {found["outcome"]}, seed {found["seed"]}',
        fontsize=9,
    )
    figure.tight_layout()
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, dpi=110)
    plt.close(figure)


def _shade(axis: Any, times: Sequence[float], phases: Sequence[str]) -> None:
    # Each tick's phase lasts until the next tick.
    step = times[-1] - times[-2] if len(times) > 1 else 1.0
    for start, end, name in zip(times, [*times[1:], times[-1] + step], phases):
        if name in _COLOURS:
            axis.axvspan(start, end, color=_COLOURS[name], alpha=0.25, linewidth=0)
