"""What the node did and what it cost: collected while it runs, reported as PolicyStatus."""

from __future__ import annotations

import math
import os

from efficientvla_ros.msg import PolicyStatus
from efficientvla_ros.ros.commander import Verdict
from efficientvla_ros.ros.timing import Rate, Window
from efficientvla_ros.types import TickReport

_PAGE = os.sysconf('SC_PAGE_SIZE')


class Telemetry:
    """Counters and windows of the node; bounded in memory.

    Attributes:
        callbacks: durations of the node's callbacks, s.
        latency: time from image stamp to command, s.
        last_error: the newest error in one line.
        preset: name of the execution plan in force.
    """

    def __init__(self) -> None:
        """Starts with nothing counted."""
        self.callbacks = Window(1024)
        self.latency = Window()
        self.preset = ''
        self.last_error = ''
        self._rate = Rate()
        self._stages: dict[str, Window] = {}
        self._report = TickReport()
        self.clear()

    def clear(self) -> None:
        """Forgets what was counted, as when the node is activated."""
        self.callbacks.clear()
        self.latency.clear()
        self._rate.clear()
        self._stages.clear()
        self.last_error = ''
        self.ticks = self.ticks_failed = self.images_rejected = 0
        self._channel_updates, self._update_reason = 0, ''

    def inference_done(self, report: TickReport) -> None:
        """Counts an inference and what its stages took."""
        self.ticks += 1
        self._report = report
        self._rate.tick()
        if report.updated:
            self._channel_updates += 1
            self._update_reason = report.update_reason
        for name, seconds in report.stage_seconds.items():
            if name not in self._stages:
                self._stages[name] = Window()
            self._stages[name].add(seconds)

    def tick_failed(self, error: str) -> None:
        """Counts an inference that gave no usable plan."""
        self.ticks_failed += 1
        self.last_error = error

    def image_rejected(self) -> None:
        """Counts an image that could not be used."""
        self.images_rejected += 1

    def commanded(self, latency_s: float) -> None:
        """Takes the time from the image's stamp to the command, s."""
        self.latency.add(latency_s)

    def fill(self, message: PolicyStatus, verdict: Verdict) -> None:
        """Writes state, counters and percentiles into a status message."""
        message.state = int(verdict.state)
        message.hold_reason = verdict.reason.value
        message.last_error = self.last_error
        message.ticks = self.ticks
        message.ticks_failed = self.ticks_failed
        message.images_rejected = self.images_rejected
        stages = list(self._stages.items())
        quantiles = [window.quantiles(0.5, 0.95) for _, window in stages]
        message.stage_names = [name for name, _ in stages]
        message.stage_p50 = [middle for middle, _ in quantiles]
        message.stage_p95 = [high for _, high in quantiles]
        message.latency_p50, message.latency_p95 = self.latency.quantiles(0.5, 0.95)
        message.rate = self._rate.hertz
        message.preset = self.preset
        message.visual_tokens = self._report.visual_tokens
        message.layers_run = self._report.layers_run
        message.diffusion_steps = self._report.diffusion_steps
        self._fill_channels(message)
        message.callback_p95, message.callback_max = self.callbacks.quantiles(0.95, 1.0)
        message.memory = resident_memory()

    def _fill_channels(self, message: PolicyStatus) -> None:
        report = self._report
        message.channel_ratio = report.channel_ratio
        message.pattern_age = report.pattern_age
        message.similarity = math.nan if report.similarity is None else report.similarity
        message.channel_updates = self._channel_updates
        message.update_reason = self._update_reason
        message.updates_missed = report.updates_missed
        if report.audit_deviation is not None:
            message.audit_deviation = report.audit_deviation.tolist()


def resident_memory() -> int:
    """Returns the resident memory of this process, bytes; 0 where the system does not tell."""
    try:
        with open('/proc/self/statm', encoding='ascii') as file:
            return int(file.read().split()[1]) * _PAGE
    except (OSError, ValueError, IndexError):
        return 0
