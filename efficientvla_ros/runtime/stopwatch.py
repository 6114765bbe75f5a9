"""Wall-clock time of the stages of a tick."""

from __future__ import annotations

import time

import torch

from efficientvla_ros.runtime.timeline import INFERENCE, Timeline


class Stopwatch:
    """Collects stage durations; waits for the device before it reads the clock.

    On CUDA it waits for the stream in use alone: work beside inference goes on.
    """

    def __init__(self, device: torch.device, timeline: Timeline | None = None) -> None:
        """Starts the clock; `timeline` takes every stage as well."""
        self._timeline = timeline
        self._cuda = device.type == 'cuda'
        self._device = device
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        """Books the time since the last lap on `stage`."""
        if self._cuda:
            torch.cuda.current_stream(self._device).synchronize()
        now = time.perf_counter()
        if self._timeline is not None:
            self._timeline.add(INFERENCE, stage, self._last, now)
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._last
        self._last = now
