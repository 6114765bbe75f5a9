"""Adaptive action ensemble: overlapping plans to one action (CogACT, arXiv 2411.19650).

The plan made j steps ago says at its index j what it meant for now. These candidates are averaged;
those that point the same way as the newest plan's action count for more, so that an average never
mixes two different ways to solve the task.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from efficientvla_ros.control.decode import check_actions
from efficientvla_ros.types import InputError

ALPHA = 0.1
"""Weight of the similarity, as published."""

_NORM_FLOOR = 1e-7


def similarity_weights(
    candidates: np.ndarray, newest: np.ndarray, alpha: float = ALPHA
) -> np.ndarray:
    """Returns exp(alpha * cosine similarity to the newest plan's action), not normalised.

    Args:
        candidates: [plans, 7] actions for the same time.
        newest: [7] the newest plan's action for that time.
        alpha: how much the similarity counts.

    Returns:
        float64 [plans].
    """
    norms = np.linalg.norm(candidates, axis=1)
    cosine = candidates @ newest / (norms * np.linalg.norm(newest) + _NORM_FLOOR)
    return np.exp(alpha * cosine)


class AdaptiveEnsemble:
    """Averages the newest plans, one action a step.

    With candidates a_j (the plan from j steps ago at index j) the weights are
    w_j = exp(alpha * cos(a_j, a_0)), normalised to sum 1; the cosine is over all components of
    the un-normalised action, gripper included, with 1e-7 added to the product of the norms.
    """

    def __init__(self, window: int, alpha: float = ALPHA) -> None:
        """Starts without plans.

        Args:
            window: how many plans are averaged at most (CogACT: 2 for the Google robot, 7 for
                WidowX).
            alpha: how much the similarity counts; 0 gives the plain mean.

        Raises:
            InputError: window is less than 1 or alpha is not finite.
        """
        if window < 1:
            raise InputError(f'ensemble window is {window}, expected at least 1')
        if not np.isfinite(alpha):
            raise InputError(f'ensemble alpha is {alpha}, expected a finite number')
        self._alpha = float(alpha)
        self._plans: deque[np.ndarray] = deque(maxlen=int(window))

    def reset(self) -> None:
        """Forgets all plans, as at the start of an episode or for a new instruction."""
        self._plans.clear()

    def step(self, actions: np.ndarray) -> np.ndarray:
        """Takes the plan made for this step and returns the action to execute now.

        Args:
            actions: [horizon, 7] un-normalised, see `efficientvla_ros.types.ACTION_DIM`; horizon
                at least the window.

        Returns:
            float64 [7].

        Raises:
            InputError: the shape does not fit or a value is not finite; the plans known so far
                stay as they were.
        """
        self._plans.append(self._checked(actions).copy())
        candidates = np.stack([plan[age] for age, plan in enumerate(reversed(self._plans))])
        weights = similarity_weights(candidates, candidates[0], self._alpha)
        return weights / weights.sum() @ candidates

    def _checked(self, actions: np.ndarray) -> np.ndarray:
        actions = check_actions(actions)
        if len(actions) < self._plans.maxlen:
            raise InputError(
                f'action chunk has {len(actions)} actions, expected at least the ensemble '
                f'window {self._plans.maxlen}'
            )
        if not np.isfinite(actions).all():
            raise InputError('action chunk has values that are not finite')
        return actions
