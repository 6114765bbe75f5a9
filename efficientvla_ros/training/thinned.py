"""The language model with channels and heads left out, as an adaptive policy runs it.

For a step, every decoder layer runs without the channels that matter least for the step's batch,
by the score that the policy chooses by (EcoVLA, arXiv 2602.00780, equation 11) times a random
factor: nobody knows in training which choice an episode will be run by.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from efficientvla_ros.acceleration.channel_patterns import channel_counts
from efficientvla_ros.models.cogact import CogACT
from efficientvla_ros.training.settings import TrainSettings

_SPREAD = 0.5
"""Standard deviation of the logarithm of the random factor."""


@contextmanager
def thinned(model: CogACT, settings: TrainSettings, rng: np.random.Generator) -> Iterator[None]:
    """Runs the decoder with fewer channels inside the `with`, in a part of the steps.

    Args:
        model: the policy; its modules are as before afterwards.
        settings: how often, and how much may be left out.
        rng: draws both, and the random factors.
    """
    if rng.random() >= settings.thinned_steps:
        yield
        return
    llm = model.config.llm
    counts = channel_counts(llm, float(rng.uniform(*settings.thinned_ratios)))
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    layers = model.llm_backbone.llm.model.layers
    plans = [(layer.mlp.down_proj, counts.mlp, 1) for layer in layers]
    if counts.heads < llm.heads:
        plans += [(layer.self_attn.o_proj, counts.heads, llm.head_dim) for layer in layers]
    hooks = [
        projection.register_forward_pre_hook(_Mask(kept, group, generator))
        for projection, kept, group in plans
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


class _Mask:
    """Sets inputs of a projection to zero, in groups of neighbouring channels."""

    def __init__(self, kept: int, group: int, generator: torch.Generator) -> None:
        self._kept, self._group, self._generator = kept, group, generator

    def __call__(self, projection: nn.Linear, inputs: tuple[Tensor]) -> tuple[Tensor]:
        (x,) = inputs
        return (x * self._mask(x.detach(), projection.weight.detach()),)

    def _mask(self, x: Tensor, weight: Tensor) -> Tensor:
        # x: [..., C], weight: [D, C]; returns 1 and 0 by channel, [C]
        energy = x.square().flatten(0, -2).mean(0)
        score = (weight.square().norm(dim=0) * energy).view(-1, self._group).norm(dim=1)
        noise = torch.randn(len(score), generator=self._generator).to(score)
        best = (score.clamp(min=1e-30).log() + _SPREAD * noise).topk(self._kept).indices
        mask = score.new_zeros(len(score)).index_fill_(0, best, 1.0)
        return mask.repeat_interleave(self._group)
