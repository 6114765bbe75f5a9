"""Real-time pacing: evenly spaced deadlines on the monotonic clock, with a bounded backlog."""

from __future__ import annotations

import time
from collections.abc import Callable


class Pacer:
    """Says when the next slot is due and how far behind we are.

    A backlog is caught up by running slots without waiting. What exceeds `max_backlog` is given
    up, so that a long stall does not turn into a burst.

    Attributes:
        overruns: how often time was given up.
        lost: seconds given up in total.
    """

    def __init__(
        self,
        period: float,
        max_backlog: float,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Starts now; `period` and `max_backlog` are in seconds."""
        self._period = period
        self._max_backlog = max_backlog
        self._now = now
        self._due = now() + period
        self.overruns = 0
        self.lost = 0.0

    def remaining(self) -> float:
        """Seconds until the slot is due; negative once it is late."""
        return self._due - self._now()

    def advance(self) -> float:
        """Goes on to the next slot; returns the seconds that were given up, usually 0."""
        self._due += self._period
        backlog = -self.remaining()
        if backlog <= self._max_backlog:
            return 0.0
        # A full period from now, as at the start: no slot ends before its time.
        lost = backlog + self._period
        self._due += lost
        self.overruns += 1
        self.lost += lost
        return lost
