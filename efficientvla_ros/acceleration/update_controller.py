"""When channels are chosen anew; free of torch.

EcoVLA (arXiv 2602.00780, equations 6 and 7) updates where the similarity s_t to the frame before
falls below the p-quantile of the last T similarities. Here the same holds for the similarity to
the frame of the last update, so that a slow drift is seen; and p may move, so that a given share
of the ticks updates:

    p <- p + gain * (rate - updated),        gain = 0.05, -2 <= p <= 1

Below 0 the threshold lies under the lowest of the T values, by |p| times their range: with few
values even p = 0 fires often, on average once in T + 1 ticks of noise.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from efficientvla_ros.acceleration.config import AccelerationError

_GAIN, _LEAST_LEVEL = 0.05, -2.0


class UpdateReason(Enum):
    """Why a tick updates the pattern."""

    NONE = 'none'
    FIRST = 'first frame'
    INSTRUCTION = 'instruction'
    CHANGE = 'change'
    DRIFT = 'drift'
    AGE = 'age'
    WARM_UP = 'warm-up'
    NOT_FINITE = 'not finite'
    EVERY_FRAME = 'every frame'


_SIMILARITY_REASONS = UpdateReason.CHANGE, UpdateReason.DRIFT


@dataclass(frozen=True)
class UpdateOptions:
    """When to update.

    Attributes:
        rate: share of the ticks that is to update, 0 to 1; 0 leaves the updates that do not
            depend on similarity, 1 updates always. None keeps p at `quantile`, as published.
        quantile: p, 0 to 1; where a rate is held, it starts from here.
        window: similarities that are remembered (T).
        max_age: ticks after an update at which the next one is due whatever the similarity; None
            is never.
        refractory: ticks after an update at which no similarity triggers another one; without
            effect on rates that are above what it permits.
    """

    rate: float | None = 0.15
    quantile: float = 0.05
    window: int = 10
    max_age: int | None = 30
    refractory: int = 1

    def __post_init__(self) -> None:
        """Refuses what cannot be used, with an `AccelerationError` that quotes it."""
        for name in ('rate', 'quantile'):
            value = getattr(self, name)
            if not (name == 'rate' and value is None) and not 0.0 <= value <= 1.0:
                raise AccelerationError(f'update {name} is {value!r}, expected 0 to 1')
        for name, least in (('window', 1), ('max_age', 1), ('refractory', 0)):
            value = getattr(self, name)
            if not (name == 'max_age' and value is None) and value < least:
                raise AccelerationError(
                    f'update {name} is {value!r}, expected a whole number from {least}'
                )


@dataclass(frozen=True)
class Decision:
    """What the controller says of a tick.

    Attributes:
        reason: why it updates; NONE if it does not.
        age: ticks since the last one that did; 0 if this one does.
    """

    reason: UpdateReason
    age: int

    @property
    def update(self) -> bool:
        """Whether the tick updates the pattern."""
        return self.reason is not UpdateReason.NONE


class UpdateController:
    """Decides tick by tick.

    The first tick, and one with another instruction than before, always update. Until the window
    is full, ticks update at the rate by their age, or as published where they are below all that
    the window holds. Where all similarities of the window are equal, p stays as it is: a still
    scene says nothing about how often it changes, and must not end in a burst.
    """

    def __init__(self, options: UpdateOptions) -> None:
        """Starts before the first frame."""
        self._options = options
        self._level = options.quantile
        # To the frame before, to the frame of the last update.
        self._windows = (deque(maxlen=options.window), deque(maxlen=options.window))
        self._age: int | None = None
        rate = options.rate
        waits = rate is None or rate * (1 + options.refractory) <= 1.0
        self._refractory = options.refractory if waits else 0

    @property
    def level(self) -> float:
        """The quantile level p at present."""
        return self._level

    def decide(
        self, previous: float | None, update: float | None, instruction_changed: bool = False
    ) -> Decision:
        """Decides for one tick; to be called at each.

        Args:
            previous: similarity to the frame before; without effect at the first tick.
            update: similarity to the frame of the last update; likewise.
            instruction_changed: whether the instruction is another than at the tick before.
        """
        if self._age is None:
            reason = UpdateReason.FIRST
        else:
            self._age += 1
            values = tuple(math.nan if value is None else value for value in (previous, update))
            reason = UpdateReason.INSTRUCTION if instruction_changed else self._reason(values)
            self._learn(values, reason is not UpdateReason.NONE)
        if reason is not UpdateReason.NONE:
            self._age = 0
        return Decision(reason, self._age)

    def reset(self) -> None:
        """New episode: forgets the similarities; the next tick updates. p stays."""
        self._age = None
        for window in self._windows:
            window.clear()

    def _reason(self, values: tuple[float, float]) -> UpdateReason:
        rate, max_age, age = self._options.rate, self._options.max_age, self._age
        if rate == 1.0:
            return UpdateReason.EVERY_FRAME
        if max_age is not None and age >= max_age:
            return UpdateReason.AGE
        if age <= self._refractory:
            return UpdateReason.NONE
        if not all(map(math.isfinite, values)):
            return UpdateReason.NOT_FINITE
        if rate == 0.0:
            return UpdateReason.NONE
        if rate is not None and not self._full:
            due = age * rate >= 1.0
            return UpdateReason.WARM_UP if due else UpdateReason.NONE
        for value, window, reason in zip(values, self._windows, _SIMILARITY_REASONS):
            if window and value < _threshold(window, self._level if self._full else 0.0):
                return reason
        return UpdateReason.NONE

    def _learn(self, values: tuple[float, float], updated: bool) -> None:
        rate = self._options.rate
        if rate is not None and any(min(w) < max(w) for w in self._windows if w):
            level = self._level + _GAIN * (rate - updated)
            self._level = min(max(level, _LEAST_LEVEL), 1.0)
        for value, window in zip(values, self._windows):
            if math.isfinite(value):
                window.append(value)

    @property
    def _full(self) -> bool:
        return all(len(window) == window.maxlen for window in self._windows)


def _threshold(window: Sequence[float], level: float) -> float:
    ordered = sorted(window)
    low, high = ordered[0], ordered[-1]
    if level <= 0.0:
        return low + level * (high - low)
    place = level * (len(ordered) - 1)
    index = min(int(place), len(ordered) - 2) if len(ordered) > 1 else 0
    after = ordered[min(index + 1, len(ordered) - 1)]
    return ordered[index] + (place - index) * (after - ordered[index])
