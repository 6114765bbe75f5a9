"""When channels are chosen anew: quantile trigger, target rate, ages; free of torch."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from enum import Enum

from efficientvla_ros.acceleration.config import AccelerationError


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


@dataclass(frozen=True)
class UpdateOptions:
    """When to update.

    Attributes:
        rate: share of ticks that update, above 0 up to 1 / (1 + refractory), or 1 for every
            tick. None takes the published quantile as it is.
        quantile: published level p, 0 to 1; where the rate is held, the level starts from here.
        window: similarities that are remembered (T).
        max_age: ticks after which an update is due whatever the similarity; None is never.
        refractory: ticks after an update that do not trigger another one.
    """

    rate: float | None = 0.15
    quantile: float = 0.05
    window: int = 10
    max_age: int | None = 50
    refractory: int = 1


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
    """Decides tick by tick."""

    def __init__(self, options: UpdateOptions) -> None:
        """Starts before the first frame."""

    def decide(
        self, previous: float | None, update: float | None, instruction_changed: bool = False
    ) -> Decision:
        """Decides for one tick.

        Args:
            previous: similarity to the frame before; None without one.
            update: similarity to the frame of the last update.
            instruction_changed: whether the instruction is another than at the tick before.
        """
        raise NotImplementedError

    def reset(self) -> None:
        """New episode: forgets the similarities; the next tick updates."""
