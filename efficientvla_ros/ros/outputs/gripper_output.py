"""Ways to command a gripper that does not ride along with the arm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from action_msgs.msg import GoalStatus
from rclpy.action import ActionClient
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.task import Future
from sensor_msgs.msg import JointState as JointStateMsg
from std_msgs.msg import Float64MultiArray

from efficientvla_ros.control.gripper import GripperSchedule
from efficientvla_ros.ros.conversions import joint_trajectory
from efficientvla_ros.ros.outputs.arm_output import Fault
from efficientvla_ros.ros.parameters.table import Settings
from efficientvla_ros.types import JointCommand


class GripperOutput(Protocol):
    """One way to command a gripper; its user holds a lock around every call."""

    def send(self, command: JointCommand) -> None:
        """Takes a command of the gripper's joint alone."""

    def tick(self, now_ns: int) -> bool:
        """Does what is due at a time in ns; returns whether there will be more to do."""

    def forget(self) -> None:
        """Forgets what was sent, so that the next value counts as a change."""

    def destroy(self) -> None:
        """Frees what is no publisher."""


class GripperTrajectory:
    """JointTrajectory messages; one that changes nothing is not sent."""

    def __init__(self, publisher: Publisher, frame_id: str) -> None:
        """Sends on a publisher of JointTrajectory."""
        self._publisher = publisher
        self._frame_id = frame_id
        self.forget()

    def send(self, command: JointCommand) -> None:
        """Publishes the command unless the gripper stays where it was told to be."""
        values = command.positions[:, 0]
        same = np.append(values, self._steady) if self._steady is not None else None
        if same is not None and np.ptp(same) == 0.0:
            return
        self._steady = float(values[0]) if np.ptp(values) == 0.0 else None
        self._publisher.publish(joint_trajectory(command, self._frame_id))

    def tick(self, now_ns: int) -> bool:
        """Nothing is ever due."""
        return False

    def forget(self) -> None:
        """The next command is sent whatever it says."""
        self._steady: float | None = None

    def destroy(self) -> None:
        """Nothing to free."""


class GripperOnChange:
    """Single positions, each at the time of the step that it belongs to."""

    def __init__(self, schedule: GripperSchedule, target: GripperTarget) -> None:
        """Sends to a target what the schedule says, when it changes."""
        self._schedule = schedule
        self._target = target
        self._sent: float | None = None

    def send(self, command: JointCommand) -> None:
        """Nothing to do: what the gripper is to do is in the schedule."""

    def tick(self, now_ns: int) -> bool:
        """Sends the value that acts now if it is a new one."""
        value = self._schedule.value(now_ns)
        if value is not None and value != self._sent and self._target.deliver(value):
            self._sent = value
        return self._schedule.pending(now_ns) or value != self._sent

    def forget(self) -> None:
        """The next value is sent whatever it is."""
        self._sent = None

    def destroy(self) -> None:
        """Frees the target."""
        self._target.destroy()


class GripperTarget(Protocol):
    """Who takes single positions of the gripper."""

    def deliver(self, value: float) -> bool:
        """Sends a position, m or rad; False where nobody takes it yet."""

    def destroy(self) -> None:
        """Frees what is no publisher."""


class GripperPosition:
    """Float64MultiArray with one value."""

    def __init__(self, publisher: Publisher) -> None:
        """Sends on a publisher of Float64MultiArray."""
        self._publisher = publisher

    def deliver(self, value: float) -> bool:
        """Publishes a position."""
        self._publisher.publish(Float64MultiArray(data=[value]))
        return True

    def destroy(self) -> None:
        """Nothing to free."""


class GripperAction:
    """Goals of a gripper action; a new one replaces the one before, and none is cancelled."""

    def __init__(
        self,
        node: Node,
        kind: type,
        name: str,
        fill: Callable[[object, float], None],
        fault: Fault,
    ) -> None:
        """Sets up the client.

        Args:
            node: the node.
            kind: control_msgs/action/GripperCommand or ParallelGripperCommand.
            name: of the action.
            fill: writes a position into the goal's `command`.
            fault: takes what went wrong.
        """
        self._kind = kind
        self._name = name
        self._fill = fill
        self._fault = fault
        self._newest = 0
        self._client = ActionClient(node, kind, name, callback_group=ReentrantCallbackGroup())

    def deliver(self, value: float) -> bool:
        """Sends a goal; False while no server is there."""
        if not self._client.server_is_ready():
            self._fault('no_gripper_server', f'no gripper action answers on "{self._name}"')
            return False
        goal = self._kind.Goal()
        self._fill(goal.command, value)
        self._newest += 1
        number = self._newest
        future = self._client.send_goal_async(goal)
        future.add_done_callback(lambda done: self._on_response(number, value, done))
        return True

    def _on_response(self, number: int, value: float, future: Future) -> None:
        if future.exception() is not None or not future.result().accepted:
            self._fault('gripper_rejected', f'"{self._name}" rejected the position {value:g}')
            return
        result = future.result().get_result_async()
        result.add_done_callback(lambda done: self._on_result(number, value, done))

    def _on_result(self, number: int, value: float, future: Future) -> None:
        if number != self._newest or future.exception() is not None:
            return  # replaced by a newer goal
        answer = future.result()
        # Fingers that stall hold something: that is what grasping is.
        fine = answer.result.reached_goal or answer.result.stalled
        if answer.status != GoalStatus.STATUS_SUCCEEDED and not fine:
            self._fault('gripper_failed', f'"{self._name}" did not reach the position {value:g}')

    def ready(self) -> bool:
        """Whether an action server is there."""
        return self._client.server_is_ready()

    def destroy(self) -> None:
        """Frees the client."""
        self._client.destroy()


def fill_gripper_command(command: object, value: float, settings: Settings) -> None:
    """Writes a position into a control_msgs/GripperCommand."""
    command.position = value
    command.max_effort = settings['gripper.max_effort']


def fill_parallel_gripper(command: JointStateMsg, value: float, settings: Settings) -> None:
    """Writes a position into the JointState of a ParallelGripperCommand."""
    command.name = [settings['gripper.joint']]
    command.position = [value]
    effort = settings['gripper.max_effort']
    command.effort = [effort] if effort > 0.0 else []
