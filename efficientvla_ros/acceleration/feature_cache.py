"""Sampling steps that reuse what the diffusion blocks gave before.

EfficientVLA (arXiv 2506.10100) stores the outputs of attention and feed-forward
network of every block at full steps and adds them unchanged at the steps between. CogACT's blocks
only ever add to the stream (pre-norm, no gates), so that frozen outputs sum up to one tensor,

    R = blocks(u) - u   of the last full step,   blocks(u') ~ u' + R   at the steps between:

the same numbers up to rounding, with one tensor instead of two for each block. With
classifier-free guidance both halves are rows of that tensor.
"""

from __future__ import annotations

from torch import Tensor

from efficientvla_ros.models.dit import Stack


def full_steps(steps: int, interval: int) -> tuple[int, ...]:
    """Sampling steps, from 0, that run the blocks: 0, N, 2 N and so on.

    They are the paper's T_start, T_start - N, ...: 2 of 10 at the published interval of 5.

    Args:
        steps: sampling steps.
        interval: N, at least 1; with 1 all steps are full.
    """
    return tuple(range(0, steps, interval))


class ResidualCache:
    """Stands in for the blocks while one chunk is sampled; see `DiffusionSampler`.

    The threshold is an option beyond the paper, after TeaCache (arXiv 2411.19108): the relative
    change |u - u'| / |u'| (L1) of the blocks' input from step to step is added up, and when the
    sum passes it, the step is full and the sum starts again. Which steps are full then depends
    on data, which the host has to read at every reused step: meant for the CPU and eager mode.
    Without a threshold nothing is read and the schedule is fixed.

    Attributes:
        full_steps_run: full steps of the chunk so far.
    """

    def __init__(self, blocks: Stack, full: tuple[int, ...], threshold: float = 0.0) -> None:
        """Takes the blocks, the steps that are always full, and the threshold (0: none)."""
        self._blocks = blocks
        self._full = frozenset(full)
        self._threshold = threshold
        self.begin()

    def begin(self) -> None:
        """Forgets the last chunk; its first step is full in any case."""
        self._step = 0
        self._residual: Tensor | None = None
        self._before: Tensor | None = None
        self._change = 0.0
        self.full_steps_run = 0

    def __call__(self, tokens: Tensor) -> Tensor:
        """Maps embedded tokens [N, 1 + horizon, width] of the next step to the same shape."""
        full = self._residual is None or self._step in self._full or self._changed(tokens)
        self._step += 1
        if self._threshold > 0.0:
            self._before = tokens
        if not full:
            return tokens + self._residual
        out = self._blocks(tokens)
        self._residual = out - tokens
        self._change = 0.0
        self.full_steps_run += 1
        return out

    def _changed(self, tokens: Tensor) -> bool:
        if self._threshold <= 0.0:
            return False
        difference = (tokens - self._before).abs().sum() / self._before.abs().sum()
        self._change += float(difference)
        return self._change > self._threshold
