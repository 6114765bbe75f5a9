"""Presets side by side in a demo: what a plan takes under each, and how often it succeeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from efficientvla_ros.evaluation.statistics import wilson_interval


@dataclass(frozen=True)
class PresetFigures:
    """What one preset has shown so far.

    Attributes:
        name: the preset.
        episodes: finished episodes.
        successes: how many of them succeeded.
        plan_p50: median time of one plan, s; NaN while unknown.
    """

    name: str
    episodes: int = 0
    successes: int = 0
    plan_p50: float = math.nan

    @property
    def plan_time(self) -> str:
        """E.g. '46 ms', '- ms' while unknown."""
        return f'{self.plan_p50 * 1e3:.0f} ms' if math.isfinite(self.plan_p50) else '- ms'

    @property
    def short(self) -> str:
        """E.g. 'dense 46 ms 5/6'."""
        return f'{self.name} {self.plan_time} {self.successes}/{self.episodes}'

    def as_dict(self) -> dict:
        """The figures as JSON-ready data; None for a time that is not known."""
        known = math.isfinite(self.plan_p50)
        return {
            'episodes': self.episodes,
            'successes': self.successes,
            'success_interval_95': list(wilson_interval(self.successes, self.episodes)),
            'plan_ms_p50': self.plan_p50 * 1e3 if known else None,
        }


def speed_up(presets: Sequence[PresetFigures]) -> str:
    """How much faster the second of two presets is, e.g. '2.4x'; '' while that is not known."""
    if len(presets) != 2:
        return ''
    first, second = (preset.plan_p50 for preset in presets)
    if not (math.isfinite(first) and math.isfinite(second) and second > 0.0):
        return ''
    return f'{first / second:.1f}x'


class PlanTimes:
    """Median time of one plan by preset, from the medians that the policy node reports.

    The node's windows begin anew with every change of preset. What it says last before the next
    change stands for that stretch, and the stretches of a preset are weighed by their plans.
    """

    def __init__(self) -> None:
        """Starts without a stretch: nothing is taken before `begin`."""
        self._stretches: dict[str, list[tuple[float, int]]] = {}
        self._current = ''
        self._plans_before = 0

    def begin(self, preset: str, plans: int) -> None:
        """Begins a stretch under a preset, '' for a time that counts for none.

        Args:
            preset: the one now in force.
            plans: that the node has made so far.
        """
        self._current, self._plans_before = preset, plans
        if preset:
            self._stretches.setdefault(preset, []).append((0.0, 0))

    def take(self, median: float, plans: int) -> None:
        """Takes a report of the present stretch; the newest one counts.

        Args:
            median: time of one plan in the node's window, s; 0 where there is none yet.
            plans: that the node has made so far.
        """
        if self._current and median > 0.0:
            self._stretches[self._current][-1] = (median, max(1, plans - self._plans_before))

    def median(self, preset: str) -> float:
        """Median time of one plan under a preset, s; NaN while unknown."""
        reports = sorted(report for report in self._stretches.get(preset, ()) if report[1])
        half, seen = sum(plans for _, plans in reports) / 2, 0
        for seconds, plans in reports:
            seen += plans
            if seen >= half:
                return seconds
        return math.nan
