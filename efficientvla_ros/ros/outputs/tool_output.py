"""The arm commanded by poses or twists of its tool at a rate."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from geometry_msgs.msg import PoseStamped, TwistStamped
from rclpy.publisher import Publisher

from efficientvla_ros.control.rotations import quaternion_from_matrix
from efficientvla_ros.control.tool_motion import (
    cap_twist,
    nearest_quaternion,
    tool_twist,
    twist_in_tool,
)
from efficientvla_ros.control.trajectory_follower import TrajectoryFollower
from efficientvla_ros.ros.conversions import stamp_from_ns
from efficientvla_ros.ros.outputs.arm_output import ArmLinks, Fault
from efficientvla_ros.ros.outputs.stream_output import StreamOutput
from efficientvla_ros.ros.parameters.table import Settings
from efficientvla_ros.types import JointCommand

if TYPE_CHECKING:
    from efficientvla_ros.control.kinematics import ArmKinematics

_ZERO_TWISTS = 10
_FADE_NS = 500_000_000


class _Tool:
    """Poses of the tool, computed by a copy of the kinematics for the stream's thread."""

    def __init__(self, source: Callable[[], ArmKinematics | None]) -> None:
        self._source = source
        self._original: ArmKinematics | None = None
        self._kinematics: ArmKinematics | None = None

    def pose(self, joints: np.ndarray) -> np.ndarray | None:
        """Pose [4, 4] in the base frame at joint positions [joints]; None without an arm."""
        original = self._source()
        if original is not self._original:
            self._original = original
            self._kinematics = None if original is None else original.copy()
        return None if self._kinematics is None else self._kinematics.fk(joints)


class PoseOutput(StreamOutput):
    """PoseStamped of the tool in the base frame, stamped with the time it is meant for."""

    def __init__(
        self, publisher: Publisher, links: ArmLinks, fault: Fault, settings: Settings
    ) -> None:
        """Sends on a publisher of PoseStamped."""
        super().__init__(links, fault)
        self._publisher = publisher
        self._frame_id = settings['control.base_frame']
        self._tool = _Tool(links.kinematics)
        self._quaternion: np.ndarray | None = None

    def _emit(self, follower: TrajectoryFollower, now_ns: int) -> None:
        matrix = self._tool.pose(follower.sample(now_ns)[0])
        if matrix is None:
            return
        quaternion = quaternion_from_matrix(matrix[:3, :3])
        self._quaternion = nearest_quaternion(quaternion, self._quaternion)
        message = PoseStamped()
        message.header.stamp = stamp_from_ns(now_ns)
        message.header.frame_id = self._frame_id
        position, orientation = message.pose.position, message.pose.orientation
        position.x, position.y, position.z = matrix[:3, 3].tolist()
        orientation.x, orientation.y, orientation.z, orientation.w = self._quaternion.tolist()
        self._publisher.publish(message)


