"""Limits on chunks, poses and joint waypoints: pure functions that say what they changed."""

from __future__ import annotations

import numpy as np

from efficientvla_ros.control.rotations import (
    euler_from_matrix,
    matrix_from_euler,
    matrix_from_rotation_vector,
    rotation_vector_from_matrix,
)


def cap_steps(
    actions: np.ndarray, max_translation: float, max_rotation: float
) -> tuple[np.ndarray, int, int]:
    """Shortens steps that are too long; their direction stays.

    Args:
        actions: [horizon, 7] deltas.
        max_translation: longest translation of one step, m.
        max_rotation: largest angle of one step, rad.

    Returns:
        The capped actions, the number of translations and the number of rotations shortened.
    """
    capped = actions.copy()
    lengths = np.linalg.norm(actions[:, :3], axis=1)
    far = lengths > max_translation
    capped[far, :3] *= (max_translation / lengths[far])[:, None]
    turned = 0
    for row in capped:
        # |angle| <= |roll| + |pitch| + |yaw|: most rows need no closer look.
        if np.abs(row[3:6]).sum() <= max_rotation:
            continue
        vector = rotation_vector_from_matrix(matrix_from_euler(*row[3:6]))
        angle = float(np.linalg.norm(vector))
        if angle > max_rotation:
            vector *= max_rotation / angle
            row[3:6] = euler_from_matrix(matrix_from_rotation_vector(vector))
            turned += 1
    return capped, int(far.sum()), turned


def clamp_workspace(
    poses: np.ndarray, anchor: np.ndarray, low: np.ndarray, high: np.ndarray
) -> tuple[np.ndarray, int]:
    """Keeps tool positions inside a box.

    A tool that starts outside is not pulled in, it just cannot go further out.

    Args:
        poses: [steps, 4, 4] tool poses, base frame.
        anchor: [4, 4] tool pose at the start.
        low: [3] lower corner, m.
        high: [3] upper corner, m.

    Returns:
        The clamped poses and how many of them were changed.
    """
    start = anchor[:3, 3]
    clamped = poses.copy()
    clamped[:, :3, 3] = np.clip(poses[:, :3, 3], np.minimum(low, start), np.maximum(high, start))
    changed = (clamped[:, :3, 3] != poses[:, :3, 3]).any(axis=1)
    return clamped, int(changed.sum())


def limit_velocity(
    start: np.ndarray, times: np.ndarray, positions: np.ndarray, max_velocity: np.ndarray
) -> tuple[np.ndarray, int]:
    """Shortens moves between waypoints so that no joint is too fast, also in between.

    A cubic from rest to rest peaks at 1.5 times its mean velocity, hence the factor. All joints
    of a waypoint are scaled alike, which keeps the direction; the next waypoints catch up.

    Args:
        start: [joints] position at time 0.
        times: [points] increasing times > 0, s.
        positions: [points, joints] waypoints.
        max_velocity: [joints] largest velocity, rad/s or m/s.

    Returns:
        The limited waypoints and how many of them were changed.
    """
    limited = positions.copy()
    changed = 0
    last, last_time = start, 0.0
    for row, time in zip(limited, times, strict=True):
        move = row - last
        reach = max_velocity * (time - last_time) / 1.5
        excess = float((np.abs(move) / reach).max())
        if excess > 1.0 + 1e-9:
            row[:] = last + move / excess
            changed += 1
        last, last_time = row, time
    return limited, changed
