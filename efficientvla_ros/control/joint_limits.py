"""Joint limits of an arm, narrowed by its user."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from efficientvla_ros.types import InputError

TOLERANCE = 0.05
"""How far outside its limits a joint is still moved, rad or m: measurements are not exact."""


def narrowed(
    names: Sequence[str],
    described: tuple[np.ndarray, np.ndarray],
    wanted: tuple[Sequence[float], Sequence[float]],
    keep: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the limits [joints] in force.

    Args:
        names: joint names, for the message.
        described: lower and upper limits [joints] of the robot description, rad or m.
        wanted: lower and upper limits [joints] of the user.
        keep: a wanted limit of this size (negative for the lower one) keeps the described one.

    Raises:
        InputError: a wanted limit is outside those described.
    """
    lower, upper = (np.asarray(limit, dtype=np.float64) for limit in wanted)
    lower = np.where(lower <= -keep, described[0], lower)
    upper = np.where(upper >= keep, described[1], upper)
    for name, *limits in zip(names, lower, upper, *described, strict=True):
        low, high, first, last = limits
        if not first <= low < high <= last:
            raise InputError(
                f'parameters safety.joint_lower, safety.joint_upper: got [{low:g}, {high:g}] for '
                f'joint "{name}", expected a range within [{first:g}, {last:g}] of '
                'robot_description'
            )
    return lower, upper


def outside(
    names: Sequence[str], positions: np.ndarray, lower: np.ndarray, upper: np.ndarray
) -> str:
    """Says in one line which joint is clearly outside its limits, '' when none is.

    Args:
        names: joint names.
        positions: [joints] measured, rad or m.
        lower: [joints] lower limits.
        upper: [joints] upper limits.
    """
    excess = np.maximum(lower - positions, positions - upper)
    worst = int(np.argmax(excess))
    if excess[worst] <= TOLERANCE:
        return ''
    return (
        f'joint "{names[worst]}" is at {positions[worst]:.3f}, expected '
        f'[{lower[worst]:g}, {upper[worst]:g}]: move the arm back by hand or by another program'
    )
