"""The scripted expert: a plan from the current state alone.

It keeps no memory, so that everything it decides can be read off one picture, and its plan can be
recomputed for any state and any object on the table. The phases follow from geometry:

* gripper open: move over the target inside a funnel, whose height shrinks with the lateral error;
* at the target: close; closed on the target: lift;
* closed on another object: set it down and open; closed on nothing: open and go up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from efficientvla_ros.simulation.arm import FINGER_OPEN
from efficientvla_ros.simulation.scene import OBJECT_MODELS
from efficientvla_ros.types import ACTION_DIM

HORIZON = 16
STEP_LATERAL = 0.032
STEP_VERTICAL = 0.032
"""Largest move of one action, m."""

HOVER = 0.095
"""Height of the funnel's rim above the grasp, m: the finger tips clear every object."""

LIFT_HEIGHT = 0.16
"""Height of the tool to which a grasped object is lifted, m."""

_FUNNEL_RADIUS, _FUNNEL_SLOPE = 0.008, 4.0
_CLOSE_WITHIN = 0.012
_RISE_FIRST = 0.03
_GRASP_LOWEST, _GRASP_HIGHEST = 0.028, 0.045
_OPEN_ENOUGH = 0.039
_GRIP_SLACK = 0.004
_SET_DOWN = 0.012
_BETWEEN = np.array([0.018, 0.020, 0.030])
OPEN, CLOSED = 1.0, 0.0


@dataclass
class TableState:
    """What the expert sees.

    Attributes:
        tcp: float64 [3] position of the tool in the base frame, m.
        opening: travel of one finger, m (0 = closed).
        objects: object name -> centre float64 [3] in the base frame, m.
    """

    tcp: np.ndarray
    opening: float
    objects: Mapping[str, np.ndarray] = field(default_factory=dict)

    def holds(self, name: str) -> bool:
        """Whether the object is between the fingers."""
        return bool(np.all(np.abs(self.objects[name] - self.tcp) < _BETWEEN))

    def grips(self, name: str) -> bool:
        """Whether the fingers touch the object from both sides."""
        return self.holds(name) and self.opening < OBJECT_MODELS[name].radius + _GRIP_SLACK


def _grasp_height(name: str, position: np.ndarray) -> float:
    """Height of the tool at which an object is grasped, m."""
    return float(np.clip(position[2], _GRASP_LOWEST, _GRASP_HIGHEST))


def _funnel(lateral_error: float) -> float:
    """Height above the grasp at a lateral distance from the target, m."""
    return min(HOVER, _FUNNEL_SLOPE * max(0.0, lateral_error - _FUNNEL_RADIUS))


def _vertical(state: TableState, height: float) -> np.ndarray:
    step = np.clip(height - state.tcp[2], -STEP_VERTICAL, STEP_VERTICAL)
    return np.array([0.0, 0.0, step])


def _approach(state: TableState, target: str) -> np.ndarray:
    """One move [3] towards the target inside the funnel, gripper open."""
    goal = state.objects[target]
    grasp = _grasp_height(target, goal)
    offset = goal[:2] - state.tcp[:2]
    distance = float(np.linalg.norm(offset))
    missing_height = grasp + _funnel(distance) - state.tcp[2]
    # Well below the funnel, go up before going sideways.
    reach = STEP_LATERAL * np.clip(1.0 - missing_height / _RISE_FIRST, 0.0, 1.0)
    lateral = offset * min(1.0, reach / max(distance, 1e-9))
    left = distance - float(np.linalg.norm(lateral))
    move = _vertical(state, grasp + _funnel(left))
    move[:2] = lateral
    return move


def _at_grasp(state: TableState, target: str) -> bool:
    goal = state.objects[target]
    lateral = np.linalg.norm(goal[:2] - state.tcp[:2])
    vertical = abs(_grasp_height(target, goal) - state.tcp[2])
    return lateral < _CLOSE_WITHIN and vertical < _CLOSE_WITHIN


def decide(state: TableState, target: str) -> tuple[np.ndarray, float]:
    """Returns the next move [3] (m, base frame) and the gripper command (1 open, 0 closed)."""
    if state.opening < _OPEN_ENOUGH:
        if state.grips(target):
            return _vertical(state, LIFT_HEIGHT), CLOSED
        if state.holds(target):
            return np.zeros(3), CLOSED
        return _release(state, target)
    if _at_grasp(state, target):
        move = _approach(state, target)
        return move, CLOSED
    return _approach(state, target), OPEN


def _release(state: TableState, target: str) -> tuple[np.ndarray, float]:
    """Gets rid of whatever a gripper that is not open may hold."""
    for name in state.objects:
        if name == target or not state.holds(name):
            continue
        rest = OBJECT_MODELS[name].rest_height
        lifted = state.objects[name][2] - rest
        if state.grips(name) and lifted > _SET_DOWN:
            return _vertical(state, state.tcp[2] - lifted), CLOSED
        return np.zeros(3), OPEN
    goal = state.objects[target]
    return _vertical(state, max(state.tcp[2], _grasp_height(target, goal) + HOVER)), OPEN


def _advance(state: TableState, target: str, move: np.ndarray, gripper: float) -> TableState:
    """The state that an action leads to, without physics."""
    tcp = state.tcp + move
    objects = dict(state.objects)
    opening = FINGER_OPEN if gripper == OPEN else 0.0
    for name in objects:
        if gripper == CLOSED and state.holds(name):
            opening = min(OBJECT_MODELS[name].radius, state.opening)
            if state.grips(name):
                objects[name] = objects[name] + move
    return TableState(tcp, opening, objects)


def plan(state: TableState, target: str, horizon: int = HORIZON) -> np.ndarray:
    """Plans from the current state.

    Args:
        state: what the expert sees.
        target: the object to lift; has to be in `state.objects`.
        horizon: number of actions.

    Returns:
        float64 [horizon, 7]: dx dy dz (m, base frame), droll dpitch dyaw (always 0), gripper
        (1 open, 0 closed); each on top of the one before.
    """
    actions = np.zeros((horizon, ACTION_DIM))
    for row in actions:
        move, gripper = decide(state, target)
        row[:3], row[6] = move, gripper
        state = _advance(state, target, move, gripper)
    return actions
