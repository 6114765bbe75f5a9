"""Draws what stands where in the tasks with furniture, and what the settings change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from efficientvla_ros.simulation.cabinet import HALF_WIDTH, TRAVEL, Cabinet
from efficientvla_ros.simulation.goals import (
    CLOSE_DRAWER,
    MOVE_NEAR,
    OPEN_DRAWER,
    PLACE_DRAWER,
    PLACE_PLATE,
    TEMPLATES,
    Goal,
    goal_for,
)
from efficientvla_ros.simulation.objects import DRAWER, OBJECT_MODELS, PLATE, PLATE_RADIUS
from efficientvla_ros.simulation.placement import direct_spot_is_free
from efficientvla_ros.simulation.variation import Motion

Place = tuple[float, float]

SPACING = 0.105
"""Smallest distance between two objects' centres, m: the open fingers fit in between."""

TABLE_LOWER, TABLE_UPPER = (0.22, -0.16), (0.39, 0.16)
"""Where objects stand at the start where there is no cabinet (x, y), m."""

_FROM_PLATE = PLATE_RADIUS + 0.055
_APART = 0.15
_BESIDE_CABINET = (-0.16, 0.025)
_EXTRA_LOWER, _EXTRA_UPPER = (0.18, -0.22), (0.44, 0.22)
_EXTRA_SPACING = 0.085
_TRIES = 400


@dataclass(frozen=True)
class Layout:
    """What an episode starts with.

    Attributes:
        goal: what is asked for.
        template: wording of the instruction.
        positions: object or plate -> (x, y), m.
        yaws: object -> rotation about the vertical, rad.
        cabinet: where there is one.
    """

    goal: Goal
    template: int
    positions: Mapping[str, Place]
    yaws: Mapping[str, float] = field(default_factory=dict)
    cabinet: Cabinet | None = None


def draw_layout(task: str, rng: np.random.Generator, target: str | None = None) -> Layout:
    """Draws the start of an episode of any task but `pick`."""
    names = [str(name) for name in rng.permutation(list(OBJECT_MODELS))]
    if task == PLACE_DRAWER:
        target = target or 'apple'
    if target is not None and target in names:
        names.remove(target)
        names.insert(0, target)
    template = int(rng.integers(len(TEMPLATES[task])))
    draw = _on_table if task in (MOVE_NEAR, PLACE_PLATE) else _beside_cabinet
    goal, positions, cabinet = draw(task, names, rng)
    yaws = {name: _yaw(name, rng) for name in positions if name != PLATE}
    return Layout(goal, template, positions, yaws, cabinet)


def _yaw(name: str, rng: np.random.Generator) -> float:
    # A cube is grasped flat on its sides: the wrist does not turn.
    limit = 0.15 if OBJECT_MODELS[name].box else np.pi
    return float(rng.uniform(-limit, limit))


def _on_table(task: str, names: list[str], rng: np.random.Generator):
    present = names[:3]
    plate = task == PLACE_PLATE or rng.random() < 0.4
    if task == MOVE_NEAR:
        goal = Goal(task, present[0], present[1])
    else:
        goal = goal_for(task, present[0])
    while True:
        places = [PLATE, *present] if plate else present
        points = rng.uniform(TABLE_LOWER, TABLE_UPPER, (len(places), 2))
        positions = {name: (float(p[0]), float(p[1])) for name, p in zip(places, points)}
        if _spaced(positions) and _can_be_moved_near(goal, positions):
            return goal, positions, None


def _spaced(positions: Mapping[str, Place]) -> bool:
    names = list(positions)
    for index, first in enumerate(names):
        for second in names[:index]:
            needed = _FROM_PLATE if PLATE in (first, second) else SPACING
            if distance(positions[first], positions[second]) < needed:
                return False
    return True


def _can_be_moved_near(goal: Goal, positions: Mapping[str, Place]) -> bool:
    if goal.task != MOVE_NEAR:
        return True
    if distance(positions[goal.target], positions[goal.reference]) < _APART:
        return False
    points = {name: np.array(place) for name, place in positions.items()}
    # SIMPLER's objects stand so far apart that no third one is in the way.
    return direct_spot_is_free(points, goal.target, goal.reference)


