"""How long it takes from an observation to its command, and from a command to the arm."""

from __future__ import annotations

import math
from collections import deque

_LONGEST = 60.0  # s; a longer or negative latency is a clock that jumped


class LatencyEstimate:
    """Sliding quantiles of two latencies; safe to read from other threads.

    *To command* runs from the stamp of the observation to the moment at which its command is
    made; *to send* from there to the moment at which it has left. The first ticks after a start
    are slower than all others (caches, threads, just-in-time set-up) and never enter.

    Attributes:
        skipped: ticks after a start that do not enter.
    """

    def __init__(self, window: int = 50, skipped: int = 2) -> None:
        """Starts empty.

        Args:
            window: number of newest latencies that count.
            skipped: ticks after a start that do not enter.
        """
        self.skipped = skipped
        self._to_command: deque[float] = deque(maxlen=window)
        self._to_send: deque[float] = deque(maxlen=window)
        self.reset()

    def reset(self) -> None:
        """Forgets everything, as at a start."""
        self._to_command.clear()
        self._to_send.clear()
        self._seen = 0
        self._made_ns: int | None = None

    def made(self, stamp_ns: int, now_ns: int) -> None:
        """Notes that a command is being made now for an observation of that stamp, ns."""
        self._seen += 1
        self._made_ns = now_ns if self._seen > self.skipped else None
        latency = (now_ns - stamp_ns) * 1e-9
        if self._made_ns is not None and 0.0 <= latency <= _LONGEST:
            self._to_command.append(latency)

    def sent(self, now_ns: int) -> None:
        """Notes that the command made last has left at this time, ns."""
        if self._made_ns is None:
            return
        latency = (now_ns - self._made_ns) * 1e-9
        self._made_ns = None
        if 0.0 <= latency <= _LONGEST:
            self._to_send.append(latency)

    @property
    def count(self) -> int:
        """Latencies in the window."""
        return len(self._to_command)

    def to_command(self, quantile: float = 0.5) -> float | None:
        """Returns a quantile of the time from observation to command, s; None before the first.

        Args:
            quantile: 0 to 1.
        """
        return _quantile(self._to_command, quantile)

    def to_send(self, quantile: float = 0.95) -> float:
        """Returns a quantile of the time from making a command to its sending, s."""
        return _quantile(self._to_send, quantile) or 0.0


def _quantile(values: deque[float], quantile: float) -> float | None:
    """The smallest value that at least this share of the values does not exceed."""
    ordered = sorted(values.copy())
    if not ordered:
        return None
    return ordered[max(0, math.ceil(quantile * len(ordered)) - 1)]
