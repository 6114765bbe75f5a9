"""Muon (Jordan et al. 2024): momentum whose singular values are brought near one.

PyTorch's own orthogonalises in bfloat16, which a processor without such products emulates: there
a step of the optimiser took ten times as long as the network's forward and backward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from efficientvla_ros.training.precision import bfloat16_is_slow

_COEFFICIENTS = 3.4445, -4.775, 2.0315
_ITERATIONS = 5
_TINY = 1e-7


class Muon(torch.optim.Optimizer):
    """Muon with Nesterov momentum and AdamW's size of steps (Liu et al. 2025, equation 4)."""

    def __init__(
        self,
        matrices: Iterable[nn.Parameter],
        lr: float = 1e-3,
        momentum: float = 0.95,
        weight_decay: float = 0.01,
    ) -> None:
        """Optimises parameters with two dimensions.

        Args:
            matrices: what is optimised.
            lr: learning rate, as AdamW would have it.
            momentum: decay of the averaged gradient.
            weight_decay: decoupled from the gradient, times `lr`.
        """
        super().__init__(matrices, {'lr': lr, 'momentum': momentum, 'weight_decay': weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:
        """Takes a step along the gradients; `closure` is not used."""
        for group in self.param_groups:
            for matrix in group['params']:
                mean = self.state[matrix].setdefault('momentum', torch.zeros_like(matrix))
                mean.lerp_(matrix.grad, 1.0 - group['momentum'])
                direction = orthogonalised(matrix.grad.lerp(mean, group['momentum']))
                matrix.mul_(1.0 - group['lr'] * group['weight_decay'])
                matrix.add_(direction, alpha=-group['lr'] * 0.2 * max(matrix.shape) ** 0.5)


def orthogonalised(matrix: Tensor) -> Tensor:
    """A matrix [M, N] with singular values near one, by Newton and Schulz's iteration.

    Bfloat16 is enough for it, and is used where the device has such products.
    """
    kind = torch.float32 if bfloat16_is_slow(matrix.device) else torch.bfloat16
    x = (matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T).to(kind)
    x = x / x.norm().clamp(min=_TINY)
    a, b, c = _COEFFICIENTS
    for _ in range(_ITERATIONS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x if matrix.shape[0] <= matrix.shape[1] else x.T).to(matrix.dtype)
