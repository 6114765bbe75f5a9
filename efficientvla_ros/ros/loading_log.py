"""Says in the log how far the loading of a large model is."""

from __future__ import annotations

import time
from collections.abc import Callable

_STEP_PERCENT = 10
_QUIET_S = 1.0


class LoadingLog:
    """Turns reports of bytes loaded into one line for about every 10 %.

    Lines are at least a second apart, so that a small model is loaded without any.
    """

    def __init__(
        self, log: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Starts at nothing loaded.

        Args:
            log: takes a line.
            clock: monotonic time, s.
        """
        self._log = log
        self._clock = clock
        self._said_percent = 0
        self._said_at = clock()

    def __call__(self, done_bytes: int, total_bytes: int) -> None:
        """Takes how much is loaded out of how much."""
        percent = 100 * done_bytes // max(total_bytes, 1)
        now = self._clock()
        if percent < self._said_percent + _STEP_PERCENT or now < self._said_at + _QUIET_S:
            return
        self._said_percent, self._said_at = percent, now
        self._log(f'loading: {percent} % of {total_bytes / 1e9:.1f} GB')
