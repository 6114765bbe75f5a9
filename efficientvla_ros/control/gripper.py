"""Gripper values of a chunk to open/closed decisions."""

from __future__ import annotations

import numpy as np


def gripper_states(
    values: np.ndarray, threshold: float, hysteresis: float, was_open: bool | None
) -> np.ndarray:
    """Decides for each step whether the gripper is to be open.

    Args:
        values: [steps] 1 = open, 0 = closed.
        threshold: values above it mean open.
        hysteresis: closer than this to the threshold the gripper stays as it was.
        was_open: state before the first step, None when it is not known.

    Returns:
        bool [steps], True = open.
    """
    states = np.empty(len(values), dtype=bool)
    state = was_open
    for index, value in enumerate(values):
        if state is None or abs(value - threshold) >= hysteresis:
            state = bool(value > threshold)
        states[index] = state
    return states
