"""Timed tool poses in the base frame: what plans made at different times can be compared by."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from efficientvla_ros.control.rotations import (
    matrix_from_rotation_vector,
    rotation_vector_from_matrix,
)


@dataclass(frozen=True)
class ToolPath:
    """One plan, decoded on the pose of its observation; step k ends at `times_ns[k]`.

    Attributes:
        stamp_ns: time of the observation, ns.
        anchor: float64 [4, 4] tool pose at that time, base frame.
        times_ns: int64 [steps], when each pose is due, strictly increasing, ns.
        poses: float64 [steps, 4, 4], base frame.
        gripper: float64 [steps], value that acts during the step that ends at that time.
    """

    stamp_ns: int
    anchor: np.ndarray
    times_ns: np.ndarray
    poses: np.ndarray
    gripper: np.ndarray

    @property
    def step_ns(self) -> int:
        """Duration of one step, ns."""
        return int(self.times_ns[0]) - self.stamp_ns

    def after(self, time_ns: int) -> ToolPath:
        """Returns the steps that end after a time; there may be none."""
        left = self.times_ns > time_ns
        return replace(
            self,
            times_ns=self.times_ns[left],
            poses=self.poses[left],
            gripper=self.gripper[left],
        )

    def covers(self, time_ns: int) -> bool:
        """Whether the plan says anything about a time."""
        return self.stamp_ns <= time_ns <= int(self.times_ns[-1])

    def at(self, time_ns: int) -> np.ndarray:
        """Returns the pose [4, 4] at a time; outside the plan the pose at its nearer end."""
        after = int(np.searchsorted(self.times_ns, time_ns, side='left'))
        if after == len(self.times_ns):
            return self.poses[-1]
        begin_ns = self.stamp_ns if after == 0 else int(self.times_ns[after - 1])
        begin = self.anchor if after == 0 else self.poses[after - 1]
        fraction = (time_ns - begin_ns) / (int(self.times_ns[after]) - begin_ns)
        return interpolated(begin, self.poses[after], min(max(fraction, 0.0), 1.0))

    def gripper_at(self, time_ns: int) -> float:
        """Returns the value of the step that a time lies in."""
        step = int(np.searchsorted(self.times_ns, time_ns, side='left'))
        return float(self.gripper[min(step, len(self.gripper) - 1)])


def interpolated(begin: np.ndarray, end: np.ndarray, fraction: float) -> np.ndarray:
    """Returns the pose [4, 4] between two: a straight line and the shortest turn."""
    if fraction >= 1.0:
        return end
    pose = np.eye(4)
    pose[:3, 3] = begin[:3, 3] + fraction * (end[:3, 3] - begin[:3, 3])
    turn = rotation_vector_from_matrix(end[:3, :3] @ begin[:3, :3].T)
    pose[:3, :3] = matrix_from_rotation_vector(fraction * turn) @ begin[:3, :3]
    return pose


def mean_pose(poses: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Returns the weighted mean pose [4, 4].

    The rotation is the one nearest to all in the chordal (Frobenius) sense, which is also the
    mean of the quaternions whatever their signs.

    Args:
        poses: [poses, 4, 4].
        weights: [poses], positive; their sum does not matter.
    """
    weights = weights / weights.sum()
    pose = np.eye(4)
    pose[:3, 3] = weights @ poses[:, :3, 3]
    left, _, right = np.linalg.svd(np.tensordot(weights, poses[:, :3, :3], axes=1))
    left[:, -1] *= np.sign(np.linalg.det(left @ right))
    pose[:3, :3] = left @ right
    return pose
