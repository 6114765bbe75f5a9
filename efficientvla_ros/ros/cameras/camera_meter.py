"""How regularly the images of one camera arrive."""

from __future__ import annotations

import statistics
import threading
import time
from collections import deque
from itertools import pairwise

_STALE_AFTER_S = 5.0


class CameraMeter:
    """Rate, jitter and age of one camera's images; bounded in memory, safe for several threads.

    Arrivals are taken from a monotonic clock, so that neither simulated time nor a clock that is
    set disturbs rate and jitter.
    """

    def __init__(self, size: int = 128) -> None:
        """Keeps the newest `size` arrivals."""
        self._times: deque[float] = deque(maxlen=size)
        self._stamp_ns: int | None = None
        self._lock = threading.Lock()

    def arrived(self, stamp_ns: int, now_s: float | None = None) -> None:
        """Counts an image with its stamp; `now_s` is monotonic, None takes the time now."""
        with self._lock:
            self._times.append(time.monotonic() if now_s is None else now_s)
            self._stamp_ns = stamp_ns

    def age(self, now_ns: int) -> float:
        """Seconds from the newest image's stamp to a time of the node's clock; -1 without one."""
        stamp_ns = self._stamp_ns
        return -1.0 if stamp_ns is None else (now_ns - stamp_ns) * 1e-9

    def rhythm(self, now_s: float | None = None) -> tuple[float, float]:
        """Images per second, and the 95th percentile of |interval - median interval| in s.

        Both are 0 while fewer than three images came, and when the last one is long ago.
        """
        with self._lock:
            times = list(self._times)
        now_s = time.monotonic() if now_s is None else now_s
        if len(times) < 3:
            return 0.0, 0.0
        intervals = [b - a for a, b in pairwise(times)]
        middle = statistics.median(intervals)
        if now_s - times[-1] > max(_STALE_AFTER_S, 3.0 * middle):
            return 0.0, 0.0
        deviations = sorted(abs(interval - middle) for interval in intervals)
        rate = len(intervals) / max(times[-1] - times[0], 1e-9)
        return rate, deviations[round(0.95 * (len(deviations) - 1))]
