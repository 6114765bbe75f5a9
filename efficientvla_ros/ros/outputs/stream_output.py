"""Commands as a stream of samples at a rate: the part that all streams have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from efficientvla_ros.control.trajectory_follower import TrajectoryFollower
from efficientvla_ros.ros.outputs.arm_output import ArmLinks, Fault
from efficientvla_ros.types import JointCommand

_NS = 1_000_000_000
_LARGEST_GAP_NS = 100_000_000
_TAIL_S = 0.1


class StreamOutput(ABC):
    """Follows the commands' trajectories and sends a sample of them with every tick.

    A stream begins at the measured joints with the first command, and goes on at the last point
    of a plan. After a command that brakes it says for 0.1 s more where the arm rests and then
    falls silent; the next command begins at the measured joints again.
    """

    busy = False

    def __init__(self, links: ArmLinks, fault: Fault) -> None:
        """Sets up a stream that is silent."""
        self._links = links
        self._fault = fault
        self._follower: TrajectoryFollower | None = None
        self._closing = False
        self._last_ns = 0

    @abstractmethod
    def _emit(self, follower: TrajectoryFollower, now_ns: int) -> None:
        """Sends what is due at a time in ns."""

    def _is_over(self, follower: TrajectoryFollower, now_ns: int) -> bool:
        return self._closing and now_ns > follower.end_ns + _TAIL_S * _NS

    def send(self, command: JointCommand, now_ns: int) -> None:
        """Goes on with another trajectory, without a jump in position or velocity."""
        if self._follower is None:
            measured = self._measured(command)
            if measured is None:
                self._fault('command_dropped', 'the arm cannot be commanded: no joint state')
                return
            self._follower = TrajectoryFollower(measured, now_ns)
            self._last_ns = now_ns
        self._keep_time(self._follower, now_ns)
        times_ns = command.stamp_ns + np.round(command.times * _NS).astype(np.int64)
        reason = self._follower.follow(times_ns, command.positions, command.velocities, now_ns)
        if reason:
            self._fault('command_expired', f'a command came too late: {reason}')
        self._closing = command.brakes

    def tick(self, now_ns: int) -> bool:
        """Sends a sample; False once the stream has fallen silent."""
        follower = self._follower
        if follower is None:
            return False
        self._keep_time(follower, now_ns)
        if self._is_over(follower, now_ns):
            self._follower = None
            return False
        self._emit(follower, now_ns)
        return True

    def close(self, now_ns: int) -> float:
        """Falls silent once the arm rests; returns how long that takes, s."""
        self._closing = True
        if self._follower is None:
            return 0.0
        return max(0.0, (self._follower.end_ns - now_ns) / _NS) + _TAIL_S

    def forget(self) -> None:
        """Falls silent at once."""
        self._follower = None
        self._closing = False

    def destroy(self) -> None:
        """Falls silent; there is nothing to free."""
        self.forget()

    def _keep_time(self, follower: TrajectoryFollower, now_ns: int) -> None:
        """Goes on where the stream was after the clock or this process was held up.

        What was missed would be a jump for a controller that takes every sample as it is.
        """
        gap = now_ns - self._last_ns
        self._last_ns = now_ns
        if not 0 <= gap <= _LARGEST_GAP_NS:
            follower.delay(gap)
            self._held_up(gap)
            self._fault('stream_held_up', f'the command stream was held up: {gap / _NS:.3f} s')

    def _held_up(self, gap_ns: int) -> None:  # noqa: B027 - most streams have nothing to add
        """Delays what else depends on the time."""

    def _measured(self, command: JointCommand) -> np.ndarray | None:
        """Measured positions of the command's joints [joints]; None when they are not known."""
        state = self._links.joints()
        if state is None:
            return None
        found = dict(zip(state.names, state.positions))
        # A gripper that is not in the joint states begins where it is told to go.
        known = dict(zip(command.names[-1:], command.positions[0, -1:])) | found
        if not set(command.names) <= set(known) or command.names[0] not in found:
            return None
        return np.array([known[name] for name in command.names])
