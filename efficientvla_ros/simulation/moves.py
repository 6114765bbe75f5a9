"""Single moves of the scripted expert: towards something, up, and getting rid of something."""

from __future__ import annotations

import numpy as np

from efficientvla_ros.simulation.objects import OBJECT_MODELS
from efficientvla_ros.simulation.table_state import TableState

STEP_LATERAL = 0.032
STEP_VERTICAL = 0.032
"""Largest move of one action, m."""

HOVER = 0.095
"""Height of the funnel's rim above the grasp, m: the finger tips clear every object."""

LIFT_HEIGHT = 0.16
"""Height of the tool to which a grasped object is lifted, m."""

OPEN, CLOSED = 1.0, 0.0

_FUNNEL_RADIUS, _FUNNEL_SLOPE = 0.008, 4.0
_CLOSE_WITHIN = 0.012
_RISE_FIRST = 0.03
_GRASP_LOWEST, _GRASP_HIGHEST = 0.028, 0.045
_SET_DOWN = 0.012


def grasp_height(position: np.ndarray) -> float:
    """Height of the tool at which an object at a position [3] is grasped, m."""
    return float(np.clip(position[2], _GRASP_LOWEST, _GRASP_HIGHEST))


def _funnel(lateral_error: float, hover: float) -> float:
    """Height above the goal at a lateral distance from it, m."""
    return min(hover, _FUNNEL_SLOPE * max(0.0, lateral_error - _FUNNEL_RADIUS))


def vertical(missing: float) -> np.ndarray:
    """A move [3] up or down, by what is missing or one step."""
    return np.array([0.0, 0.0, np.clip(missing, -STEP_VERTICAL, STEP_VERTICAL)])


def lift_to(state: TableState, height: float) -> np.ndarray:
    """A move [3] of the tool straight towards a height, m."""
    return vertical(height - state.tcp[2])


def approach(point: np.ndarray, goal: np.ndarray, height: float, hover: float) -> np.ndarray:
    """One move [3] of a point [3] towards a goal (x, y) and a height inside the funnel, m."""
    offset = goal[:2] - point[:2]
    distance = float(np.linalg.norm(offset))
    missing_height = height + _funnel(distance, hover) - point[2]
    # Well below the funnel, go up before going sideways.
    reach = STEP_LATERAL * np.clip(1.0 - missing_height / _RISE_FIRST, 0.0, 1.0)
    lateral = offset * min(1.0, reach / max(distance, 1e-9))
    left = distance - float(np.linalg.norm(lateral))
    move = vertical(height + _funnel(left, hover) - point[2])
    move[:2] = lateral
    return move


def approach_object(state: TableState, target: str) -> np.ndarray:
    """One move [3] of the open gripper towards an object."""
    goal = state.objects[target]
    return approach(state.tcp, goal, grasp_height(goal), HOVER)


def within_grasp(state: TableState, goal: np.ndarray, height: float) -> bool:
    """Whether the tool is where it closes on something at (x, y) and a height, m."""
    lateral = np.linalg.norm(goal[:2] - state.tcp[:2])
    return bool(lateral < _CLOSE_WITHIN and abs(height - state.tcp[2]) < _CLOSE_WITHIN)


def at_grasp(state: TableState, target: str) -> bool:
    """Whether the tool is where it closes on an object."""
    goal = state.objects[target]
    return within_grasp(state, goal, grasp_height(goal))


def release(state: TableState, target: str) -> tuple[np.ndarray, float]:
    """Gets rid of whatever a gripper that is not open may hold, but for the target.

    Args:
        state: what the expert sees.
        target: what is wanted; an object, or '' where nothing may be held.

    Returns:
        Move [3] and gripper command.
    """
    for name in state.objects:
        if name == target or not state.holds(name):
            continue
        rest = OBJECT_MODELS[name].rest_height
        lifted = state.objects[name][2] - rest
        if state.grips(name) and lifted > _SET_DOWN:
            return lift_to(state, state.tcp[2] - lifted), CLOSED
        return np.zeros(3), OPEN
    if state.holds_handle():
        return np.zeros(3), OPEN
    goal = state.objects.get(target)
    height = LIFT_HEIGHT if goal is None else grasp_height(goal) + HOVER
    return lift_to(state, max(state.tcp[2], height)), OPEN
