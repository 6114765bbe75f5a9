"""What the node did and what it cost: collected while it runs, reported as PolicyStatus."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Protocol

from efficientvla_ros.control.reasons import HoldReason
from efficientvla_ros.msg import PolicyStatus
from efficientvla_ros.ros.cameras.camera_meter import CameraMeter
from efficientvla_ros.ros.commander import State, Verdict
from efficientvla_ros.ros.timing import Rate, Window
from efficientvla_ros.types import ActionChunk, JointCommand, Observation, TickReport

if TYPE_CHECKING:
    from collections.abc import Mapping

    from efficientvla_ros.ros.parameters.table import Settings

_PAGE = os.sysconf('SC_PAGE_SIZE')
_PERCENTILES = (0.5, 0.95, 0.99)


class TickLog(Protocol):
    """Takes what every tick worked on; must not make it wait."""

    dropped: int

    def planned(self, observation: Observation, chunk: ActionChunk) -> None:
        """Takes an observation and the plan that was made of it."""

    def commanded(self, command: JointCommand, now_ns: int) -> None:
        """Takes a command at the time when it replaced the one before, ns."""

    def ended(self, now_ns: int) -> None:
        """Says that the arm does not follow the newest command any more."""

    def status(self, status: PolicyStatus) -> None:
        """Takes a status."""


class Telemetry:
    """Counters and windows of the node; bounded in memory.

    Attributes:
        callbacks: durations of the node's callbacks, s.
        latency: time from image stamp to command, s.
        cameras: name -> how its images arrive.
        commands: commands made since activation, also those that were not sent (dry run).
        revision: `Settings.revision` of the newest tick.
        last_error: the newest error in one line.
        preset: name of the execution plan in force.
        log: takes what every tick worked on; None for nobody.
    """

    def __init__(self) -> None:
        """Starts with nothing counted."""
        self.callbacks = Window(1024)
        self.latency, self._input, self._inference = Window(), Window(), Window()
        self._depth = Window()
        self._rate = Rate()
        self._stages: dict[str, Window] = {}
        self.cameras: dict[str, CameraMeter] = {}
        self.log: TickLog | None = None
        self.preset = self.last_error = ''
        self.revision = 0
        self._report = TickReport()
        self.clear()

    def clear(self) -> None:
        """Forgets what was counted, as when the node is activated; holds and cameras stay."""
        for window in (self.callbacks, self.latency, self._input, self._inference, self._depth):
            window.clear()
        self._rate.clear()
        self._stages.clear()
        self.last_error = self._note = ''
        self.ticks = self.ticks_failed = self.ticks_held = self.ticks_discarded = 0
        self.images_rejected = self.commands = 0
        self._channel_updates, self._update_reason = 0, ''
        self._plan_end_ns: int | None = None
        self._actions = self._waypoints = 0

    def plan_changed(self, name: str) -> None:
        """Takes the name of the plan now in force; what inferences by another one took is out."""
        windows = (self._inference, self._input, self.latency, *list(self._stages.values()))
        for window in windows:
            window.clear()
        self.preset = name

    def image_arrived(self, camera: str, stamp_ns: int) -> None:
        """Counts an image of a camera by its stamp, ns."""
        meter = self.cameras.get(camera)
        if meter is None:
            meter = self.cameras.setdefault(camera, CameraMeter())
        meter.arrived(stamp_ns)

    def inference_started(self, age_s: float) -> None:
        """Takes the age of the image when inference starts, s."""
        self._input.add(age_s)

    def inference_done(
        self,
        report: TickReport,
        observation: Observation | None = None,
        chunk: ActionChunk | None = None,
    ) -> None:
        """Counts an inference and what its stages took; passes its content on to the log."""
        self.ticks += 1
        self._report = report
        self._rate.tick()
        self._inference.add(report.total_seconds)
        if report.updated:
            self._channel_updates += 1
            self._update_reason = report.update_reason
        if report.notes:
            self._note = report.notes[-1]
        for name, seconds in report.stage_seconds.items():
            if name not in self._stages:
                self._stages[name] = Window()
            self._stages[name].add(seconds)
        if chunk is not None:
            self._actions = len(chunk.actions)
            log = self.log
            if log is not None and observation is not None:
                log.planned(observation, chunk)

    def tick_failed(self, error: str) -> None:
        """Counts an inference that gave no usable plan."""
        self.ticks_failed += 1
        self.last_error = error

    def tick_ended(self, commanded: bool, held: bool, revision: int) -> None:
        """Counts a tick by what came of it.

        Args:
            commanded: a command was made.
            held: otherwise: the arm is held; if not, the plan was thrown away.
            revision: `Settings.revision` that it worked by.
        """
        self.revision = revision
        if commanded:
            return
        if held:
            self.ticks_held += 1
        else:
            self.ticks_discarded += 1

    def image_rejected(self) -> None:
        """Counts an image that could not be used."""
        self.images_rejected += 1

    def commanded(self, command: JointCommand, chunk: ActionChunk, now_ns: int) -> None:
        """Takes the command that was made of a plan at a time in ns of the node's clock."""
        self.commands += 1
        self.latency.add((now_ns - chunk.stamp_ns) * 1e-9)
        if self._plan_end_ns is not None:
            self._depth.add((self._plan_end_ns - now_ns) * 1e-9)
        self._plan_end_ns = command.stamp_ns + round(float(command.times[-1]) * 1e9)
        self._waypoints = len(command.times)
        log = self.log  # another thread may take it away
        if log is not None:
            log.commanded(command, now_ns)

    def changed(self, verdict: Verdict, now_ns: int) -> None:
        """Takes a change of what the policy does, at a time in ns of the node's clock."""
        if verdict.state is State.RUNNING:
            return
        self._plan_end_ns = None
        log = self.log
        if log is not None:
            log.ended(now_ns)

    def fill(self, message: PolicyStatus, verdict: Verdict) -> None:
        """Writes state, counters and percentiles into a status message."""
        message.state = int(verdict.state)
        message.hold_reason = verdict.reason.value
        message.hold_detail = verdict.detail
        message.last_error = self.last_error
        message.ticks = self.ticks
        message.ticks_failed = self.ticks_failed
        message.ticks_held = self.ticks_held
        message.ticks_discarded = self.ticks_discarded
        message.parameter_revision = self.revision
        message.images_rejected = self.images_rejected
        message.rate = self._rate.hertz
        self._fill_costs(message)
        message.chunk_actions = self._actions
        message.chunk_waypoints = self._waypoints
        message.chunk_depth_p05, message.chunk_depth_p50 = self._depth.quantiles(0.05, 0.5)
        message.preset = self.preset
        message.visual_tokens = self._report.visual_tokens
        message.layers_run = self._report.layers_run
        message.diffusion_steps = self._report.diffusion_steps
        self._fill_channels(message)
        log = self.log
        message.log_dropped = 0 if log is None else log.dropped

    def _fill_costs(self, message: PolicyStatus) -> None:
        stages = list(self._stages.items())
        quantiles = [window.quantiles(*_PERCENTILES) for _, window in stages]
        message.stage_names = [name for name, _ in stages]
        message.stage_p50 = [values[0] for values in quantiles]
        message.stage_p95 = [values[1] for values in quantiles]
        message.stage_p99 = [values[2] for values in quantiles]
        for prefix, window in (
            ('inference', self._inference),
            ('input', self._input),
            ('latency', self.latency),
        ):
            values = window.quantiles(*_PERCENTILES)
            for fraction, value in zip((50, 95, 99), values, strict=True):
                setattr(message, f'{prefix}_p{fraction}', value)
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
        message.acceleration_note = self._note
        if report.audit_deviation is not None:
            message.audit_deviation = report.audit_deviation.tolist()

    def fill_cameras(self, message: PolicyStatus, names: list[str], now_ns: int) -> None:
        """Writes how the images of the cameras arrive, at a time in ns of the node's clock."""
        meters = [self.cameras.get(name) or CameraMeter() for name in names]
        rhythms = [meter.rhythm() for meter in meters]
        message.camera_names = list(names)
        message.camera_age = [meter.age(now_ns) for meter in meters]
        message.camera_rate = [rate for rate, _ in rhythms]
        message.camera_jitter = [jitter for _, jitter in rhythms]


