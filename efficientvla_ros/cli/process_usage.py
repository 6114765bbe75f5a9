"""Processor time and memory of a process that was started."""

from __future__ import annotations

import time

from efficientvla_ros.cli.child_processes import ChildProcess


class ProcessUsage:
    """CPU and memory of a process from now on.

    Attributes:
        name: of the process.
    """

    def __init__(self, child: ChildProcess) -> None:
        """Starts measuring."""
        import psutil

        self.name = child.name
        self._process = psutil.Process(child.pid)
        self._start = time.monotonic(), self._cpu()

    def _cpu(self) -> float:
        times = self._process.cpu_times()
        return times.user + times.system

    def figures(self) -> dict[str, float]:
        """Cores used on average, and resident memory in MB."""
        start, cpu = self._start
        return {
            'cores': round((self._cpu() - cpu) / (time.monotonic() - start), 3),
            'memory_mb': round(self._process.memory_info().rss / 1e6, 1),
        }
