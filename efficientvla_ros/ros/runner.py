"""The policy with all its parts, set up on a node and torn down from it."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.node import Node

from efficientvla_ros.control.reasons import HoldReason
from efficientvla_ros.ros.clock_watch import ClockWatch
from efficientvla_ros.ros.commander import Commander, State, Verdict
from efficientvla_ros.ros.inference_loop import InferenceLoop
from efficientvla_ros.ros.ingest import Listeners
from efficientvla_ros.ros.inputs import Inputs
from efficientvla_ros.ros.loading_log import LoadingLog
from efficientvla_ros.ros.outputs.arm_output import ArmLinks
from efficientvla_ros.ros.outputs.dry_run import DryRun
from efficientvla_ros.ros.outputs.outputs import Outputs
from efficientvla_ros.ros.parameters.acceleration import (
    audit_settings,
    budgeted_name,
    plan_name,
    same_acceleration,
    use_plan,
)
from efficientvla_ros.ros.parameters.policy import engine_options
from efficientvla_ros.ros.parameters.safety import check_limits_are_set
from efficientvla_ros.ros.parameters.store import ParameterStore
from efficientvla_ros.ros.parameters.table import Settings
from efficientvla_ros.ros.plan_changer import PlanChanger
from efficientvla_ros.ros.policy import Policy
from efficientvla_ros.ros.preview import Previews
from efficientvla_ros.ros.reporting.rerun_log import open_rerun_log
from efficientvla_ros.ros.reporting.status import Telemetry
from efficientvla_ros.ros.timing import timed
from efficientvla_ros.ros.token_image import TokenImage

if TYPE_CHECKING:
    from efficientvla_ros.acceleration.plan import ExecutionPlan
    from efficientvla_ros.control.kinematics import ArmKinematics

_WATCHDOG_PERIOD = 0.1
_HURRY_PERIOD = 0.1
_WAIT_BEFORE_HOLD = 1.0
_WAIT_AFTER_HOLD = 9.0


def tick_period(settings: Settings, horizon: int, step_duration: float) -> float:
    """Returns the time between two ticks, s.

    Args:
        settings: of the node; a rate in it decides.
        horizon: actions in a plan; a plan cannot be followed for longer than it lasts.
        step_duration: time between two actions, s.
    """
    rate = settings['control.rate']
    steps = min(settings['control.execute_steps'], horizon)
    slow = steps * step_duration / settings['safety.speed_scale']
    return 1.0 / rate if rate > 0.0 else slow


class PolicyRunner:
    """A loaded policy on a node: idle after construction, commanding between start and stop."""

    def __init__(
        self,
        node: Node,
        store: ParameterStore,
        telemetry: Telemetry,
        on_verdict: Callable[[Verdict], None],
    ) -> None:
        """Subscribes, loads the model and warms it up; this takes seconds to minutes.

        Args:
            node: the node; its executor needs a second thread while this runs.
            store: parameters.
            telemetry: takes durations and counts.
            on_verdict: told every change of what the policy does.

        Raises:
            InputError: the model or a parameter cannot be used.
        """
        self._node = node
        self._store = store
        self._telemetry = telemetry
        self._timers: list = []
        self.policy: Policy | None = None
        self._plans: PlanChanger | None = None
        self._notes: set[str] = set()
        self._missed = 0
        self._hurried = 0.0
        self._clock_watch = ClockWatch()
        settings = store.settings
        telemetry.cameras.clear()
        listeners = Listeners(
            self._on_image, self._on_instruction, self._on_clock_reset, telemetry.image_arrived
        )
        self._loop = InferenceLoop(self._tick, self._tick_failed)
        self.outputs = Outputs(node, settings, self._arm_links())
        self.token_image = TokenImage(node)
        self.dry_run = DryRun(node, settings['control.base_frame'])
        self.commander = Commander(
            self.outputs.send,
            self._now,
            on_verdict,
            self.dry_run.show,
            settings['safety.dry_run'],
        )
        # Subscribed before the model is loaded: what is latched is then there in time.
        self.previews = Previews(node, lambda: store.settings)
        self.inputs = Inputs(node, settings, listeners, telemetry.callbacks, self.previews)
        try:
            self._load(settings)
        except BaseException:
            self.destroy()
            raise

    def _arm_links(self) -> ArmLinks:
        def kinematics() -> ArmKinematics | None:
            controller = self.commander.controller
            return None if controller is None else controller.kinematics

        return ArmLinks(
            lambda: self.inputs.joints.newest, kinematics, self._went_wrong, self._loop.request
        )

    def _load(self, settings: Settings) -> None:
        # torch is imported here and not before.
        from efficientvla_ros.control import pipeline  # noqa: F401 - so that no tick waits for it
        from efficientvla_ros.runtime.engine import load_engine

        log = self._node.get_logger()
        # Before the model: what cannot be logged to is said at once.
        self._telemetry.log = open_rerun_log(self._node, settings)
        options = engine_options(settings)
        if options['random_weights']:
            log.warning('model.random_weights is true: the arm will move at random')
        self.engine = load_engine(**options, progress=LoadingLog(log.info))
        self.previews.size = self.engine.image_size
        self.policy = Policy(
            self.engine,
            self.inputs,
            self.commander,
            self.outputs,
            self._telemetry,
            lambda: self._store.settings,
            self._now,
            log.debug,
            self.token_image,
            log.warning,
            self.outputs.absent,
        )
        self.engine.audit = audit_settings(settings)
        self.engine.warm_up()
        self._plans = PlanChanger(self.engine, self._plan_changed, self._went_wrong)
        self._accelerated = settings
        plan = plan_name(settings, self.engine.config), self.engine.plan
        if settings['acceleration.latency_budget_ms'] > 0.0:
            plan = use_plan(self.engine, settings)
        self._plan_changed(*plan)
        # What was loaded stays: the garbage collector need not look at it again and again.
        gc.collect()
        gc.freeze()

    @property
    def period(self) -> float:
        """Time between two ticks, s."""
        engine = self.engine
        return tick_period(self._store.settings, engine.horizon, engine.step_duration)

    @property
    def missed_ticks(self) -> int:
        """Ticks that were due while another one was still waiting."""
        return self._loop.missed

    @property
    def starved_ticks(self) -> int:
        """Ticks that were due while there was no new image."""
        return self._loop.starved

    @property
    def plan_name(self) -> str:
        """Name of the execution plan in force."""
        engine = self.engine
        budget = None if engine is None else engine.latency_budget
        return self._telemetry.preset if budget is None else budgeted_name(budget)

    def start(self) -> None:
        """Starts commanding.

        Raises:
            InputError: this is no dry run, and a limit that a real arm needs is not set.
        """
        settings = self._store.settings
        check_limits_are_set(settings)
        self.commander.set_dry_run(settings['safety.dry_run'])
        if self.commander.dry_run:
            self._node.get_logger().warning(
                'dry run (safety.dry_run is true): nothing goes to the arm, what would be sent '
                'is on ~/dry_run/joint_trajectory'
            )
        self._telemetry.clear()
        self._missed = 0
        self.policy.reset()
        self.commander.hold_duration = settings['safety.hold_duration']
        self._clock_watch.restart()
        self.outputs.start()
        self.commander.open()
        self._loop.start()
        group = MutuallyExclusiveCallbackGroup()
        self._tick_timer = self._timer(self.period, self._on_tick_timer, group)
        # The watchdog must also see that the node's clock stands still.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer(_WATCHDOG_PERIOD, self._on_watchdog, group, steady)
        self._loop.request()

    def _timer(self, period: float, callback, group, clock: Clock | None = None):
        timer = self._node.create_timer(
            period, timed(self._telemetry.callbacks, callback), group, clock
        )
        self._timers.append(timer)
        return timer

    def stop(self) -> None:
        """Stops commanding: first the policy, then the tick under way, the hold command last."""
        for timer in self._timers:
            self._node.destroy_timer(timer)
        self._timers.clear()
        # From here on no plan is sent any more, so that the hold below stays the last command.
        self.commander.close()
        ended = self._loop.stop(_WAIT_BEFORE_HOLD)
        self.commander.finish()
        self.outputs.stop()
        if not ended and not self._loop.stop(_WAIT_AFTER_HOLD):
            self._node.get_logger().error('the inference under way does not end')

    def destroy(self) -> None:
        """Frees subscriptions, publishers, and the model; the runner is of no use any more."""
        if self._plans is not None:
            self._plans.stop()
        self.inputs.destroy()
        self.outputs.destroy()
        self.dry_run.destroy()
        self.token_image.destroy()
        self.previews.destroy()
        log, self._telemetry.log = self._telemetry.log, None
        if log is not None:
            log.close()
        self._telemetry.preset = ''
        self.engine = self.policy = self._plans = None
        gc.unfreeze()
        gc.collect()
        torch = sys.modules.get('torch')
        if torch is not None and torch.cuda.is_available():
            torch.cuda.empty_cache()

    def hold_until_reset(self, cause: str) -> None:
        """Holds the arm until `reset`; `cause` says in a few words who wanted it."""
        self.commander.latch(State.STOPPED, HoldReason.STOPPED, cause)

    def reset(self) -> None:
        """Starts over: ends a stop, forgets images, joint states and the plan under way."""
        self.inputs.forget()
        self.policy.reset()
        self.commander.reset()
        self.outputs.forget()
        self._loop.request()

    def check(self, settings: Settings) -> None:
        """Raises InputError for parameters that model, arm or a run under way do not allow."""
        if self._timers:
            check_limits_are_set(settings)
        if self.policy is not None:
            self.policy.check(settings)
        plans = self._plans
        if plans is not None and not same_acceleration(settings, self._store.settings):
            plans.check(settings)

    def settings_changed(self) -> None:
        """Takes over plan and tick period; everything else is read at the start of a tick."""
        settings = self._store.settings
        self.outputs.settings_changed(settings)
        if self._timers:
            self.commander.set_dry_run(settings['safety.dry_run'])
        if self._plans is not None and not same_acceleration(settings, self._accelerated):
            self._accelerated = settings
            self._plans.change(settings)
        audit = audit_settings(settings)
        if audit != self.engine.audit:
            self.engine.audit = audit
        if self._timers:
            self._tick_timer.timer_period_ns = round(self.period * 1e9)

    def _plan_changed(self, name: str, plan: ExecutionPlan) -> None:
        self._telemetry.plan_changed(name)
        log = self._node.get_logger()
        log.info(f'plan {name}: {plan}')
        for note in plan.notes:
            if note not in self._notes:
                self._notes.add(note)
                log.warning(note)

    def _went_wrong(self, line: str) -> None:
        self._telemetry.last_error = line
        self._node.get_logger().error(line)

    def _now(self) -> int:
        return self._node.get_clock().now().nanoseconds

    def _tick(self) -> bool:
        telemetry = self._telemetry
        commands, revision = telemetry.commands, self._store.settings.revision
        worked = self.policy.tick()
        if worked:
            held = self.commander.verdict.state is not State.RUNNING
            telemetry.tick_ended(telemetry.commands > commands, held, revision)
        return worked

    def _tick_failed(self, error: Exception) -> None:
        self.policy.failed(error)
        self._telemetry.tick_ended(False, True, self._store.settings.revision)

    def _on_image(self) -> None:
        self._loop.offer()

    def _on_instruction(self) -> None:
        self.commander.discard()
        now = time.monotonic()
        if now - self._hurried < _HURRY_PERIOD:
            return  # the next tick takes the newest one: a flood must not drive inference
        self._hurried = now
        self._loop.request()

    def _on_clock_reset(self) -> None:
        self._start_over('time stamps jumped back')

    def _start_over(self, detail: str) -> None:
        """Forgets all that was stamped by a clock that has jumped since."""
        self._node.get_logger().warning(f'{detail}: starting over')
        self.inputs.forget()
        if self.policy is not None:
            self.policy.reset()
        self.commander.start_over(HoldReason.CLOCK_JUMPED, detail)
        self.outputs.forget()
        if self._timers:
            self._tick_timer.reset()  # it would wait for the time before the jump

    def _on_tick_timer(self) -> None:
        self._loop.request()
        missed = self._loop.missed
        if missed > self._missed:
            self._missed = missed
            self._node.get_logger().warning(
                f'inference is slower than one tick in {self.period:.3f} s: {missed} ticks missed',
                throttle_duration_sec=10.0,
            )

    def _on_watchdog(self) -> None:
        fault = self._clock_watch.look(self._now(), time.monotonic())
        if fault is not None and fault[0] is HoldReason.CLOCK_JUMPED:
            self._start_over(fault[1])
            return
        problem = fault or self.policy.problem()
        if problem is not None:
            self.commander.hold(*problem)
        else:
            self.commander.look_for_late_plan()
