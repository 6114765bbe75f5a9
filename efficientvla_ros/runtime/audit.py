"""The audit of pruned ticks: how far their actions are from dense ones, and what follows."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from efficientvla_ros.models.statistics import ActionStatistics
from efficientvla_ros.types import InputError


@dataclass(frozen=True)
class AuditSettings:
    """What is audited and what is tolerated.

    Attributes:
        enabled: whether pruned and dense actions are compared at ticks that update channels.
        max_deviation: tolerated deviation of the worst dimension as a share of the range of its
            actions (see `relative_deviation`); 0 tolerates any.
        patience: audits in a row that must pass it before less is left out.
        recovery: audits in a row that must stay below half of it before more is left out again.
    """

    enabled: bool = True
    max_deviation: float = 0.0
    patience: int = 2
    recovery: int = 5

    def __post_init__(self) -> None:
        """Refuses values that cannot be used.

        Raises:
            InputError: quotes the value.
        """
        if not (math.isfinite(self.max_deviation) and self.max_deviation >= 0.0):
            raise InputError(
                f'audit max_deviation is {self.max_deviation!r}, expected a finite number from 0'
            )
        for name in ('patience', 'recovery'):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InputError(f'audit {name} is {value!r}, expected a whole number from 1')


def action_deviation(actions: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Mean absolute difference of two chunks [horizon, dimension] by dimension.

    In the unit of each action dimension: metres, radians, and for a gripper that is open or
    closed the share of steps in which the two disagree.
    """
    return np.abs(actions - reference).mean(axis=0)


def relative_deviation(deviation: np.ndarray, statistics: ActionStatistics) -> float:
    """The worst dimension's deviation as a share of the range from its 1 % to its 99 % quantile.

    A gripper's range is 1. Infinite where a deviation is not finite.
    """
    span = np.where(statistics.mask, statistics.q99 - statistics.q01, 1.0)
    share = deviation / np.where(span > 0.0, span, 1.0)
    return float(share.max()) if np.isfinite(share).all() else math.inf


_LONGEST_WAIT = 16


class RatioLadder:
    """Leaves out less while audits are bad, more again once they are good: with hysteresis.

    The steps are the ratio asked for, half of it, and nothing (dense). At dense the deviation of
    the half ratio is still audited, which is what recovery is judged by. A recovery that does
    not hold makes the next one wait for twice as many audits, up to 16 times.

    Attributes:
        level: present step, 0 is the ratio asked for.
    """

    def __init__(self, ratio: float, settings: AuditSettings) -> None:
        """Starts at the ratio asked for."""
        self._ratios = (ratio, ratio / 2.0, 0.0)
        self.settings = settings
        self.level = 0
        self._bad = self._good = 0
        self._wait, self._held, self._climbed = 1, 0, False

    @property
    def ratio(self) -> float:
        """Share of the channels that ticks leave out; 0 is dense."""
        return self._ratios[self.level]

    @property
    def audited_ratio(self) -> float:
        """The ratio whose pattern is kept up to date and audited; at dense the mildest one."""
        return self._ratios[min(self.level, 1)]

    def observe(self, deviation: float) -> str:
        """Takes an audit's `relative_deviation`.

        Returns:
            One line that says the step that was taken; empty for none.
        """
        limit = self.settings.max_deviation
        if limit <= 0.0:
            return self._go_to(0, 'audit tolerates any deviation') if self.level else ''
        self._bad = self._bad + 1 if deviation > limit else 0
        self._good = self._good + 1 if deviation < 0.5 * limit else 0
        self._held += 1
        if self._bad >= self.settings.patience and self.level < 2:
            if self._climbed and self._held <= 2 * self.settings.recovery:
                self._wait = min(_LONGEST_WAIT, 2 * self._wait)
            return self._go_to(
                self.level + 1, f'audit: deviation {deviation:.3f} is above {limit:g}'
            )
        if self._good >= self.settings.recovery * self._wait and self.level > 0:
            return self._go_to(
                self.level - 1, f'audit: deviation {deviation:.3f} is below {0.5 * limit:g}'
            )
        return ''

    def _go_to(self, level: int, reason: str) -> str:
        self._climbed = level < self.level
        self.level = level
        self._bad = self._good = self._held = 0
        what = (
            f'{self.ratio:.0%} of the channels are left out' if self.ratio else 'ticks run dense'
        )
        return f'{reason}: {what} from now on'