def _beside_cabinet(task: str, names: list[str], rng: np.random.Generator):
    side = 1.0 if rng.random() < 0.5 else -1.0
    opening = {
        OPEN_DRAWER: (0.0, 0.035), CLOSE_DRAWER: (0.06, TRAVEL), PLACE_DRAWER: (0.085, TRAVEL),
    }[task]  # fmt: skip
    cabinet = Cabinet(
        float(rng.uniform(0.195, 0.215)),
        side * float(rng.uniform(0.155, 0.175)),
        float(rng.uniform(*opening)),
    )
    if task != PLACE_DRAWER and rng.random() < 0.6:
        names.remove('apple')
        names.insert(int(rng.integers(3)), 'apple')
    present = names[:3]
    low, high = _BESIDE_CABINET
    while True:
        points = rng.uniform((0.22, low), (0.385, high), (len(present), 2))
        positions = {name: (float(x), side * float(y)) for name, (x, y) in zip(present, points)}
        if _spaced(positions):
            goal = goal_for(task, present[0]) if task == PLACE_DRAWER else Goal(task)
            return goal, positions, cabinet


def distance(first: Sequence[float], second: Sequence[float]) -> float:
    """Distance of two places, m."""
    return float(np.hypot(first[0] - second[0], first[1] - second[1]))


# Settings -------------------------------------------------------------------------------------


def draw_extras(
    layout: Layout, rng: np.random.Generator
) -> tuple[dict[str, Place], dict[str, float]]:
    """Draws one or two more distractors that leave room for the hand; fewer where it is full."""
    positions = dict(layout.positions)
    absent = [str(n) for n in rng.permutation([n for n in OBJECT_MODELS if n not in positions])]
    wanted = 1 + int(rng.integers(2))
    extras: dict[str, Place] = {}
    for _ in range(_TRIES):
        if len(extras) == wanted:
            break
        place = tuple(rng.uniform(_EXTRA_LOWER, _EXTRA_UPPER).tolist())
        name = absent[len(extras)]
        if _leaves_room(place, {**positions, **extras}, layout):
            extras[name] = place
    return extras, {name: _yaw(name, rng) for name in extras}


def _leaves_room(place: Place, positions: Mapping[str, Place], layout: Layout) -> bool:
    cabinet = layout.cabinet
    if cabinet is not None and abs(place[1] - cabinet.y) < HALF_WIDTH + 0.065:
        return False
    asked_for = (layout.goal.target, layout.goal.reference)
    for name, other in positions.items():
        needed = _FROM_PLATE + 0.02 if name == PLATE else _EXTRA_SPACING
        if name in asked_for and name != PLATE:
            needed = 0.125 if layout.goal.task != MOVE_NEAR else 0.16
        if distance(place, other) < needed:
            return False
    return True


def draw_motion(layout: Layout, rng: np.random.Generator) -> tuple[Motion, ...]:
    """Draws what is moved while the arm acts: target, reference or the drawer."""
    start, duration = float(rng.uniform(0.5, 1.4)), float(rng.uniform(0.5, 1.0))
    goal, cabinet = layout.goal, layout.cabinet
    if goal.target == DRAWER:
        # Against what is asked for: there is more to do than it seemed.
        slide = float(rng.uniform(0.015, 0.025))
        outwards = cabinet.opening < slide or (
            goal.task == CLOSE_DRAWER and cabinet.opening + slide < TRAVEL
        )
        # The handle is reached sooner than most objects.
        step = (slide if outwards else -slide, 0.0)
        return (Motion(DRAWER, 0.6 * start, 0.7 * duration, step),)
    movable = [name for name in (goal.target, goal.reference) if name in layout.positions]
    for _ in range(_TRIES):
        name = movable[int(rng.integers(len(movable)))]
        angle, length = rng.uniform(0.0, 2.0 * np.pi), rng.uniform(0.04, 0.08)
        step = (float(length * np.cos(angle)), float(length * np.sin(angle)))
        if _may_move(name, step, layout):
            return (Motion(name, start, duration, step),)
    return ()


def _may_move(name: str, step: Place, layout: Layout) -> bool:
    positions = layout.positions
    x, y = positions[name][0] + step[0], positions[name][1] + step[1]
    low, high = TABLE_LOWER, TABLE_UPPER
    if not (low[0] <= x <= high[0] and low[1] <= y <= high[1]):
        return False
    if layout.cabinet is not None and abs(y - layout.cabinet.y) < HALF_WIDTH + 0.06:
        return False
    half_way = (positions[name][0] + step[0] / 2, positions[name][1] + step[1] / 2)
    for place in (half_way, (x, y)):
        moved = {**positions, name: place}
        if not _spaced(moved):
            return False
    return _can_be_moved_near(layout.goal, {**positions, name: (x, y)})
