"""The optimiser of a training: AdamW, or Muon for the matrices of the networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from efficientvla_ros.training.muon import Muon
from efficientvla_ros.training.sharing import sum_over_processes

OPTIMIZERS = ('adamw', 'muon')

_BETAS = (0.9, 0.95)
_WEIGHT_DECAY = 0.01
_HIDDEN = ('.blocks.', '.layers.', 'projector.')


class Optimizer:
    """One optimiser over all parameters of a stage.

    Muon orthogonalises the momentum of every matrix between hidden features, scaled to the step
    that AdamW would take, so that one learning rate serves both. Embeddings, output layers,
    vectors and training-only parts stay with AdamW. Of several processes each orthogonalises its
    share of the matrices and gets the others' results.
    """

    def __init__(
        self,
        kind: str,
        named: Sequence[tuple[str, nn.Parameter]],
        rank: int = 0,
        world: int = 1,
    ) -> None:
        """Keeps the parameters in their order: a saved state is found by position.

        Args:
            kind: one of `OPTIMIZERS`.
            named: names and parameters, the same in every process.
            rank: number of this process.
            world: number of processes that share the work.
        """
        hidden = [p for name, p in named if kind == 'muon' and _is_hidden(name, p)]
        ids = {id(parameter) for parameter in hidden}
        rest = [parameter for _, parameter in named if id(parameter) not in ids]
        self._parts: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(rest, betas=_BETAS, weight_decay=_WEIGHT_DECAY, fused=True)
        ]
        self._shared = hidden if world > 1 else []
        self._own, self._rank = hidden[rank::world], rank
        if self._own:
            self._parts.append(Muon(self._own, weight_decay=_WEIGHT_DECAY))

    def step(self, learning_rate: float) -> None:
        """Takes a step along the gradients."""
        for part in self._parts:
            for group in part.param_groups:
                group['lr'] = learning_rate
            part.step()
        if self._shared:
            self._exchange()

    @torch.no_grad()
    def _exchange(self) -> None:
        # Everybody's own matrices are added to the others' zeros.
        own = {id(parameter) for parameter in self._own}
        for parameter in self._shared:
            if id(parameter) not in own:
                parameter.zero_()
        sum_over_processes(self._shared)

    def zero_grad(self) -> None:
        """Sets all gradients to zeros, which stay: steps may leave layers out."""
        for part in self._parts:
            part.zero_grad(set_to_none=False)

    def state(self) -> list[dict[str, Any]]:
        """Returns what `restore` takes."""
        return [part.state_dict() for part in self._parts]

    def restore(self, state: list[dict[str, Any]]) -> None:
        """Goes on from the first process's state of the same kind, parameters and processes.

        The momentum of matrices that are another process's share is not in it and starts anew.
        """
        parts = self._parts if self._rank == 0 else self._parts[:1]
        for part, saved in zip(parts, state):
            part.load_state_dict(saved)


def _is_hidden(name: str, parameter: nn.Parameter) -> bool:
    return parameter.ndim == 2 and any(part in name for part in _HIDDEN)
