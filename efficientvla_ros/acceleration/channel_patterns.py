"""Which channels and heads of the decoder stay, and how the choice follows the frames."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from efficientvla_ros.acceleration.channel_scores import (
    ChannelHistory,
    ChannelValues,
    channel_scores,
    head_scores,
)
from efficientvla_ros.acceleration.layer_pruning import PruningError
from efficientvla_ros.acceleration.width_pruning import kept_channel_count
from efficientvla_ros.models.config import LlamaConfig


class ChannelCounts(NamedTuple):
    """What stays of every layer.

    Attributes:
        mlp: intermediate channels.
        heads: query heads.
    """

    mlp: int
    heads: int


class ChannelPattern(NamedTuple):
    """What stays of some layers, a row for each.

    Attributes:
        mlp: intermediate channels, int64 [layers, counts.mlp], ascending.
        heads: query heads, int64 [layers, counts.heads], ascending.
    """

    mlp: Tensor
    heads: Tensor


def channel_counts(config: LlamaConfig, ratio: float, prune_heads: bool = True) -> ChannelCounts:
    """What stays of each layer when a share of its channels and heads goes.

    The MLP's count is rounded as `kept_channel_count` says, the number of heads that go is
    rounded down: of 11008 channels and 32 heads, 8256 and 24 stay at 0.25, 6592 and 20 at 0.4.

    Args:
        config: sizes of the decoder.
        ratio: share that goes, 0 up to but without 1.
        prune_heads: whether heads go too.

    Raises:
        PruningError: the ratio is out of range.
    """
    mlp = kept_channel_count(config.mlp_width, ratio)
    # Rounding errors decide nothing: 0.29 of 100 heads are 29.
    removed = math.floor(ratio * config.heads + 1e-9) if prune_heads else 0
    return ChannelCounts(mlp, config.heads - removed)


def rescaled_ratio(ratio: float, layers: int, skipped: int) -> float:
    """The ratio of the other layers when the first ones stay whole and as much goes in all.

    Raises:
        PruningError: all layers stay whole, or the others would lose everything.
    """
    if not 0 <= skipped < layers:
        raise PruningError(f'layers to skip is {skipped}, expected 0 .. {layers - 1}')
    rescaled = ratio * layers / (layers - skipped)
    if not rescaled < 1.0:
        raise PruningError(
            f'a channel ratio of {ratio} without {skipped} of {layers} layers takes '
            f'{rescaled:.2f} of the others, expected below 1'
        )
    return rescaled


def choose(mlp: Tensor, heads: Tensor, counts: ChannelCounts) -> ChannelPattern:
    """Keeps the highest scores of every layer; among equals the lower index.

    Args:
        mlp: scores of the intermediate channels [layers, mlp_width].
        heads: scores of the query heads [layers, heads].
        counts: what stays.

    Raises:
        PruningError: a count is not 1 up to what there is.
    """
    return ChannelPattern(_highest(mlp, counts.mlp), _highest(heads, counts.heads))


def kept_kv_heads(heads: Tensor, query_heads: int, kv_heads: int) -> Tensor:
    """Which key/value heads any kept query head reads, bool [layers, kv_heads].

    Args:
        heads: query heads that stay, int64 [layers, kept].
        query_heads: query heads of the whole layer.
        kv_heads: its key/value heads, a divisor of them.
    """
    group = heads // (query_heads // kv_heads)
    kept = torch.zeros(len(heads), kv_heads, dtype=torch.bool, device=heads.device)
    return kept.scatter_(1, group, True)


class AdaptivePatterns:
    """Chooses again with every frame that ran dense (EcoVLA's EAP, part 2).

    Attributes:
        counts: what stays of each layer.
        pattern: the newest choice; a new object at every update, which never changes.
        history: energies of the past.
    """

    def __init__(
        self, norms: ChannelValues, history: ChannelHistory, counts: ChannelCounts, heads: int
    ) -> None:
        """Chooses from the history alone; from the weights in layers that have none.

        Args:
            norms: `squared_weight_norms` of the layers.
            history: theirs.
            counts: what stays of each.
            heads: query heads of a whole layer.
        """
        self._norms, self._heads = norms, heads
        self.counts, self.history = counts, history
        self._rejected = torch.zeros((), dtype=torch.int64, device=norms.mlp.device)
        known = (torch.where(part.isfinite(), part, 1.0) for part in history.values)
        self.pattern = self._choose(ChannelValues(*known))

    @property
    def rejected(self) -> int:
        """Layers that kept their choice so far because a value was not finite; synchronises."""
        return int(self._rejected)

    def update(self, energies: ChannelValues) -> ChannelPattern:
        """Chooses from a frame's energies and the history, which moves on.

        A layer whose energies or history are not finite keeps its choice.
        """
        fused, finite = self.history.add(energies)
        new = self._choose(fused)
        old, row = self.pattern, finite[:, None]
        self.pattern = ChannelPattern(*(torch.where(row, a, b) for a, b in zip(new, old)))
        self._rejected += finite.logical_not().sum()
        return self.pattern

    def _choose(self, energies: ChannelValues) -> ChannelPattern:
        scores = channel_scores(self._norms, energies)
        return choose(scores.mlp, head_scores(scores.attention, self._heads), self.counts)


def layer_rows(layers: Sequence[int], skipped: int) -> tuple[int, ...]:
    """The layers of a plan that are pruned: all but the first `skipped` of the model."""
    return tuple(layer for layer in layers if layer >= skipped)


def _highest(scores: Tensor, count: int) -> Tensor:
    # [layers, C] -> [layers, count], ascending
    if not 1 <= count <= scores.shape[-1]:
        raise PruningError(f'channels to keep is {count}, expected 1 .. {scores.shape[-1]}')
    lowest = scores.shape[-1] - count + 1
    threshold = scores.kthvalue(lowest, dim=-1, keepdim=True).values
    above, equal = scores > threshold, scores == threshold
    # Selecting and counting take a fraction of the time that sorting takes.
    wanted = count - above.sum(-1, keepdim=True)
    kept = above | (equal & (equal.cumsum(-1) <= wanted))
    place = torch.where(kept, kept.cumsum(-1) - 1, count)  # all others go into a spare column
    index = torch.arange(scores.shape[-1], device=scores.device).expand_as(scores)
    return index.new_zeros(len(scores), count + 1).scatter_(1, place, index)[:, :count]
