"""What the node sends to the robot: trajectories, the gripper, and the plan itself."""

from __future__ import annotations

import contextlib

from rclpy.duration import Duration
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from efficientvla_ros.msg import ActionChunk as ActionChunkMsg
from efficientvla_ros.ros import qos
from efficientvla_ros.ros.conversions import action_chunk, columns, joint_trajectory
from efficientvla_ros.ros.parameter_table import Settings
from efficientvla_ros.types import ActionChunk, JointCommand


class Outputs:
    """Publishers of commands and plans, set up on any node."""

    def __init__(self, node: Node, settings: Settings) -> None:
        """Advertises; `settings` says how arm and gripper are commanded."""
        self._node = node
        self._frame = settings['control.base_frame']
        self._arm = tuple(settings['control.joints'])
        self._gripper = settings['gripper.joint']
        self._gripper_value: float | None = None
        self._trajectory = self._advertise(JointTrajectory, 'joint_trajectory')
        self._chunk = self._advertise(ActionChunkMsg, '~/action_chunk')
        self._gripper_interface = settings['gripper.interface']
        self._gripper_command = None
        if self._gripper_interface in ('trajectory', 'position'):
            kind = {'trajectory': JointTrajectory, 'position': Float64MultiArray}
            self._gripper_command = self._advertise(
                kind[self._gripper_interface], 'gripper_command'
            )

    def _advertise(self, kind: type, topic: str):
        return self._node.create_publisher(
            kind, topic, qos.newest(), qos_overriding_options=qos.overridable()
        )

    def destroy(self) -> None:
        """Withdraws all publishers once the last command has arrived."""
        for publisher in (self._trajectory, self._chunk, self._gripper_command):
            if publisher is None:
                continue
            with contextlib.suppress(rclpy_implementation.RCLError):  # not every middleware can
                publisher.wait_for_all_acked(Duration(seconds=0.5))
            self._node.destroy_publisher(publisher)

    def send(self, command: JointCommand) -> None:
        """Sends a command to arm and gripper."""
        if self._gripper_command is None:
            self._trajectory.publish(joint_trajectory(command, self._frame))
            return
        arm, gripper = columns(command, self._arm), columns(command, (self._gripper,))
        self._trajectory.publish(joint_trajectory(arm, self._frame))
        if self._gripper_interface == 'trajectory':
            self._gripper_command.publish(joint_trajectory(gripper, self._frame))
            return
        value = float(gripper.positions[0, 0])
        if value != self._gripper_value:
            self._gripper_value = value
            self._gripper_command.publish(Float64MultiArray(data=[value]))

    def publish_chunk(self, chunk: ActionChunk) -> None:
        """Publishes a plan on `~/action_chunk`."""
        self._chunk.publish(action_chunk(chunk, self._frame))
