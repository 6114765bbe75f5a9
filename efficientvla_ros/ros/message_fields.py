"""Reads fields of messages, whoever made them: rclpy's and those of `rosbags` look the same."""

from __future__ import annotations

from typing import Any

import numpy as np

from efficientvla_ros.types import InputError, JointState

_SECOND = 1_000_000_000


def stamp_to_ns(stamp: Any) -> int:
    """Returns a time message as ns."""
    return stamp.sec * _SECOND + stamp.nanosec


def joint_state(message: Any, names: tuple[str, ...], stamp_ns: int) -> JointState:
    """Picks the joints named out of a JointState message, in the order of `names`.

    Velocities are None where the message has none for every joint, or one is not finite: many
    drivers fill them with NaN.

    Raises:
        InputError: a joint is missing, or a position is missing or not finite.
    """
    found = {name: index for index, name in enumerate(message.name)}
    missing = [name for name in names if name not in found]
    if missing:
        raise InputError(
            f'joint_states: no joint {", ".join(missing)}, it has {", ".join(found) or "none"}'
        )
    if len(message.position) != len(message.name):
        raise InputError(
            f'joint_states: {len(message.position)} positions for {len(message.name)} joints, '
            'expected one each'
        )
    places = [found[name] for name in names]
    positions = _picked(message.position, places)
    if not np.isfinite(positions).all():
        raise InputError(f'joint_states: positions {positions.tolist()} are not finite')
    velocities = None
    if len(message.velocity) == len(message.name):
        velocities = _picked(message.velocity, places)
        if not np.isfinite(velocities).all():
            velocities = None
    return JointState(names, positions, stamp_ns, velocities)


def _picked(values: Any, places: list[int]) -> np.ndarray:
    return np.array([values[place] for place in places], dtype=np.float64)
