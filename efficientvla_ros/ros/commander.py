"""Decides whether the arm is commanded: one lock around every command and every hold.

While commanding must not go on, exactly one hold command is sent (the arm brakes to rest and
keeps its grip) and nothing more. Whatever was being planned when the arm was held, stopped or
reset belongs to an older epoch and is thrown away. In a dry run commands are shown, not sent.
"""

from __future__ import annotations

import copy
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np

from efficientvla_ros.control.gate import command_fault
from efficientvla_ros.control.reasons import HoldReason

if TYPE_CHECKING:  # pinocchio behind it would slow down the start of the node
    from efficientvla_ros.control.pipeline import ChunkController, CommandResult
    from efficientvla_ros.types import ActionChunk, JointCommand


class State(IntEnum):
    """What the policy is doing; the values are those of PolicyStatus."""

    UNCONFIGURED = 0
    IDLE = 1
    RUNNING = 2
    HOLDING = 3
    STOPPED = 4
    ERROR = 5

    @property
    def label(self) -> str:
        """What people read: the name in lower case."""
        return self.name.lower()


@dataclass(frozen=True)
class Verdict:
    """A state with the reason for it and one line of detail."""

    state: State
    reason: HoldReason = HoldReason.NONE
    detail: str = ''


_LATCHED = (State.STOPPED, State.ERROR)
_PATIENCE_S = 0.5
_LATE_S = 0.1
_STALE_S = 0.5  # from an arm that moves to one that has moved on
_DRY_RUN = (
    'safety.dry_run is true: nothing goes to the arm, what would be sent is on '
    '~/dry_run/joint_trajectory'
)
_BEGINNINGS = (HoldReason.STARTING, HoldReason.CLOCK_JUMPED)
_NOT_HERE_YET = (
    HoldReason.NO_CONTROLLER,
    HoldReason.NO_CLOCK,
    HoldReason.NO_IMAGE,
    HoldReason.NO_JOINT_STATE,
    HoldReason.NO_INSTRUCTION,
    HoldReason.NO_ROBOT_DESCRIPTION,
)


