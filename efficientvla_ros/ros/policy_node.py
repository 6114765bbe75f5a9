"""Lifecycle node `policy_node`: camera images and an instruction in, arm commands out.

configure loads the model, activate starts commanding, deactivate stops and holds the arm,
cleanup frees the model. `~/stop`, or true on the topic `stop`, holds the arm until `~/reset`.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import LifecycleNodeMixin, TransitionCallbackReturn
from rclpy.node import Node
from std_srvs.srv import Trigger

from efficientvla_ros.ros.parameters.policy import TABLE
from efficientvla_ros.ros.parameters.store import ParameterStore
from efficientvla_ros.ros.process import run
from efficientvla_ros.ros.reporter import Reporter
from efficientvla_ros.ros.reporting.status import Telemetry
from efficientvla_ros.ros.runner import PolicyRunner
from efficientvla_ros.ros.stop_topic import StopTopic
from efficientvla_ros.types import InputError

if TYPE_CHECKING:
    from rclpy.lifecycle import LifecycleState

    from efficientvla_ros.ros.parameters.table import Settings

_SUCCESS = TransitionCallbackReturn.SUCCESS
_FAILURE = TransitionCallbackReturn.FAILURE
_PRESSED = 'the topic stop is true'


class PolicyNode(LifecycleNodeMixin, Node):
    """Glue between the lifecycle, the services and `PolicyRunner`.

    Needs an executor with more than one thread: configure takes long, and the services answer
    meanwhile.
    """

    def __init__(self, **kwargs: object) -> None:
        """Declares parameters and offers the services; loads nothing.

        Raises:
            InputError: a parameter given at start cannot be used.
        """
        Node.__init__(self, 'policy_node', **kwargs)
        self._services_group = ReentrantCallbackGroup()
        LifecycleNodeMixin.__init__(self, callback_group=self._services_group)
        self._transition = threading.Lock()
        self.brief = False  # loading a model takes long
        self._runner: PolicyRunner | None = None
        self._store = ParameterStore(
            self,
            TABLE,
            configured=lambda: self._runner is not None,
            check=self._check,
            on_change=self._on_change,
        )
        for line in self._store.unknown:
            self.get_logger().error(f'{line}; the node refuses to be configured')
        self._telemetry = Telemetry()
        self._reporter = Reporter(
            self, self._telemetry, lambda: self._store.settings, lambda: self._runner
        )
        self._stop_topic = StopTopic(self, self._on_stop_topic, self._services_group)
        for name, action in (('~/stop', self._on_stop), ('~/reset', self._on_reset)):
            self.create_service(Trigger, name, action, callback_group=self._services_group)
        if self._store.settings['autostart']:
            self._autostart_timer = self.create_timer(
                0.0, self._autostart, self._services_group, Clock(clock_type=ClockType.STEADY_TIME)
            )

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Loads the model and warms it up."""
        return self._guarded('configure', self._configure)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Starts commanding."""
        result = self._guarded('activate', lambda: self._runner.start())
        self.brief = result == _SUCCESS
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stops the policy, waits for the inference under way, then holds the arm."""
        return self._guarded('deactivate', lambda: self._runner.stop())

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Frees the model."""
        return self._guarded('cleanup', self._tear_down)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stops and holds like deactivate, then frees the model."""
        return self._guarded('shutdown', self._tear_down)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Goes back to unconfigured."""
        return self._guarded('error processing', self._tear_down)

    def close(self, timeout_s: float = 3.0) -> bool:
        """Shuts down as the process ends; False when a transition under way takes longer."""
        if not self._transition.acquire(timeout=timeout_s):
            return False
        self._transition.release()
        with contextlib.suppress(rclpy_implementation.RCLError):  # when finalized already
            self.trigger_shutdown()
        return True

    def _guarded(self, name: str, action: Callable[[], None]) -> TransitionCallbackReturn:
        # rclpy swallows what a transition raises: it is told here, and the node stays usable.
        with self._transition:
            self.brief = False
            try:
                action()
            except InputError as error:
                self._reporter.failed(f'{name} failed: {error}', traceback.format_exc())
            except Exception as error:
                text = ' '.join(str(error).split())[:300]
                line = f'{name} failed: {type(error).__name__}: {text}'
                self._reporter.failed(line, traceback.format_exc())
            else:
                self._reporter.publish()
                return _SUCCESS
        return _FAILURE

    def _configure(self) -> None:
        if self._store.unknown:
            raise InputError('; '.join(self._store.unknown))
        model = self._store.settings['model.path']
        self.get_logger().info(f'loading model {model}')
        self._telemetry.clear()
        self._runner = PolicyRunner(
            self, self._store, self._telemetry, lambda verdict: self._reporter.changed(verdict)
        )
        self._runner.settings_changed()  # what was set while the model was loaded
        if self._stop_topic.pressed:
            self._runner.hold_until_reset(_PRESSED)
        self.get_logger().info(f'model {model} is ready')

    def _tear_down(self) -> None:
        runner, self._runner = self._runner, None
        if runner is not None:
            runner.stop()
            runner.destroy()

    def _check(self, settings: Settings) -> None:
        runner = self._runner
        if runner is not None:
            runner.check(settings)

    def _on_change(self, settings: Settings) -> None:
        runner = self._runner
        if runner is not None:
            runner.settings_changed()

    def _on_stop(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        runner = self._runner
        response.success = runner is not None
        response.message = 'not configured, nothing to stop'
        if runner is not None:
            runner.hold_until_reset('~/stop was called')
            response.message = 'the arm is held until ~/reset'
        return response

    def _on_stop_topic(self, pressed: bool) -> None:
        runner = self._runner
        if not pressed:
            self.get_logger().info('the topic stop is false again; ~/reset ends the stop')
        elif runner is not None:
            runner.hold_until_reset(_PRESSED)

    def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        runner = self._runner
        response.success = runner is not None and not self._stop_topic.pressed
        response.message = 'not configured, nothing to reset'
        if self._stop_topic.pressed:
            response.message = f'{_PRESSED}: release it first'
        elif runner is not None:
            runner.reset()
            response.message = 'started over'
        return response

    def _autostart(self) -> None:
        self.destroy_timer(self._autostart_timer)
        if self.trigger_configure() == _SUCCESS:
            self.trigger_activate()


def main(args: list[str] | None = None) -> int:
    """Runs the node until SIGINT or SIGTERM; returns the exit code."""
    # Timers and callbacks wait at most this long for the inference thread's Python code.
    sys.setswitchinterval(5e-4)
    return run(PolicyNode, args)


if __name__ == '__main__':
    sys.exit(main())
