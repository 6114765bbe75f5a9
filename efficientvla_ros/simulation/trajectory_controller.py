"""The simulated arm's controller, with joint_trajectory_controller's rules for its topic.

Points that have passed by the time a message arrives are dropped; the arm goes from its current
desired state to the first remaining point. That is what joint_trajectory_controller does (with
`interpolate_from_desired_state`) to a message whose first point is still to come.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from efficientvla_ros.control.trajectory_follower import TrajectoryFollower

_NS = 1_000_000_000


class JointTrajectoryController:
    """Turns trajectory messages into the desired joint state at any time.

    All vectors are in the order of `joint_names`, whatever the order in a message. Until `reset`
    is called the arm is held at zero.
    """

    def __init__(self, joint_names: Sequence[str]) -> None:
        """Sets up a controller of these joints; every message has to name all of them."""
        self.joint_names = tuple(joint_names)
        self._follower = TrajectoryFollower(np.zeros(len(self.joint_names)), 0)

    def reset(self, positions: np.ndarray, now_ns: int = 0) -> None:
        """Forgets the trajectory and holds at positions [joints], rad or m."""
        self._follower.hold(positions, now_ns)

    def accept(
        self,
        names: Sequence[str],
        stamp_ns: int,
        times: np.ndarray,
        positions: np.ndarray,
        velocities: np.ndarray | None,
        now_ns: int,
    ) -> tuple[bool, str]:
        """Takes a trajectory message; a rejected one leaves the running trajectory alone.

        Args:
            names: joint names of the columns.
            stamp_ns: time that `times` count from, ns; 0 means now.
            times: [points] seconds after the stamp; no point at all means stop and hold.
            positions: [points, joints], rad or m.
            velocities: [points, joints], rad/s or m/s, or None for straight lines.
            now_ns: current time, ns.

        Returns:
            Whether it was accepted, and one line that says why not ('' when it was).
        """
        times = np.asarray(times, dtype=np.float64)
        if times.size == 0:
            self._follower.hold(self.sample(now_ns)[0], now_ns)
            return True, ''
        positions = np.asarray(positions, dtype=np.float64)
        if velocities is not None:
            velocities = np.asarray(velocities, dtype=np.float64)
        reason = self._names_fault(names) or _points_fault(
            times, positions, velocities, len(self.joint_names)
        )
        if reason:
            return False, reason
        start_ns = stamp_ns if stamp_ns != 0 else now_ns
        due_ns = start_ns + np.round(times * _NS).astype(np.int64)
        columns = [list(names).index(name) for name in self.joint_names]
        velocities = None if velocities is None else velocities[:, columns]
        reason = self._follower.follow(due_ns, positions[:, columns], velocities, now_ns)
        return not reason, reason

    def sample(self, now_ns: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the desired positions [joints] and velocities [joints] at a time in ns."""
        return self._follower.sample(now_ns)

    def _names_fault(self, names: Sequence[str]) -> str:
        unknown = [name for name in names if name not in self.joint_names]
        if unknown:
            return f'unknown joints {unknown}, expected {list(self.joint_names)}'
        missing = [name for name in self.joint_names if name not in names]
        if missing:
            return f'joints {missing} are missing, expected all of {list(self.joint_names)}'
        if len(names) != len(self.joint_names):
            return f'joints {list(names)} name a joint twice'
        return ''


def _points_fault(
    times: np.ndarray, positions: np.ndarray, velocities: np.ndarray | None, joints: int
) -> str:
    """Says in one line what is wrong with the points, '' if nothing is."""
    expected = (len(times), joints)
    if times.ndim != 1 or positions.shape != expected:
        return f'positions have shape {positions.shape}, expected {expected}'
    if velocities is not None and velocities.shape != expected:
        return f'velocities have shape {velocities.shape}, expected {expected}'
    values = [times, positions] + ([] if velocities is None else [velocities])
    if not all(np.isfinite(value).all() for value in values):
        return 'a time, position or velocity is not finite'
    if times[0] < 0.0 or (np.diff(np.round(times * _NS)) <= 0.0).any():
        return 'times are not strictly increasing from 0 on'
    if velocities is not None and np.abs(velocities[-1]).max() > 1e-6:
        return 'velocities of the last point are not zero: the arm would not stop'
    return ''
