"""How busy other processes keep the machine while something is measured."""

from __future__ import annotations

import time

import psutil


class MachineLoad:
    """Counts processor time from its creation on."""

    def __init__(self) -> None:
        """Starts counting."""
        self._start = self._read()

    def cores_busy_elsewhere(self) -> float:
        """Returns how many cores other processes kept busy on average, 0 on an idle machine."""
        wall, busy, own = (now - then for now, then in zip(self._read(), self._start))
        return max(0.0, busy - own) / max(wall, 1e-9)

    @staticmethod
    def _read() -> tuple[float, float, float]:
        times, own = psutil.cpu_times(), psutil.Process().cpu_times()
        # `guest` is part of `user` already; `steal` is what other virtual machines took.
        busy = times.user + times.system + times.nice + getattr(times, 'steal', 0.0)
        return time.perf_counter(), busy, own.user + own.system
