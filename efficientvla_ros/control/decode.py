"""From an action chunk to absolute tool poses."""

from __future__ import annotations

import numpy as np

from efficientvla_ros.control.rotations import matrix_from_euler
from efficientvla_ros.types import ACTION_DIM, InputError


def check_actions(actions: np.ndarray) -> np.ndarray:
    """Returns the actions as float64 [horizon, 7].

    Raises:
        InputError: the shape is not [horizon, 7] with at least one row.
    """
    actions = np.asarray(actions, dtype=np.float64)
    if actions.ndim != 2 or actions.shape[0] == 0 or actions.shape[1] != ACTION_DIM:
        raise InputError(
            f'action chunk has shape {actions.shape}, expected (horizon, {ACTION_DIM})'
        )
    return actions


def decode_chunk(actions: np.ndarray, anchor: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Chains the deltas of a chunk onto the pose that the tool had at the observation.

    Translations add up in the base frame; each rotation (static-xyz Euler) multiplies the
    orientation before it from the left.

    Args:
        actions: [horizon, 7] deltas, see `efficientvla_ros.types.ACTION_DIM`.
        anchor: tool pose [4, 4] in the base frame.

    Returns:
        Tool poses [horizon, 4, 4] in the base frame, and the gripper value [horizon] of each
        step (1 = open, 0 = closed).

    Raises:
        InputError: the actions do not have the shape [horizon, 7].
    """
    actions = check_actions(actions)
    poses = np.tile(np.eye(4), (len(actions), 1, 1))
    poses[:, :3, 3] = anchor[:3, 3] + np.cumsum(actions[:, :3], axis=0)
    rotation = np.asarray(anchor, dtype=np.float64)[:3, :3]
    for pose, angles in zip(poses, actions[:, 3:6], strict=True):
        rotation = matrix_from_euler(*angles) @ rotation
        pose[:3, :3] = rotation
    return poses, actions[:, 6].copy()