class TwistOutput(StreamOutput):
    """TwistStamped of the tool, the mean over one period: MoveIt Servo's `speed_units`.

    A velocity has no memory: what an arm has fallen behind would never be made good. Every plan
    therefore begins at the measured joints, and what they differ from the desired ones fades out
    over half a second. At the end of a trajectory ten zero twists follow and then silence.
    """

    def __init__(
        self, publisher: Publisher, links: ArmLinks, fault: Fault, settings: Settings
    ) -> None:
        """Sends on a publisher of TwistStamped."""
        super().__init__(links, fault)
        self._publisher = publisher
        self._in_tool = settings['command.twist_frame'] == 'tcp'
        self._frame_id = settings['control.tcp_frame' if self._in_tool else 'control.base_frame']
        self._period_ns = round(1e9 / settings['command.rate'])
        self._tool = _Tool(links.kinematics)
        self._behind: TrajectoryFollower | None = None  # measured minus desired, fading out
        self._zeros = _ZERO_TWISTS
        self.max_linear = settings['command.max_linear_velocity']
        self.max_angular = settings['command.max_angular_velocity']

    def send(self, command: JointCommand, now_ns: int) -> None:
        """Goes on with another trajectory; a command that brakes only slows the tool down."""
        if command.brakes and self._follower is not None:
            due_ns = command.stamp_ns + round(command.times[-1] * 1e9)
            self._keep_time(self._follower, now_ns)
            for part in (self._follower, self._behind):
                _slow_down(part, now_ns, max(due_ns, now_ns + self._period_ns))
        else:
            super().send(command, now_ns)
            self._catch_up(command, now_ns)
        self._zeros = 0

    def _catch_up(self, command: JointCommand, now_ns: int) -> None:
        measured = self._measured(command)
        if self._follower is None or measured is None:
            return
        behind = measured - self._follower.sample(now_ns)[0]
        if self._behind is None:
            self._behind = TrajectoryFollower(behind, now_ns)
        # Within the plan, so that the arm rests at its end, but never abruptly.
        fade_ns = min(_FADE_NS, max(_FADE_NS // 5, self._follower.end_ns - now_ns))
        none = np.zeros((1, len(behind)))
        self._behind.follow(np.array([now_ns + fade_ns]), none, none, now_ns, behind)

    def forget(self) -> None:
        """Says zero and falls silent: that stops an arm wherever it is."""
        for part in (self._follower, self._behind):
            if part is not None:
                part.hold(part.sample(self._last_ns)[0], self._last_ns)
        self._zeros = 0

    def close(self, now_ns: int) -> float:
        """Falls silent after the zero twists; returns how long that takes, s."""
        return super().close(now_ns) + _ZERO_TWISTS * self._period_ns * 1e-9

    def _held_up(self, gap_ns: int) -> None:
        if self._behind is not None:
            self._behind.delay(gap_ns)

    def _is_over(self, follower: TrajectoryFollower, now_ns: int) -> bool:
        over = self._zeros >= _ZERO_TWISTS
        if over:
            self._behind = None
        return over

    def _joints(self, follower: TrajectoryFollower, now_ns: int) -> np.ndarray:
        """Where the arm is to be at a time in ns, [joints]."""
        positions, _ = follower.sample(now_ns)
        return positions if self._behind is None else positions + self._behind.sample(now_ns)[0]

    def _emit(self, follower: TrajectoryFollower, now_ns: int) -> None:
        end_ns = max(follower.end_ns, self._behind.end_ns if self._behind is not None else 0)
        if now_ns >= end_ns:
            self._zeros += 1
            self._publish(np.zeros(6), now_ns)
            return
        start = self._tool.pose(self._joints(follower, now_ns))
        end = self._tool.pose(self._joints(follower, now_ns + self._period_ns))
        if start is None or end is None:
            return
        twist = tool_twist(start, end, self._period_ns * 1e-9)
        twist, capped = cap_twist(twist, self.max_linear, self.max_angular)
        if capped:
            self._fault('twist_capped', '')
        self._publish(twist_in_tool(twist, start[:3, :3]) if self._in_tool else twist, now_ns)

    def _publish(self, twist: np.ndarray, now_ns: int) -> None:
        message = TwistStamped()
        message.header.stamp = stamp_from_ns(now_ns)
        message.header.frame_id = self._frame_id
        linear, angular = message.twist.linear, message.twist.angular
        linear.x, linear.y, linear.z, angular.x, angular.y, angular.z = twist.tolist()
        self._publisher.publish(message)


def _slow_down(part: TrajectoryFollower | None, now_ns: int, due_ns: int) -> None:
    """Brings a motion to rest from where it is: an arm that is behind must not be driven on."""
    if part is None:
        return
    positions, velocities = part.sample(now_ns)
    # A constant deceleration to rest covers half of velocity * duration.
    target = positions + 0.5e-9 * (due_ns - now_ns) * velocities
    part.follow(np.array([due_ns]), target[None], np.zeros_like(target)[None], now_ns)