def fill_settings(message: PolicyStatus, settings: Settings) -> None:
    """Writes the settings that say whether and how the arm is commanded."""
    message.dry_run = bool(settings.get('safety.dry_run', False))
    message.speed_scale = float(settings.get('safety.speed_scale', 1.0))
    message.execution = str(settings.get('control.execution', ''))
    message.interface = settings['command.interface']


def fill_guards(
    message: PolicyStatus, counters: Mapping[str, int], holds: Mapping[str, int]
) -> None:
    """Writes what was changed in commands and why the arm was held.

    Args:
        message: the status.
        counters: of the controller; holds and commands in it are counted elsewhere.
        holds: how often the arm began to be held, by reason.
    """
    others = {'commands', *(reason.value for reason in HoldReason)}
    # Copied at once: the inference thread goes on counting.
    changed = {name: count for name, count in dict(counters).items() if name not in others}
    holds = dict(holds)
    message.intervention_names = list(changed)
    message.intervention_counts = list(changed.values())
    message.hold_names = list(holds)
    message.hold_counts = list(holds.values())


def resident_memory() -> int:
    """Returns the resident memory of this process, bytes; 0 where the system does not tell."""
    try:
        with open('/proc/self/statm', encoding='ascii') as file:
            return int(file.read().split()[1]) * _PAGE
    except (OSError, ValueError, IndexError):
        return 0
