"""Cognition features for stage `head`: one pass of the frozen policy serves many small steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

WINDOW = 64
"""Batches that shared features come from: enough that a step's draws have little in common."""


@dataclass(frozen=True)
class Features:
    """What the diffusion head learns from.

    Attributes:
        cognition: features of the language model, float32 [M, D].
        actions: normalised plans that belong to them [M, H, A].
    """

    cognition: Tensor
    actions: Tensor

    def draw(self, count: int, rng: np.random.Generator) -> Features:
        """`count` random rows."""
        rows = torch.as_tensor(rng.integers(0, len(self.cognition), count))
        rows = rows.to(self.cognition.device)
        return Features(self.cognition[rows], self.actions[rows])


class FeatureWindow:
    """The features that a step may draw from; they depend on its number alone.

    Without reuse a step has the features of its own batch. With a reuse of R, batches count on
    once in R steps, and a step has `WINDOW` of them, from that number on.
    """

    def __init__(self, compute: Callable[[int], Features], reuse: int) -> None:
        """Keeps how features are made.

        Args:
            compute: makes the features of the batch of a number.
            reuse: R, at least 1.
        """
        self._compute, self._reuse = compute, reuse
        self._size = WINDOW if reuse > 1 else 1
        self._batches: dict[int, Features] = {}
        self._first = -1

    def at(self, step: int) -> Features:
        """All features of a step; computes those that are missing."""
        first = step // self._reuse
        if first != self._first:
            kept, numbers = self._batches, range(first, first + self._size)
            self._batches = {n: kept[n] if n in kept else self._compute(n) for n in numbers}
            self._first = first
            batches = list(self._batches.values())
            self._whole = Features(
                torch.cat([batch.cognition for batch in batches]),
                torch.cat([batch.actions for batch in batches]),
            )
        return self._whole
