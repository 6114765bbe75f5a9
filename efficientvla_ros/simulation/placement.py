"""Where an object is to be put down, and whether it is there."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from efficientvla_ros.simulation.cabinet import FLOOR
from efficientvla_ros.simulation.goals import MOVE_NEAR, PLACE_DRAWER, Goal
from efficientvla_ros.simulation.objects import (
    OBJECT_MODELS,
    PLATE,
    PLATE_HEIGHT,
    PLATE_RADIUS,
)
from efficientvla_ros.simulation.table_state import TableState

NEAR_GAP = 0.06
"""Largest gap between two objects that are near each other, m. SIMPLER allows 0.10 m on its larger
table; beside an object the fingers need almost half of that to open."""

_GAP, _CLEAR = 0.030, 0.008
_FAR_FROM_OTHERS = 0.02
_RELEASE_HEIGHT, _DROP_INTO_DRAWER = 0.004, 0.016
_ON_PLATE = 0.75 * PLATE_RADIUS
_REACH_LOWER, _REACH_UPPER = np.array([0.19, -0.20]), np.array([0.42, 0.20])
# So fine that the nearest of them hardly jumps when something on the table moves.
_ANGLES = np.radians(np.arange(0.0, 360.0, 7.5))
_DIRECTIONS = np.stack((np.cos(_ANGLES), np.sin(_ANGLES)), axis=-1)
# Half extents of hand and opening fingers beside the object that they let go of.
_HAND = np.array([0.028, 0.066])


def _radius(name: str) -> float:
    return PLATE_RADIUS if name == PLATE else OBJECT_MODELS[name].radius


def _spots(
    points: Mapping[str, np.ndarray], target: str, reference: str
) -> tuple[np.ndarray, np.ndarray]:
    """Places [n, 2] all around the reference, at which the opening fingers miss it.

    The fingers open sideways, along y: beside the reference the gap [n] is larger.
    """
    radius = _radius(reference)
    ahead = _radius(target) + radius + _GAP
    beside = max(ahead, _HAND[1] + radius + _CLEAR)
    reach = ahead + (beside - ahead) * np.abs(_DIRECTIONS[:, 1])
    spots = points[reference][:2] + reach[:, None] * _DIRECTIONS
    return spots, reach - radius - _radius(target)


def free_spots(points: Mapping[str, np.ndarray], target: str, reference: str) -> np.ndarray:
    """Returns places [n, 2] near the reference that are in reach and clear of all else, m.

    Args:
        points: object or plate -> centre [2 or 3], m.
        target: the object that is to be put down.
        reference: the object that it is to be near.
    """
    spots, gaps = _spots(points, target, reference)
    return spots[_free(spots, gaps, points, target, reference)]


def direct_spot_is_free(points: Mapping[str, np.ndarray], target: str, reference: str) -> bool:
    """Whether nothing keeps the target from the place near the reference that is closest to it.

    Args:
        points: object or plate -> centre [2 or 3], m.
        target: the object that is to be put down.
        reference: the object that it is to be near.
    """
    spots, gaps = _spots(points, target, reference)
    free = _free(spots, gaps, points, target, reference)
    return bool(free[_closest(spots, points[target])])


def _closest(spots: np.ndarray, point: np.ndarray) -> int:
    return int(np.argmin(np.linalg.norm(spots - point[:2], axis=1)))


def _free(
    spots: np.ndarray,
    gaps: np.ndarray,
    points: Mapping[str, np.ndarray],
    target: str,
    reference: str,
) -> np.ndarray:
    """Which places [n, 2], with gaps [n] to the reference, are in reach and clear of all else."""
    free = np.all((spots >= _REACH_LOWER) & (spots <= _REACH_UPPER), axis=1)
    for name, point in points.items():
        if name in (target, reference):
            continue
        apart = np.abs(spots - point[:2])
        radius = _radius(name)
        hit = np.all(apart < _HAND + radius, axis=1)
        # What is put down is to be nearer to the reference than to anything else.
        gap_to_it = np.linalg.norm(apart, axis=1) - radius - _radius(target)
        free &= ~(hit | (gap_to_it < gaps + _FAR_FROM_OTHERS))
    return free


def spot(state: TableState, goal: Goal) -> np.ndarray:
    """Where the centre of the target is to be when the gripper opens, float64 [3], m."""
    model = OBJECT_MODELS[goal.target]
    if goal.task == MOVE_NEAR:
        points = dict(state.objects)
        if state.plate is not None:
            points[PLATE] = state.plate
        spots = free_spots(points, goal.target, goal.reference)
        if not len(spots):
            spots, _ = _spots(points, goal.target, goal.reference)
        closest = spots[_closest(spots, state.objects[goal.target])]
        return np.array([*closest, model.rest_height + _RELEASE_HEIGHT])
    if goal.task == PLACE_DRAWER:
        height = FLOOR + model.rest_height + _DROP_INTO_DRAWER
        return np.array([*state.cabinet.middle, height])
    height = PLATE_HEIGHT + model.rest_height + _RELEASE_HEIGHT
    return np.array([*state.plate[:2], height])


def gap(state: TableState, first: str, second: str) -> float:
    """Lateral gap between two objects, m."""
    apart = np.linalg.norm(state.objects[first][:2] - state.objects[second][:2])
    return float(apart) - _radius(first) - _radius(second)


def placed(state: TableState, goal: Goal) -> bool:
    """Whether the target is where the goal wants it, held or not."""
    position = state.objects[goal.target]
    lift = position[2] - OBJECT_MODELS[goal.target].rest_height
    if goal.task == MOVE_NEAR:
        own = gap(state, goal.target, goal.reference)
        others = [gap(state, goal.target, name) for name in state.objects
                  if name not in (goal.target, goal.reference)]  # fmt: skip
        return lift < 0.008 and own < NEAR_GAP and own < min(others, default=np.inf)
    if goal.task == PLACE_DRAWER:
        return (
            state.cabinet is not None
            and lift < FLOOR + 0.024
            and (state.cabinet.contains(position - (0.0, 0.0, lift)))
        )
    if state.plate is None:
        return False
    aside = np.linalg.norm(position[:2] - state.plate[:2])
    lift -= PLATE_HEIGHT
    return bool(aside < _ON_PLATE and -0.005 < lift < 0.008)
