"""Action statistics of a data set: the map between normalised and physical actions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

GRIPPER = 6
_GRIPPER_THRESHOLD = 0.5


@dataclass(frozen=True)
class ActionStatistics:
    """Quantiles per action dimension.

    Attributes:
        q01: float64 [dim], value that maps to -1.
        q99: float64 [dim], value that maps to +1.
        mask: bool [dim]; False dimensions pass unchanged (the gripper).
    """

    q01: np.ndarray
    q99: np.ndarray
    mask: np.ndarray

    @classmethod
    def from_json(cls, statistics: dict[str, Any], key: str | None = None) -> ActionStatistics:
        """Reads the entry `key` of a `dataset_statistics.json`.

        Args:
            statistics: the file's content.
            key: data set name; None takes the only one.

        Raises:
            KeyError: the key is missing or needed; the message lists those that exist.
            ValueError: the entry is incomplete.
        """
        if key is None and len(statistics) == 1:
            key = next(iter(statistics))
        if key is None:
            raise KeyError(
                f'the checkpoint has action statistics of {len(statistics)} data sets, expected '
                f'the name of one (unnorm_key): {", ".join(sorted(statistics))}'
            )
        if key not in statistics:
            raise KeyError(
                f'no action statistics for data set {key!r}; '
                f'the checkpoint has: {", ".join(sorted(statistics))}'
            )
        try:
            action = statistics[key]['action']
            q01, q99 = (np.asarray(action[name], dtype=np.float64) for name in ('q01', 'q99'))
            mask = np.asarray(action.get('mask', [True] * len(q01)), dtype=bool)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(
                f"statistics of {key!r} are incomplete, expected 'action' with lists of numbers "
                "'q01' and 'q99'"
            ) from error
        if q01.ndim != 1 or not q01.shape == q99.shape == mask.shape:
            raise ValueError(
                f"statistics of {key!r}: 'q01', 'q99' and 'mask' have shapes {q01.shape}, "
                f'{q99.shape} and {mask.shape}, expected lists of one length'
            )
        if not (np.isfinite(q01).all() and np.isfinite(q99).all()):
            raise ValueError(f'statistics of {key!r} hold values that are not finite')
        return cls(q01, q99, mask)

    @classmethod
    def identity(cls, action_dim: int) -> ActionStatistics:
        """Statistics that leave normalised actions as they are, and the last as it is decided."""
        mask = np.arange(action_dim) < action_dim - 1
        return cls(np.full(action_dim, -1.0), np.full(action_dim, 1.0), mask)

    def to_json(self) -> dict[str, Any]:
        """Returns the `action` part of a data set's entry."""
        return {name: getattr(self, name).tolist() for name in ('q01', 'q99', 'mask')}

    def normalise(self, actions: np.ndarray) -> np.ndarray:
        """Maps physical actions [..., dim] to [-1, 1]; constant dimensions become 0."""
        span = self.q99 - self.q01
        scaled = 2.0 * (actions - self.q01) / np.where(span > 0, span, 1.0) - 1.0
        scaled = np.where(span > 0, np.clip(scaled, -1.0, 1.0), 0.0)
        return np.where(self.mask, scaled, actions)

    def unnormalise(self, actions: np.ndarray, binarise_gripper: bool = True) -> np.ndarray:
        """Maps network outputs [..., dim] to physical actions, float64.

        Clip to [-1, 1], gripper to 0 or 1, then the inverse quantile map (arXiv 2411.19650, as
        in the released code).

        Args:
            actions: normalised actions.
            binarise_gripper: True for CogACT. OpenVLA gives the gripper as it was learned; its
                values lie inside of [-1, 1], so that the clip changes nothing.
        """
        clipped = np.clip(np.asarray(actions, dtype=np.float64), -1.0, 1.0)
        # A comparison would turn NaN into a valid gripper command and hide a broken model.
        gripper = clipped[..., GRIPPER]
        if binarise_gripper:
            clipped[..., GRIPPER] = np.where(
                np.isnan(gripper), gripper, gripper >= _GRIPPER_THRESHOLD
            )
        physical = 0.5 * (clipped + 1.0) * (self.q99 - self.q01) + self.q01
        return np.where(self.mask, physical, clipped)
