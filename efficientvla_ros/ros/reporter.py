"""Publishes `~/status` and `/diagnostics` and says in the log what the policy does."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.node import Node

from efficientvla_ros.control.reasons import HoldReason
from efficientvla_ros.msg import PolicyStatus
from efficientvla_ros.ros import qos
from efficientvla_ros.ros.commander import State, Verdict
from efficientvla_ros.ros.parameters.table import Settings
from efficientvla_ros.ros.reporting.diagnostics import diagnostic_array
from efficientvla_ros.ros.reporting.status import Telemetry, fill_guards, fill_settings
from efficientvla_ros.ros.timing import timed

if TYPE_CHECKING:
    from efficientvla_ros.ros.runner import PolicyRunner

_REPEAT_AFTER_S = 10.0
_KINDS_KEPT = 64
_QUIET = (HoldReason.NONE, HoldReason.STARTING, HoldReason.STOPPED)
_UNCONFIGURED = Verdict(State.UNCONFIGURED)


class Reporter:
    """Status and diagnostics of the node from its start to its end."""

    def __init__(
        self,
        node: Node,
        telemetry: Telemetry,
        settings: Callable[[], Settings],
        runner: Callable[[], PolicyRunner | None],
    ) -> None:
        """Advertises and starts reporting once a second.

        Args:
            node: the node.
            telemetry: what is reported.
            settings: the settings in force.
            runner: the policy, None while unconfigured.
        """
        self._node = node
        self._log = node.get_logger()
        self._telemetry = telemetry
        self._settings = settings
        self._runner = runner
        self._said: dict[tuple[HoldReason, str], float] = {}
        self._last = _UNCONFIGURED
        self._held_since = 0.0
        self._diagnosed: PolicyStatus | None = None
        self._status = node.create_publisher(
            PolicyStatus, '~/status', qos.latched(), qos_overriding_options=qos.overridable()
        )
        self._diagnostics = node.create_publisher(DiagnosticArray, '/diagnostics', qos.queued())
        node.create_timer(
            1.0,
            timed(telemetry.callbacks, self._every_second),
            MutuallyExclusiveCallbackGroup(),
            Clock(clock_type=ClockType.STEADY_TIME),
        )
        self.publish()

    def changed(self, verdict: Verdict) -> None:
        """Logs and publishes what changed."""
        before, self._last = self._last, verdict
        self._telemetry.changed(verdict, self._node.get_clock().now().nanoseconds)
        if verdict.reason not in _QUIET:
            self._telemetry.last_error = f'{verdict.reason.value}: {verdict.detail}'
        self._say(verdict, before)
        if (verdict.state, verdict.reason) != (before.state, before.reason):
            self.publish()

    def failed(self, line: str, details: str) -> None:
        """Reports an error of the node in one line; the details go to the debug level."""
        self._telemetry.last_error = line
        self._log.error(line)
        self._log.debug(details)
        self.publish()

    def _say(self, verdict: Verdict, before: Verdict) -> None:
        now = time.monotonic()
        if verdict.state is State.RUNNING:
            if before.state is not State.RUNNING:
                was = f' (was held {now - self._held_since:.1f} s: {before.reason.value})'
                self._log.info('running' + (was if before.state is State.HOLDING else ''))
            return
        if before.state in (State.RUNNING, State.IDLE, State.UNCONFIGURED):
            self._held_since = now
        if verdict.state in (State.IDLE, State.UNCONFIGURED) or verdict.reason in _QUIET[:2]:
            return
        # Numbers such as ages differ every time; one kind of line is said once in a while.
        kind = (verdict.reason, re.sub(r'[\d.]+', '#', verdict.detail))
        if now - self._said.get(kind, -1e9) < _REPEAT_AFTER_S:
            return
        if len(self._said) >= _KINDS_KEPT:
            self._said.clear()
        self._said[kind] = now
        line = f'{verdict.state.name.lower()}: {verdict.reason.value}: {verdict.detail}'
        if verdict.state is State.ERROR:
            self._log.error(line + '; call ~/reset to go on')
        else:
            self._log.warning(line)

    def _every_second(self) -> None:
        status = self.publish()
        settings = self._settings()
        runner = self._runner()
        commands = {} if runner is None else runner.outputs.diagnostics()
        name = self._node.get_fully_qualified_name()
        self._diagnostics.publish(
            diagnostic_array(status, self._diagnosed, name, settings, commands)
        )
        self._diagnosed = status

    def publish(self) -> PolicyStatus:
        """Publishes the status and returns it."""
        settings = self._settings()
        status = PolicyStatus()
        now = self._node.get_clock().now()
        status.header.stamp = now.to_msg()
        status.header.frame_id = settings['control.base_frame']
        fill_settings(status, settings)
        runner = self._runner()
        self._telemetry.fill(status, _UNCONFIGURED if runner is None else runner.commander.verdict)
        if runner is not None:
            self._fill_runner(status, runner, settings, now.nanoseconds)
        self._status.publish(status)
        log = self._telemetry.log
        if log is not None:
            log.status(status)
        return status

    def _fill_runner(
        self, status: PolicyStatus, runner: PolicyRunner, settings: Settings, now_ns: int
    ) -> None:
        inputs, commander = runner.inputs, runner.commander
        status.instruction = inputs.instruction or ''
        status.images_received = inputs.images_received
        status.image_age = inputs.image_age(now_ns)
        self._telemetry.fill_cameras(status, settings['cameras.names'], now_ns)
        status.commands_published = commander.commands_sent
        status.ticks_late = runner.missed_ticks
        status.ticks_without_image = runner.starved_ticks
        status.preset = runner.plan_name
        engine = runner.engine
        if engine is not None:  # else the model is being freed
            status.tick_period = runner.period
            status.visual_tokens_total = engine.config.num_patches
            status.layers_total = engine.config.llm.layers
            status.diffusion_steps_total = engine.num_ddim_steps
        controller = commander.controller
        counters = {} if controller is None else controller.counters
        fill_guards(status, counters, commander.holds)
