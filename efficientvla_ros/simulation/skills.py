"""The expert's decisions for goals other than `pick`, each from the current state alone.

* Placing: pick the target up, carry it to its place inside a funnel as on the way to an object,
  open as soon as it is there, go up.
* Drawer: grasp the handle as an object, pull or push, let go, go up.
"""

from __future__ import annotations

import numpy as np

from efficientvla_ros.simulation.cabinet import TRAVEL
from efficientvla_ros.simulation.goals import OPEN_DRAWER, Goal
from efficientvla_ros.simulation.moves import (
    CLOSED,
    HOVER,
    LIFT_HEIGHT,
    OPEN,
    STEP_LATERAL,
    approach,
    approach_object,
    at_grasp,
    lift_to,
    release,
    within_grasp,
)
from efficientvla_ros.simulation.placement import placed, spot
from efficientvla_ros.simulation.table_state import TableState

Decision = tuple[np.ndarray, float]

CARRY_HOVER = 0.112
"""Height of the funnel's rim above the place, m: what is carried clears every object."""

_GENTLE_STEP = 0.012  # m: what a step downwards with something in the hand makes at least
_FAR_OUT = TRAVEL - 0.006
_SHUT = 0.004
_ROOM = 0.080  # m: opening of the drawer from which on things can be put into it


def place(state: TableState, goal: Goal) -> Decision:
    """Moves the target to its place."""
    target = goal.target
    if placed(state, goal) and not _carries_another(state, target):
        return _retreat(state)
    if not state.open:
        if state.grips(target):
            return _carry(state.objects[target], spot(state, goal)), CLOSED
        if state.holds(target):
            return np.zeros(3), CLOSED
        return release(state, target)
    gripper = CLOSED if at_grasp(state, target) else OPEN
    return approach_object(state, target), gripper


def place_in_drawer(state: TableState, goal: Goal) -> Decision:
    """Moves the target into the drawer, which is opened first where it has to be."""
    opening = state.cabinet.opening
    if opening < _ROOM or (state.grips_handle() and opening < _FAR_OUT):
        return open_drawer(state, Goal(OPEN_DRAWER))
    return place(state, goal)


def open_drawer(state: TableState, goal: Goal) -> Decision:
    """Pulls the drawer out."""
    return _slide(state, STEP_LATERAL, state.cabinet.opening >= _FAR_OUT)


def close_drawer(state: TableState, goal: Goal) -> Decision:
    """Pushes the drawer in."""
    return _slide(state, -STEP_LATERAL, state.cabinet.opening <= _SHUT)


def _slide(state: TableState, step: float, done: bool) -> Decision:
    handle = state.cabinet.handle
    if not state.open:
        if state.holds_handle() and not done:
            if not state.grips_handle():
                return np.zeros(3), CLOSED
            # Back to the middle of the handle where the fingers have slipped.
            move = np.clip(handle - state.tcp, -0.01, 0.01)
            move[0] = step
            return move, CLOSED
        return release(state, '')
    if done:
        return _retreat(state)
    gripper = CLOSED if within_grasp(state, handle, handle[2]) else OPEN
    return approach(state.tcp, handle, handle[2], HOVER), gripper


def _carry(position: np.ndarray, place: np.ndarray) -> np.ndarray:
    """One move [3] of what is held at a position [3] to its place [3], m; it is set down gently.

    Each step down makes half of what is left, so that letting go a step or two too early drops
    it by little.
    """
    move = approach(position, place, place[2], CARRY_HOVER)
    missing = place[2] - position[2]
    if move[2] < 0.0:
        move[2] = max(move[2], min(-_GENTLE_STEP, missing / 2))
    return move


def _carries_another(state: TableState, target: str) -> bool:
    if state.open:
        return False
    return any(state.holds(name) for name in state.objects if name != target)


def _retreat(state: TableState) -> Decision:
    """Lets go and goes up."""
    if not state.open:
        return np.zeros(3), OPEN
    return lift_to(state, max(LIFT_HEIGHT, state.tcp[2])), OPEN