class Commander:
    """The only one who sends commands; safe to use from several threads.

    Attributes:
        hold_duration: time in which the arm comes to rest when it is held, s.
        commands_sent: commands made from plans since `open`; none of them in a dry run.
        holds: how often the arm was held since `open`, by reason.
        discarded: plans thrown away since `open` because they were out of date when ready.
    """

    def __init__(
        self,
        send: Callable[[JointCommand], None],
        clock: Callable[[], int],
        on_change: Callable[[Verdict], None],
        show: Callable[[JointCommand], None] | None = None,
        dry_run: bool = False,
    ) -> None:
        """Sets up a commander that is closed.

        Args:
            send: sends a command to the arm.
            clock: current time, ns of the node's clock.
            on_change: told every change of state, reason or detail, outside the lock.
            show: takes what would be sent in a dry run.
            dry_run: commands are shown instead of sent.
        """
        self._send = send
        self._show = show or (lambda command: None)
        self._dry_run = dry_run
        self._clock = clock
        self._on_change = on_change
        self._lock = threading.RLock()
        self._controller: ChunkController | None = None
        self._verdict = Verdict(State.IDLE)
        self._open = False
        self._moving = False  # a trajectory of ours may be under way
        self._epoch = 0
        self._started = 0.0
        self._ends_ns = 0  # when the newest command has brought the arm to rest
        self.hold_duration = 0.2
        self.commands_sent = self.discarded = 0
        self.holds: Counter[str] = Counter()

    @property
    def epoch(self) -> int:
        """Number that a plan must have been started with to be sent."""
        return self._epoch

    @property
    def dry_run(self) -> bool:
        """Whether commands are shown instead of sent."""
        return self._dry_run

    @property
    def verdict(self) -> Verdict:
        """State and reason in force."""
        return self._verdict

    @property
    def latched(self) -> bool:
        """Whether the arm is held until `reset`."""
        return self._verdict.state in _LATCHED

    @property
    def controller(self) -> ChunkController | None:
        """What makes commands from chunks; None until the arm is known."""
        return self._controller

    def attach(self, controller: ChunkController | None) -> None:
        """Replaces the controller, holding the arm with the old one first."""
        with self._lock:
            self._brake()
            self._controller = controller

    def open(self) -> None:
        """Allows commands; a latched stop stays."""
        with self._lock:
            self._open = True
            self._moving = False
            self._started = time.monotonic()
            self.commands_sent = self.discarded = 0
            self.holds.clear()
            self._epoch += 1
            if self._controller is not None:
                self._controller.reset()
            if self._verdict.state not in _LATCHED:
                self._change(Verdict(State.HOLDING, HoldReason.STARTING))
            verdict = self._verdict
        self._on_change(verdict)

    def set_dry_run(self, dry_run: bool) -> None:
        """Begins or ends a dry run; either way nothing that is being planned now is sent.

        The arm is held before a dry run, and a real run starts from rest as after `open`.
        """
        with self._lock:
            if dry_run == self._dry_run:
                return
            self._brake()
            self._dry_run = dry_run
            self._epoch += 1
            self._started = time.monotonic()
            if self._controller is not None:
                self._controller.reset()  # the arm is not where the other kind of run had it
            starting = Verdict(State.HOLDING, HoldReason.STARTING)
            verdict = None
            if self._open and self._verdict.state not in _LATCHED:
                verdict = self._change(starting)
        self._tell(verdict)

    def close(self) -> None:
        """Allows no more commands; sends nothing. Call `finish` when the planner has ended."""
        with self._lock:
            self._open = False
            self._epoch += 1

    def finish(self) -> None:
        """Brings the arm to rest: the last command that is sent."""
        with self._lock:
            self._brake()
            if self._verdict.state not in _LATCHED:
                self._verdict = Verdict(State.IDLE)
            verdict = self._verdict
        self._on_change(verdict)

    def execute(self, chunk: ActionChunk, joints: np.ndarray, epoch: int) -> CommandResult | None:
        """Sends the command for a chunk, or holds the arm with the reason why there is none.

        Args:
            chunk: the plan.
            joints: [joints] arm joints when the observation was made, rad or m.
            epoch: `epoch` when the plan was started.

        Returns:
            What was made of the chunk; None when it was thrown away because it is out of date.
        """
        with self._lock:
            if not self._accepts(epoch):
                self.discarded += 1
                return None
            result = self._plan(chunk, np.asarray(joints, dtype=np.float64))
            if result.command is None:
                verdict = self._hold(result.reason, result.detail)
            else:
                verdict = self._command(result.command)
        self._tell(verdict)
        return result

    def _plan(self, chunk: ActionChunk, joints: np.ndarray) -> CommandResult:
        """Makes the command; without it in the result where it must not be sent."""
        controller, before = self._controller, copy.copy(self._controller)
        made_ns = self._clock()
        result = controller.command(chunk, joints, made_ns)
        if result.command is None:
            return result
        fault = command_fault(result.command, controller.kinematics, controller.config, joints)
        fault = fault or self._stale(made_ns)
        if not fault:
            return result
        controller.counters[HoldReason.COMMAND_REJECTED.value] += 1
        before.forget_plans()  # what is not sent must not be remembered as sent
        self._controller = before
        return replace(result, command=None, reason=HoldReason.COMMAND_REJECTED, detail=fault)

    def _stale(self, made_ns: int) -> str:
        """Says so where the process stood still meanwhile: the arm is elsewhere by now."""
        age = (self._clock() - made_ns) * 1e-9
        if age <= _STALE_S:
            return ''
        return f'it took {age:.2f} s to make, expected at most {_STALE_S} s'

    def _command(self, command: JointCommand) -> Verdict | None:
        self._emit(command)
        self._controller.sent(self._clock())
        self._moving = True
        self._ends_ns = command.stamp_ns + round(float(command.times[-1]) * 1e9)
        if self._dry_run:
            return self._change(Verdict(State.HOLDING, HoldReason.DRY_RUN, _DRY_RUN))
        self.commands_sent += 1
        return self._change(Verdict(State.RUNNING))

    def _emit(self, command: JointCommand) -> None:
        (self._show if self._dry_run else self._send)(command)

    def hold(self, reason: HoldReason, detail: str, epoch: int | None = None) -> bool:
        """Holds the arm until the next command; with an epoch, only if that is still in force.

        Returns:
            False where the epoch is out of date or the arm is not commanded anyway.
        """
        with self._lock:
            if not self._accepts(self._epoch if epoch is None else epoch):
                return False
            verdict = self._hold(reason, detail)
        self._tell(verdict)
        return True

    def look_for_late_plan(self) -> None:
        """Says so when the newest command has ended and no plan followed; call now and then.

        The arm rests by then. The plan that is being made stays wanted.
        """
        with self._lock:
            late = (self._clock() - self._ends_ns) * 1e-9
            if self._verdict.state is not State.RUNNING or late < _LATE_S:
                return
            self._moving = False
            detail = f'no new plan although the last one ended {late:.2f} s ago'
            verdict = self._change(Verdict(State.HOLDING, HoldReason.INFERENCE_LATE, detail))
        self._tell(verdict)

    def latch(self, state: State, reason: HoldReason, detail: str = '') -> None:
        """Holds the arm until `reset`."""
        with self._lock:
            self._brake()
            self._epoch += 1
            verdict = self._change(Verdict(state, reason, detail))
        self._tell(verdict)

    def discard(self) -> None:
        """Throws away what is being planned now; the arm follows the plan it has."""
        with self._lock:
            self._epoch += 1
            if self._controller is not None:
                self._controller.forget_plans()

    def start_over(self, reason: HoldReason, detail: str) -> None:
        """Forgets the plan under way and what was sent, as `reset` does; a latched stop stays."""
        with self._lock:
            if self.latched:
                self._forget()
                return
            verdict = self._started_over(Verdict(State.HOLDING, reason, detail))
        self._tell(verdict)

    def reset(self) -> None:
        """Starts over: a latched stop ends, the plan under way and what was sent are forgotten.

        Nothing is sent: after a reset of the robot or of its clock, a hold at the position of
        the old trajectory could move the arm.
        """
        with self._lock:
            verdict = self._started_over(Verdict(State.HOLDING, HoldReason.STARTING))
        self._tell(verdict)

    def _started_over(self, verdict: Verdict) -> Verdict | None:
        self._forget()
        return self._change(verdict if self._open else Verdict(State.IDLE))

    def _forget(self) -> None:
        self._epoch += 1
        self._moving = False
        self._started = time.monotonic()
        if self._controller is not None:
            self._controller.reset()

    def _accepts(self, epoch: int) -> bool:
        return self._open and epoch == self._epoch and self._verdict.state not in _LATCHED

    def _hold(self, reason: HoldReason, detail: str) -> Verdict | None:
        now = self._verdict
        fresh = time.monotonic() - self._started < _PATIENCE_S
        if now.reason in _BEGINNINGS and reason in _NOT_HERE_YET and fresh:
            return None  # what comes by topics needs a moment: no complaint right after the start
        if now.state is not State.HOLDING or now.reason is not reason:
            self._brake()
            self._epoch += 1
        return self._change(Verdict(State.HOLDING, reason, detail))

    def _brake(self) -> None:
        if not self._moving or self._controller is None:
            return
        self._moving = False
        command = self._controller.stop_command(None, self._clock(), self.hold_duration)
        if command is not None and np.isfinite(command.positions).all():
            self._emit(command)

    def _change(self, verdict: Verdict) -> Verdict | None:
        before, self._verdict = self._verdict, verdict
        changed = verdict != before
        if verdict.reason is not HoldReason.NONE and verdict.reason is not before.reason:
            self.holds[verdict.reason.value] += 1
        return verdict if changed else None

    def _tell(self, verdict: Verdict | None) -> None:
        if verdict is not None:
            self._on_change(verdict)
