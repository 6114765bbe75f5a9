"""The optimiser of a training: AdamW, or Muon for the matrices of the networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

OPTIMIZERS = ('adamw', 'muon')

_BETAS = (0.9, 0.95)
_WEIGHT_DECAY = 0.01
_HIDDEN = ('.blocks.', '.layers.', 'projector.')


class Optimizer:
    """One optimiser over all parameters of a stage.

    Muon orthogonalises the momentum of every matrix between hidden features, scaled to the step
    that AdamW would take, so that one learning rate serves both. Embeddings, output layers,
    vectors and training-only parts stay with AdamW.
    """

    def __init__(self, kind: str, named: Sequence[tuple[str, nn.Parameter]]) -> None:
        """Keeps the parameters in their order: a saved state is found by position.

        Args:
            kind: one of `OPTIMIZERS`.
            named: names and parameters.
        """
        hidden = [p for name, p in named if kind == 'muon' and _is_hidden(name, p)]
        ids = {id(parameter) for parameter in hidden}
        rest = [parameter for _, parameter in named if id(parameter) not in ids]
        self._parts: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(rest, betas=_BETAS, weight_decay=_WEIGHT_DECAY, fused=True)
        ]
        if hidden:
            self._parts.append(
                torch.optim.Muon(
                    hidden, weight_decay=_WEIGHT_DECAY, adjust_lr_fn='match_rms_adamw'
                )
            )

    def step(self, learning_rate: float) -> None:
        """Takes a step along the gradients."""
        for part in self._parts:
            for group in part.param_groups:
                group['lr'] = learning_rate
            part.step()

    def zero_grad(self) -> None:
        """Sets all gradients to zeros, which stay: steps may leave layers out."""
        for part in self._parts:
            part.zero_grad(set_to_none=False)

    def state(self) -> list[dict[str, Any]]:
        """Returns what `restore` takes."""
        return [part.state_dict() for part in self._parts]

    def restore(self, state: list[dict[str, Any]]) -> None:
        """Goes on from a state of the same kind and parameters."""
        for part, saved in zip(self._parts, state, strict=True):
            part.load_state_dict(saved)


def _is_hidden(name: str, parameter: nn.Parameter) -> bool:
    return parameter.ndim == 2 and any(part in name for part in _HIDDEN)
