"""The part of the demo's report that sets presets side by side: time of a plan, and success."""

from __future__ import annotations

import math
from collections.abc import Sequence

from efficientvla_ros.evaluation.demo_presets import PresetFigures, speed_up
from efficientvla_ros.evaluation.statistics import wilson_interval

ACCENT, GOOD, INK, GREY = '#3b6fd4', '#2f9e5b', '#22262b', '#555c64'


def draw_comparison(times, successes, presets: Sequence[PresetFigures]) -> None:
    """Draws two bars on each of two axes.

    Args:
        times: axes for the time of one plan.
        successes: axes for the share of successes, with its 95 % interval.
        presets: what is compared.
    """
    factor = speed_up(presets)
    faster = f': {presets[1].name} is {factor} as fast' if factor else ''
    _bars(
        times,
        f'median time of one plan [ms]{faster}',
        presets,
        [preset.plan_p50 * 1e3 if math.isfinite(preset.plan_p50) else 0.0 for preset in presets],
        [preset.plan_time for preset in presets],
        ACCENT,
    )
    shares = [100 * preset.successes / max(1, preset.episodes) for preset in presets]
    labels = [f'{preset.successes} of {preset.episodes}' for preset in presets]
    _bars(successes, 'success [%], line: 95 % interval', presets, shares, labels, GOOD)
    for position, preset in enumerate(presets):
        low, high = wilson_interval(preset.successes, preset.episodes)
        successes.hlines(position, 100 * low, 100 * high, color=INK, linewidth=1.4)
    successes.set_xlim(0, 118)
    successes.set_xticks(range(0, 101, 25))


def _bars(axes, title: str, presets, values, labels, color: str) -> None:
    axes.set_title(title, loc='left', fontsize=11, color=INK)
    for side in ('top', 'right'):
        axes.spines[side].set_visible(False)
    axes.tick_params(labelsize=9, colors=GREY)
    axes.barh(range(len(presets)), values, color=color, height=0.6)
    axes.set_yticks(range(len(presets)), [preset.name for preset in presets])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.18 * max(*values, 1e-3))
    for position, label in enumerate(labels):
        # At the right edge: clear of bars and intervals.
        axes.text(
            1.0,
            position,
            label,
            transform=axes.get_yaxis_transform(),
            ha='right',
            va='center',
            fontsize=9,
            color=INK,
        )
