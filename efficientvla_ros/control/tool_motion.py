"""Poses of the tool along a joint trajectory as twists and as continuous quaternions."""

from __future__ import annotations

import numpy as np

from efficientvla_ros.control.rotations import rotation_vector_from_matrix


def tool_twist(start: np.ndarray, end: np.ndarray, duration: float) -> np.ndarray:
    """Returns the constant twist that carries the tool from one pose to another.

    Args:
        start: pose [4, 4] in the base frame.
        end: pose [4, 4] in the base frame.
        duration: time between the two, s.

    Returns:
        float64 [6] in the base frame: velocity of the tool's origin, m/s, then angular velocity,
        rad/s.
    """
    turn = end[:3, :3] @ start[:3, :3].T
    moved = end[:3, 3] - start[:3, 3]
    return np.concatenate([moved, rotation_vector_from_matrix(turn)]) / duration


def twist_in_tool(twist: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """Returns a twist [6] of the base frame in axes of the tool, orientation [3, 3] in the base.

    The linear part stays the velocity of the tool's origin.
    """
    return np.concatenate([rotation.T @ twist[:3], rotation.T @ twist[3:]])


def cap_twist(twist: np.ndarray, max_linear: float, max_angular: float) -> tuple[np.ndarray, bool]:
    """Slows a twist [6] down as a whole, so that the tool keeps to its path.

    Args:
        twist: linear m/s, then angular rad/s.
        max_linear: largest speed of the tool's origin, m/s.
        max_angular: largest angular speed, rad/s.

    Returns:
        The twist, and whether it had to be changed.
    """
    linear, angular = float(np.linalg.norm(twist[:3])), float(np.linalg.norm(twist[3:]))
    excess = max(linear / max_linear, angular / max_angular)
    return (twist / excess, True) if excess > 1.0 else (twist, False)


def nearest_quaternion(quaternion: np.ndarray, previous: np.ndarray | None) -> np.ndarray:
    """Returns the one of q and -q, the same orientation, that is nearer to the previous one.

    Controllers that interpolate or filter quaternions by component take the long way round, or
    pass through zero, when the sign flips.

    Args:
        quaternion: xyzw [4].
        previous: xyzw [4] sent before, None for the first one.
    """
    if previous is not None and float(quaternion @ previous) < 0.0:
        return -quaternion
    return quaternion
