"""A latency budget: the mildest plan whose 95th percentile fits, checked again all the time."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping

import numpy as np

from efficientvla_ros.types import InputError

LADDER = ('dense', 'efficientvla_light', 'combined', 'efficientvla')
"""Presets that a budget chooses from, the mildest first."""

_QUANTILE = 0.95
_ROOM = 0.9
_LONGEST_WAIT = 16


def percentile(seconds: list[float] | deque[float]) -> float:
    """The 95th percentile of durations, interpolated."""
    return float(np.quantile(np.asarray(seconds), _QUANTILE))


def check_budget(milliseconds: float) -> float:
    """Returns a budget in seconds.

    Raises:
        InputError: it is not a finite number above 0.
    """
    if not (math.isfinite(milliseconds) and milliseconds > 0.0):
        raise InputError(
            f'latency budget is {milliseconds!r} ms, expected a finite number above 0'
        )
    return milliseconds / 1e3


class LatencyBudget:
    """Chooses among plans by their measured times and those of the ticks that run.

    A machine that is slower than when the plans were measured is taken to be slower by the same
    factor for all of them. A plan is left at once when the 95th percentile of its latest ticks
    is over the budget; a milder one is taken again when it would have fitted with a tenth to
    spare during a whole window of ticks. If that does not hold, the next time has to last twice
    as long, up to 16 times.

    Attributes:
        seconds: the budget.
        choice: name of the plan in force.
    """

    def __init__(
        self, seconds: float, measured: Mapping[str, float], window: int = 40, least: int = 10
    ) -> None:
        """Chooses by the times that were measured.

        Args:
            seconds: the budget.
            measured: name of each plan and its 95th percentile, seconds; the mildest first.
            window: latest ticks that are looked at.
            least: ticks of a plan before it is judged.
        """
        self.seconds, self._measured = seconds, dict(measured)
        self._names = list(self._measured)
        self._ticks: deque[float] = deque(maxlen=window)
        self._least = least
        self._wait, self._fits_for, self._climbed = 1, 0, False
        self.choice = self._mildest(0, 1.0, seconds)

    @property
    def fits(self) -> bool:
        """Whether the plan in force kept the budget so far."""
        expected = self._measured[self.choice]
        seen = percentile(self._ticks) if len(self._ticks) >= self._least else expected
        return seen <= self.seconds

    def observe(self, seconds: float) -> str:
        """Takes the duration of a tick of the plan in force.

        Returns:
            One line if another plan is to be taken, which is `choice` then; else empty.
        """
        self._ticks.append(seconds)
        if len(self._ticks) < self._least:
            return ''
        now, place = percentile(self._ticks), self._names.index(self.choice)
        slowness = now / self._measured[self.choice]
        if now > self.seconds:
            stronger = self._mildest(place + 1, slowness, self.seconds)
            if self._measured[stronger] >= self._measured[self.choice]:
                return ''
            if self._climbed:
                self._wait = min(_LONGEST_WAIT, 2 * self._wait)
            return self._take(stronger, now, 'over', climbed=False)
        milder = self._mildest(0, slowness, _ROOM * self.seconds)
        if self._names.index(milder) >= place:
            self._fits_for = 0
            return ''
        self._fits_for += 1
        if self._fits_for < self._wait * self._ticks.maxlen:
            return ''
        return self._take(milder, now, 'well within', climbed=True)

    def _take(self, name: str, now: float, how: str, climbed: bool) -> str:
        before, self.choice = self.choice, name
        self._ticks.clear()
        self._fits_for, self._climbed = 0, climbed
        return (
            f'latency budget: {now * 1e3:.1f} ms with {before} is {how} '
            f'{self.seconds * 1e3:g} ms, {name} from now on'
        )

    def _mildest(self, first: int, slowness: float, limit: float) -> str:
        # The mildest from `first` on that fits; the fastest of all if none does.
        for name in self._names[first:]:
            if self._measured[name] * slowness <= limit:
                return name
        return min(self._names, key=self._measured.__getitem__)
