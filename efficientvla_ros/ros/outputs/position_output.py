"""The arm commanded by positions at a rate, as forward_command_controller takes them."""

from __future__ import annotations

import array

from rclpy.publisher import Publisher
from std_msgs.msg import Float64MultiArray

from efficientvla_ros.control.trajectory_follower import TrajectoryFollower
from efficientvla_ros.ros.outputs.arm_output import ArmLinks, Fault
from efficientvla_ros.ros.outputs.stream_output import StreamOutput


class PositionOutput(StreamOutput):
    """Float64MultiArray with one position a joint, in the order of the command."""

    def __init__(self, publisher: Publisher, links: ArmLinks, fault: Fault) -> None:
        """Sends on a publisher of Float64MultiArray."""
        super().__init__(links, fault)
        self._publisher = publisher

    def _emit(self, follower: TrajectoryFollower, now_ns: int) -> None:
        positions, _ = follower.sample(now_ns)
        self._publisher.publish(Float64MultiArray(data=array.array('d', positions.tobytes())))
