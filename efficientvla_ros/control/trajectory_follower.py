"""Desired joint state under trajectories that replace one another in mid-motion."""

from __future__ import annotations

import numpy as np

from efficientvla_ros.control.trajectory import Trajectory

_NS = 1e-9


class TrajectoryFollower:
    """Follows trajectories as joint_trajectory_controller does. For one thread.

    A new trajectory replaces the old one at once: points that have passed are dropped, and the
    way to the first one left begins at the desired state of now (what the controller does with
    `interpolate_from_desired_state`), so position and velocity never jump. After the last point
    it is held.
    """

    def __init__(self, positions: np.ndarray, now_ns: int) -> None:
        """Holds at positions [joints], rad or m, from a time in ns on."""
        self.hold(positions, now_ns)

    @property
    def end_ns(self) -> int:
        """Time of the last point, ns: nothing moves after it."""
        return int(self._trajectory.times_ns[-1])

    def hold(self, positions: np.ndarray, now_ns: int) -> None:
        """Forgets the trajectory and holds at positions [joints], rad or m."""
        self._trajectory = Trajectory.hold(positions, now_ns)

    def follow(
        self,
        times_ns: np.ndarray,
        positions: np.ndarray,
        velocities: np.ndarray | None,
        now_ns: int,
        start: np.ndarray | None = None,
    ) -> str:
        """Replaces the trajectory; one that is all past leaves the old one in force.

        Args:
            times_ns: int64 [points], strictly increasing, ns.
            positions: [points, joints], rad or m.
            velocities: [points, joints], rad/s or m/s, or None for straight lines.
            now_ns: current time, ns.
            start: [joints] where the way begins instead of at the desired positions; its velocity
                is the desired one all the same.

        Returns:
            One line that says why it was rejected, '' when it was not.
        """
        if times_ns[-1] < now_ns:
            late = (now_ns - int(times_ns[-1])) * _NS
            return f'all {len(times_ns)} points are in the past, the last by {late:.3f} s'
        if times_ns[-1] == now_ns:  # a jump, but one that was asked for
            self.hold(positions[-1], now_ns)
            return ''
        # Among others, a point that is due right now has passed: no jump to it.
        remaining = times_ns > now_ns
        times_ns, positions = times_ns[remaining], positions[remaining]
        velocities = None if velocities is None else velocities[remaining]
        now_positions, now_velocities = self.sample(now_ns)
        times_ns = np.concatenate([[now_ns], times_ns])
        positions = np.vstack([now_positions if start is None else start, positions])
        if velocities is not None:
            velocities = np.vstack([now_velocities, velocities])
        self._trajectory = Trajectory(times_ns, positions, velocities)
        return ''

    def delay(self, duration_ns: int) -> None:
        """Shifts the trajectory in time; negative values bring it forward."""
        old = self._trajectory
        self._trajectory = Trajectory(old.times_ns + duration_ns, old.positions, old.velocities)

    def sample(self, now_ns: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the desired positions [joints] and velocities [joints] at a time in ns."""
        return self._trajectory.sample(now_ns)
