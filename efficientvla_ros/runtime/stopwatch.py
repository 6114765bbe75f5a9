"""Wall-clock time of the stages of a tick."""

from __future__ import annotations

import time

import torch


class Stopwatch:
    """Collects stage durations; waits for the device before it reads the clock."""

    def __init__(self, device: torch.device) -> None:
        """Starts the clock."""
        self._cuda = device.type == 'cuda'
        self._device = device
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        """Books the time since the last lap on `stage`."""
        if self._cuda:
            torch.cuda.synchronize(self._device)
        now = time.perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._last
        self._last = now
