"""The arm commanded by JointTrajectory messages, as joint_trajectory_controller takes them.

Each message replaces the one before: all joints, positions with velocities, the last velocity
zero, times that count from the header's stamp, the first point still to come. A controller that
gets no further message brings the arm to rest at the last point.
"""

from __future__ import annotations

from rclpy.publisher import Publisher

from efficientvla_ros.ros.conversions import joint_trajectory
from efficientvla_ros.types import JointCommand


class TrajectoryOutput:
    """One message a command; the controller does the rest."""

    busy = False

    def __init__(self, publisher: Publisher, frame_id: str) -> None:
        """Sends on a publisher of JointTrajectory."""
        self._publisher = publisher
        self._frame_id = frame_id

    def send(self, command: JointCommand, now_ns: int) -> None:
        """Publishes the command."""
        self._publisher.publish(joint_trajectory(command, self._frame_id))

    def tick(self, now_ns: int) -> bool:
        """Nothing is ever due."""
        return False

    def close(self, now_ns: int) -> float:
        """Nothing is under way here."""
        return 0.0

    def forget(self) -> None:
        """Nothing is remembered."""

    def destroy(self) -> None:
        """Nothing to free."""
