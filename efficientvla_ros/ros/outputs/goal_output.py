"""The arm commanded by FollowJointTrajectory goals, one plan at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from action_msgs.msg import GoalStatus
from rclpy.action import ActionClient
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node
from rclpy.task import Future

from efficientvla_ros.ros.conversions import joint_trajectory
from efficientvla_ros.ros.outputs.arm_output import ArmLinks, Fault
from efficientvla_ros.ros.parameters.table import Settings
from efficientvla_ros.types import JointCommand

if TYPE_CHECKING:
    from rclpy.action.client import ClientGoalHandle

_ERRORS = {
    -1: 'invalid_goal',
    -2: 'invalid_joints',
    -3: 'old_header_timestamp',
    -4: 'path_tolerance_violated',
    -5: 'goal_tolerance_violated',
}
"""Error codes of FollowJointTrajectory.Result, as its constants are called."""
_CANCEL_S = 1.0


@dataclass(eq=False)
class _Goal:
    """A goal that was sent; the deadline is when it counts as lost, ns."""

    deadline_ns: int
    handle: ClientGoalHandle | None = None
    cancelled: bool = False


class GoalOutput:
    """An action client: sends a plan when no goal is under way, and cancels to brake."""

    def __init__(
        self,
        node: Node,
        kind: type,
        name: str,
        frame_id: str,
        links: ArmLinks,
        fault: Fault,
        settings: Callable[[], Settings],
    ) -> None:
        """Sets up the client.

        Args:
            node: the node.
            kind: control_msgs/action/FollowJointTrajectory.
            name: of the action.
            frame_id: for the header of the trajectory.
            links: `free` is called when a goal has ended.
            fault: takes what went wrong.
            settings: the settings in force.
        """
        self._kind = kind
        self._name = name
        self._frame_id = frame_id
        self._free = links.free
        self._fault = fault
        self._settings = settings
        self._lock = threading.RLock()
        self._goals: list[_Goal] = []  # the newest one last; the others were preempted by it
        self._client = ActionClient(node, kind, name, callback_group=ReentrantCallbackGroup())

    @property
    def busy(self) -> bool:
        """Whether a goal is under way that a new plan must not replace."""
        return bool(self._goals) and not self._settings()['command.preempt']

    def send(self, command: JointCommand, now_ns: int) -> None:
        """Sends a goal, or cancels for a command that brakes."""
        with self._lock:
            if command.brakes:
                self._cancel_all(now_ns)
            elif self.busy:
                self._fault('goal_under_way', '')
            elif not self._client.server_is_ready():
                self._fault('no_action_server', f'no action server answers on "{self._name}"')
            else:
                self._send(_from_now(command, now_ns), now_ns)

    def _send(self, command: JointCommand, now_ns: int) -> None:
        message = self._kind.Goal()
        message.trajectory = joint_trajectory(command, self._frame_id)
        lasts = command.times[-1] + self._settings()['command.goal_timeout']
        goal = _Goal(now_ns + round(lasts * 1e9))
        self._goals.append(goal)
        future = self._client.send_goal_async(message)
        future.add_done_callback(lambda done: self._on_response(goal, done))

    def _on_response(self, goal: _Goal, future: Future) -> None:
        if future.exception() is not None or not future.result().accepted:
            self._fault('goal_rejected', f'"{self._name}" rejected the goal')
            self._ended(goal)
            return
        with self._lock:
            goal.handle = future.result()
            if goal.cancelled or goal not in self._goals:
                goal.handle.cancel_goal_async()
        result = goal.handle.get_result_async()
        result.add_done_callback(lambda done: self._on_result(goal, done))

    def _on_result(self, goal: _Goal, future: Future) -> None:
        newest = bool(self._goals) and goal is self._goals[-1]
        if newest and future.exception() is None and not goal.cancelled:
            self._judge(future.result())
        self._ended(goal)

    def _judge(self, answer: object) -> None:
        """Reports a goal that ended otherwise than it should."""
        code, text = answer.result.error_code, ' '.join(answer.result.error_string.split())[:200]
        if answer.status == GoalStatus.STATUS_SUCCEEDED and code == 0:
            return
        status = {GoalStatus.STATUS_CANCELED: 'cancelled'}.get(answer.status, 'aborted')
        error = _ERRORS.get(code, f'error code {code}')
        kind = f'goal_{_ERRORS[code]}' if code in _ERRORS else f'goal_{status}'
        said = f' ({text})' if text else ''
        self._fault(kind, f'"{self._name}" {status} the goal: {error}{said}')

    def _ended(self, goal: _Goal) -> None:
        with self._lock:
            known = goal in self._goals
            if known:
                self._goals.remove(goal)
            free = known and not self._goals
        if free:
            self._free()

    def tick(self, now_ns: int) -> bool:
        """Gives up goals whose result does not come; returns whether one is under way."""
        with self._lock:
            lost = [goal for goal in self._goals if now_ns > goal.deadline_ns]
            for goal in lost:
                self._fault('goal_lost', f'"{self._name}" gave no result in time')
                self._cancel(goal, now_ns)
        for goal in lost:
            self._ended(goal)
        return bool(self._goals)

    def _cancel_all(self, now_ns: int) -> None:
        for goal in self._goals:
            self._cancel(goal, now_ns)

    def _cancel(self, goal: _Goal, now_ns: int) -> None:
        if goal.cancelled:
            return
        goal.cancelled = True
        goal.deadline_ns = now_ns + round(_CANCEL_S * 1e9)
        if goal.handle is not None:
            goal.handle.cancel_goal_async()

    def close(self, now_ns: int) -> float:
        """Cancels what is under way; returns how long an answer may take, s."""
        with self._lock:
            self._cancel_all(now_ns)
            return _CANCEL_S if self._goals else 0.0

    def forget(self) -> None:
        """Cancels what is under way and waits for nothing."""
        with self._lock:
            self._cancel_all(0)
            self._goals.clear()

    def ready(self) -> bool:
        """Whether an action server is there."""
        return self._client.server_is_ready()

    def destroy(self) -> None:
        """Frees the client."""
        self._client.destroy()


def _from_now(command: JointCommand, now_ns: int) -> JointCommand:
    """Returns the command with times that count from now; points that have passed are left out.

    Servers other than joint_trajectory_controller start to count when they accept the goal.
    """
    times = command.times - (now_ns - command.stamp_ns) * 1e-9
    left = times > 0.0
    return replace(
        command,
        stamp_ns=now_ns,
        times=times[left],
        positions=command.positions[left],
        velocities=command.velocities[left],
    )
