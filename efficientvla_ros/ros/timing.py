"""Windowed statistics of durations; bounded in memory."""

from __future__ import annotations

import functools
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar('Result')


class Window:
    """The newest values of one quantity, safe to use from several threads."""

    def __init__(self, size: int = 256) -> None:
        """Keeps the newest `size` values."""
        self._values: deque[float] = deque(maxlen=size)
        self._lock = threading.Lock()

    def add(self, value: float) -> None:
        """Appends a value; the oldest one leaves a full window."""
        with self._lock:
            self._values.append(value)

    def clear(self) -> None:
        """Forgets all values."""
        with self._lock:
            self._values.clear()

    def quantiles(self, *fractions: float) -> tuple[float, ...]:
        """Returns values at fractions in [0, 1] of the sorted window; 0 when it is empty."""
        with self._lock:
            ordered = sorted(self._values)
        if not ordered:
            return (0.0,) * len(fractions)
        last = len(ordered) - 1
        return tuple(ordered[round(fraction * last)] for fraction in fractions)

    def __len__(self) -> int:
        return len(self._values)


class Rate:
    """Events per second over the newest ones."""

    def __init__(self, size: int = 32, stale_after_s: float = 5.0) -> None:
        """Keeps the newest `size` events; says 0 when the last one is long ago."""
        self._times: deque[float] = deque(maxlen=size)
        self._stale_after = stale_after_s
        self._lock = threading.Lock()

    def tick(self) -> None:
        """Counts an event now."""
        with self._lock:
            self._times.append(time.monotonic())

    def clear(self) -> None:
        """Forgets all events."""
        with self._lock:
            self._times.clear()

    @property
    def hertz(self) -> float:
        """Events per second, 0 while unknown."""
        with self._lock:
            times = list(self._times)
        if len(times) < 2:
            return 0.0
        interval = max(times[-1] - times[0], 1e-9) / (len(times) - 1)
        # What takes long each time is slow, not stale.
        if time.monotonic() - times[-1] > max(self._stale_after, 3.0 * interval):
            return 0.0
        return 1.0 / interval


def timed(window: Window, callback: Callable[..., Result]) -> Callable[..., Result]:
    """Wraps a callback so that its duration in seconds goes into a window."""

    # `wraps` keeps the signature: newer rclpy looks at it to see what a callback takes.
    @functools.wraps(callback)
    def run(*arguments: object) -> Result:
        start = time.perf_counter()
        try:
            return callback(*arguments)
        finally:
            window.add(time.perf_counter() - start)

    return run
