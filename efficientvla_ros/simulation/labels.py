"""Which other instructions a picture could come with, besides the one that is carried out."""

from __future__ import annotations

import numpy as np

from efficientvla_ros.simulation.goals import (
    CLOSE_DRAWER,
    MOVE_NEAR,
    OPEN_DRAWER,
    PICK,
    PLACE_DRAWER,
    PLACE_PLATE,
    Goal,
    goal_for,
)
from efficientvla_ros.simulation.scene import BARE
from efficientvla_ros.simulation.table_state import TableState
from efficientvla_ros.simulation.tasks import OBJECTS_PER_EPISODE, Episode

LABELS = OBJECTS_PER_EPISODE
"""Instructions that every frame is labelled for."""


def label_goals(
    episode: Episode, state: TableState, goal: Goal, rng: np.random.Generator
) -> list[Goal]:
    """Returns `LABELS` goals that the state allows, `goal` first.

    On the bare table they are to pick one of the objects each; elsewhere they are drawn, of other
    tasks as often as of the same one.
    """
    if episode.scene == BARE:
        others = [name for name in episode.objects if name != goal.target]
        if len(others) >= LABELS:
            others = rng.permutation(others).tolist()
        return [goal, *(Goal(PICK, name) for name in others[: LABELS - 1])]
    goals = [goal]
    families = _families(state)
    while len(goals) < LABELS:
        family = families[int(rng.integers(len(families)))]
        other = family[int(rng.integers(len(family)))]
        if other not in goals:
            goals.append(other)
    return goals


def _families(state: TableState) -> list[list[Goal]]:
    """Goals that make sense in a scene, by task."""
    cabinet = state.cabinet
    # What lies in the drawer cannot be grasped without touching its walls.
    names = [
        name
        for name, position in state.objects.items()
        if cabinet is None or not cabinet.contains(position)
    ]
    families = [[Goal(PICK, name) for name in names]]
    if cabinet is not None:
        families += [[Goal(OPEN_DRAWER)], [Goal(CLOSE_DRAWER)]]
        families.append([goal_for(PLACE_DRAWER, name) for name in state.objects])
        return [family for family in families if family]
    families.append([Goal(MOVE_NEAR, a, b) for a in names for b in names if a != b])
    if state.plate is not None:
        families.append([goal_for(PLACE_PLATE, name) for name in names])
    return families
