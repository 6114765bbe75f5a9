"""The scripted expert: a plan from the current state alone.

It keeps no memory, so that everything it decides can be read off one picture, and its plan can be
recomputed for any state and any goal. The phases of `pick` follow from geometry:

* gripper open: move over the target inside a funnel, whose height shrinks with the lateral error;
* at the target: close; closed on the target: lift;
* closed on another object: set it down and open; closed on nothing: open and go up.

`skills` has the other goals.
"""

from __future__ import annotations

import numpy as np

from efficientvla_ros.simulation.arm import FINGER_OPEN
from efficientvla_ros.simulation.cabinet import HANDLE_HALF_WIDTH, TRAVEL
from efficientvla_ros.simulation.goals import CLOSE_DRAWER, OPEN_DRAWER, PICK, PLACE_DRAWER, Goal
from efficientvla_ros.simulation.moves import (
    CLOSED,
    LIFT_HEIGHT,
    OPEN,
    STEP_LATERAL,
    STEP_VERTICAL,
    approach_object,
    at_grasp,
    lift_to,
    release,
)
from efficientvla_ros.simulation.objects import OBJECT_MODELS
from efficientvla_ros.simulation.skills import close_drawer, open_drawer, place, place_in_drawer
from efficientvla_ros.simulation.table_state import TableState
from efficientvla_ros.types import ACTION_DIM

__all__ = [
    'CLOSED', 'HORIZON', 'OPEN', 'STEP_LATERAL', 'STEP_VERTICAL', 'TableState', 'decide', 'plan',
]  # fmt: skip

HORIZON = 16

_SKILLS = {
    OPEN_DRAWER: open_drawer,
    CLOSE_DRAWER: close_drawer,
    PLACE_DRAWER: place_in_drawer,
}


def decide(state: TableState, goal: str | Goal) -> tuple[np.ndarray, float]:
    """Returns the next move [3] (m, base frame) and the gripper command (1 open, 0 closed)."""
    if isinstance(goal, str):
        return _pick(state, goal)
    if goal.task == PICK:
        return _pick(state, goal.target)
    return _SKILLS.get(goal.task, place)(state, goal)


def _pick(state: TableState, target: str) -> tuple[np.ndarray, float]:
    if not state.open:
        if state.grips(target):
            return lift_to(state, LIFT_HEIGHT), CLOSED
        if state.holds(target):
            return np.zeros(3), CLOSED
        return release(state, target)
    if at_grasp(state, target):
        return approach_object(state, target), CLOSED
    return approach_object(state, target), OPEN


def _advance(state: TableState, move: np.ndarray, gripper: float) -> TableState:
    """The state that an action leads to, without physics."""
    tcp = state.tcp + move
    objects = dict(state.objects)
    opening = FINGER_OPEN if gripper == OPEN else 0.0
    cabinet = state.cabinet
    if gripper == CLOSED:
        for name in objects:
            if state.holds(name):
                opening = min(OBJECT_MODELS[name].radius, state.opening)
                if state.grips(name):
                    objects[name] = objects[name] + move
        if state.holds_handle():
            opening = min(HANDLE_HALF_WIDTH, state.opening)
            if state.grips_handle():
                slid = float(np.clip(cabinet.opening + move[0], 0.0, TRAVEL))
                cabinet = cabinet.at(slid)
    return TableState(tcp, opening, objects, state.plate, cabinet, state.tilts)


def plan(state: TableState, goal: str | Goal, horizon: int = HORIZON) -> np.ndarray:
    """Plans from the current state.

    Args:
        state: what the expert sees.
        goal: what to do; a name alone stands for picking that object. What it names has to be
            in the state.
        horizon: number of actions.

    Returns:
        float64 [horizon, 7]: dx dy dz (m, base frame), droll dpitch dyaw (always 0), gripper
        (1 open, 0 closed); each on top of the one before.
    """
    actions = np.zeros((horizon, ACTION_DIM))
    for row in actions:
        move, gripper = decide(state, goal)
        row[:3], row[6] = move, gripper
        state = _advance(state, move, gripper)
    return actions
