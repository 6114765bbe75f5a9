"""What would be sent to the arm, for viewing."""

from __future__ import annotations

from rclpy.node import Node
from trajectory_msgs.msg import JointTrajectory

from efficientvla_ros.ros import qos
from efficientvla_ros.ros.conversions import joint_trajectory
from efficientvla_ros.types import JointCommand


class DryRun:
    """Publishes commands where no controller listens, set up on any node."""

    def __init__(self, node: Node, frame_id: str) -> None:
        """Advertises `~/dry_run/joint_trajectory`; `frame_id` is the base frame."""
        self._node = node
        self._frame = frame_id
        self._publisher = node.create_publisher(
            JointTrajectory,
            '~/dry_run/joint_trajectory',
            qos.newest(),
            qos_overriding_options=qos.overridable(),
        )

    def show(self, command: JointCommand) -> None:
        """Publishes a command: all joints, the gripper's included."""
        self._publisher.publish(joint_trajectory(command, self._frame))

    def destroy(self) -> None:
        """Withdraws the publisher."""
        self._node.destroy_publisher(self._publisher)
