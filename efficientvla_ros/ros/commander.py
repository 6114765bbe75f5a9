"""Decides whether the arm is commanded: one lock around every command and every hold.

While commanding must not go on, exactly one hold command is sent (the arm brakes to rest and
keeps its grip) and nothing more. Whatever was being planned when the arm was held, stopped or
reset belongs to an older epoch and is thrown away.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from efficientvla_ros.control.reasons import HoldReason

if TYPE_CHECKING:  # pinocchio behind it would slow down the start of the node
    import numpy as np

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
_NOT_HERE_YET = (
    HoldReason.NO_CLOCK,
    HoldReason.NO_IMAGE,
    HoldReason.NO_JOINT_STATE,
    HoldReason.NO_INSTRUCTION,
    HoldReason.NO_ROBOT_DESCRIPTION,
)


class Commander:
    """The only one who sends commands; safe to use from several threads."""

    def __init__(
        self,
        send: Callable[[JointCommand], None],
        clock: Callable[[], int],
        on_change: Callable[[Verdict], None],
    ) -> None:
        """Sets up a commander that is closed.

        Args:
            send: sends a command to the arm.
            clock: current time, ns of the node's clock.
            on_change: told every change of state, reason or detail, outside the lock.
        """
        self._send = send
        self._clock = clock
        self._on_change = on_change
        self._lock = threading.RLock()
        self._controller: ChunkController | None = None
        self._verdict = Verdict(State.IDLE)
        self._open = False
        self._moving = False  # a trajectory of ours may be under way
        self._epoch = 0
        self._started = 0.0
        self.hold_duration = 0.2
        self.commands_sent = 0

    @property
    def epoch(self) -> int:
        """Number that a plan must have been started with to be sent."""
        return self._epoch

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
            self.commands_sent = 0
            self._epoch += 1
            if self._controller is not None:
                self._controller.reset()
            if self._verdict.state not in _LATCHED:
                self._verdict = Verdict(State.HOLDING, HoldReason.STARTING)
            verdict = self._verdict
        self._on_change(verdict)

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
                return None
            result = self._controller.command(chunk, joints, self._clock())
            if result.command is None:
                verdict = self._hold(result.reason, result.detail)
            else:
                self._send(result.command)
                self._moving = True
                self.commands_sent += 1
                verdict = self._change(Verdict(State.RUNNING))
        self._tell(verdict)
        return result

    def hold(self, reason: HoldReason, detail: str, epoch: int | None = None) -> None:
        """Holds the arm until the next command; with an epoch, only if that is still in force."""
        with self._lock:
            if not self._accepts(self._epoch if epoch is None else epoch):
                return
            verdict = self._hold(reason, detail)
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

    def reset(self) -> None:
        """Starts over: a latched stop ends, the plan under way and what was sent are forgotten.

        Nothing is sent: after a reset of the robot or of its clock, a hold at the position of
        the old trajectory could move the arm.
        """
        with self._lock:
            self._epoch += 1
            self._moving = False
            self._started = time.monotonic()
            if self._controller is not None:
                self._controller.reset()
            starting = Verdict(State.HOLDING, HoldReason.STARTING)
            verdict = self._change(starting if self._open else Verdict(State.IDLE))
        self._tell(verdict)

    def _accepts(self, epoch: int) -> bool:
        return self._open and epoch == self._epoch and self._verdict.state not in _LATCHED

    def _hold(self, reason: HoldReason, detail: str) -> Verdict | None:
        now = self._verdict
        fresh = time.monotonic() - self._started < _PATIENCE_S
        if now.reason is HoldReason.STARTING and reason in _NOT_HERE_YET and fresh:
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
        if command is not None:
            self._send(command)

    def _change(self, verdict: Verdict) -> Verdict | None:
        changed = verdict != self._verdict
        self._verdict = verdict
        return verdict if changed else None

    def _tell(self, verdict: Verdict | None) -> None:
        if verdict is not None:
            self._on_change(verdict)
