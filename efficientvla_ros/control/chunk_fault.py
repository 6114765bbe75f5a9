"""What makes a chunk unusable."""

from __future__ import annotations

import numpy as np

from efficientvla_ros.control.reasons import HoldReason
from efficientvla_ros.types import EE_DELTA_BASE, ActionChunk


def chunk_fault(chunk: ActionChunk, actions: np.ndarray) -> tuple[HoldReason, str] | None:
    """Returns why a chunk cannot be used, with one line of detail; None when it can.

    Args:
        chunk: the plan.
        actions: float64 [horizon, 7], its actions.
    """
    if chunk.action_space != EE_DELTA_BASE:
        detail = f'action space is "{chunk.action_space}", expected "{EE_DELTA_BASE}"'
        return HoldReason.BAD_CHUNK, detail
    if not (np.isfinite(chunk.step_duration) and chunk.step_duration > 0.0):
        detail = f'step duration is {chunk.step_duration} s, expected > 0'
        return HoldReason.BAD_CHUNK, detail
    if chunk.anchor is not None and not (
        np.shape(chunk.anchor) == (4, 4) and np.isfinite(chunk.anchor).all()
    ):
        return HoldReason.BAD_CHUNK, 'anchor is not a finite [4, 4] pose'
    bad = ~np.isfinite(actions)
    if bad.any():
        step, column = np.argwhere(bad)[0]
        detail = f'{int(bad.sum())} action values are not finite, first at [{step}, {column}]'
        return HoldReason.NON_FINITE, detail
    return None
