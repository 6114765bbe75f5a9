"""Which visual tokens are kept: key, task and diversity tokens (EfficientVLA).

Batched, of fixed shapes and without host synchronisation, so that inference, graph capture and
training can use the same functions. Where values are equal, the lower index comes first.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from efficientvla_ros.acceleration.token_counts import (
    SelectionError,
    TokenCounts,
    checked_counts,
)
from efficientvla_ros.acceleration.token_options import DIVERSITY_KINDS


class Selection(NamedTuple):
    """Kept visual tokens.

    Attributes:
        kept: patch indices, int64 [B, K], ascending.
        role: why each is kept, uint8 [B, K]; numbers of `token_roles`.
    """

    kept: Tensor
    role: Tensor


def select_tokens(
    relevance: Tensor,
    hidden: Tensor,
    keep: int,
    key: int | None = None,
    alpha: float = 0.5,
    diversity: str = 'key',
    bonus: Tensor | None = None,
) -> Selection:
    """Keeps key tokens (most relevant), task tokens (next) and diversity tokens.

    Diversity of a remaining token is 1 - max over key tokens of the cosine between hidden states
    (EfficientVLA, arXiv 2506.10100). `greedy` instead takes one token after the other, each time
    the one that is farthest from everything kept so far, task tokens included.

    Args:
        relevance: attention of the text, [B, P].
        hidden: states of the patches after the scoring layer, [B, P, D].
        keep: tokens to keep, 1 to P.
        key: key tokens among them; None takes the published share.
        alpha: share of task tokens among the rest.
        diversity: one of `DIVERSITY_KINDS`.
        bonus: added to the relevance, min-max normalised to [0, 1], and to the diversity,
            [B, P]; None ranks both as they are.

    Raises:
        SelectionError: a count or a name cannot be used.
    """
    counts = checked_counts(relevance.shape[-1], keep, key, alpha)
    if diversity not in DIVERSITY_KINDS:
        raise SelectionError(
            f'diversity is {diversity!r}, expected one of {", ".join(DIVERSITY_KINDS)}'
        )
    if bonus is not None:
        relevance = min_max(relevance) + bonus
    ranked = ranking(relevance)[:, : counts.key + counts.task]
    if counts.diversity:
        pick = _diverse if diversity == 'key' else _greedy
        ranked = torch.cat((ranked, pick(hidden, ranked, counts, bonus)), dim=1)
    kept, order = ranked.sort(dim=1)
    # `ranked` holds key, task and diversity tokens in this order.
    role = (order >= counts.key).to(torch.uint8) + (order >= counts.key + counts.task)
    return Selection(kept, role)


def ranking(scores: Tensor) -> Tensor:
    """Indices of [B, P], highest score first, lower index first among equals."""
    return scores.sort(dim=1, descending=True, stable=True).indices


def min_max(scores: Tensor) -> Tensor:
    """Scales each row of [B, P] to [0, 1]; a constant row becomes zero."""
    low, high = scores.aminmax(dim=1, keepdim=True)
    tiny = torch.finfo(scores.dtype).tiny
    return (scores - low) / (high - low).clamp_min(tiny)


def sequence_index(kept: Tensor, patches: int, length: int) -> Tensor:
    """Positions that stay of sequences [BOS][patches][text].

    They are also the rotary positions of what stays.

    Args:
        kept: patch indices [B, K], ascending.
        patches: visual tokens P in the sequence.
        length: positions S in all.

    Returns:
        int64 [B, S - P + K], ascending.
    """
    start = torch.zeros_like(kept[:, :1])
    text = torch.arange(1 + patches, length, device=kept.device).expand(len(kept), -1)
    return torch.cat((start, kept + 1, text), dim=1)


def take(x: Tensor, index: Tensor) -> Tensor:
    """Gathers positions [B, K] of [B, S, D]."""
    return x.gather(1, index.unsqueeze(-1).expand(-1, -1, x.shape[-1]))


def _directions(hidden: Tensor) -> Tensor:
    hidden = hidden if hidden.dtype == torch.float64 else hidden.float()
    return F.normalize(hidden, dim=-1)


def _taken(ranked: Tensor, patches: int) -> Tensor:
    taken = torch.zeros(len(ranked), patches, dtype=torch.bool, device=ranked.device)
    return taken.scatter_(1, ranked, True)


def _diverse(hidden: Tensor, ranked: Tensor, counts: TokenCounts, bonus: Tensor | None) -> Tensor:
    # -> [B, diversity], farthest from the key tokens first
    unit = _directions(hidden)
    near = (unit @ take(unit, ranked[:, : counts.key]).transpose(1, 2)).amax(-1)
    score = 1.0 - near if bonus is None else 1.0 - near + bonus
    score = score.masked_fill(_taken(ranked, hidden.shape[1]), float('-inf'))
    return ranking(score)[:, : counts.diversity]


def _greedy(hidden: Tensor, ranked: Tensor, counts: TokenCounts, bonus: Tensor | None) -> Tensor:
    # -> [B, diversity], in the order in which they are taken
    unit = _directions(hidden)
    cosine = unit @ unit.transpose(1, 2)  # [B, P, P]
    near = take(cosine, ranked).amax(1)
    taken = _taken(ranked, hidden.shape[1])
    picked = []
    for _ in range(counts.diversity):
        score = -near if bonus is None else bonus - near
        index = score.masked_fill(taken, float('-inf')).argmax(1, keepdim=True)
        taken = taken.scatter(1, index, True)
        near = torch.maximum(near, take(cosine, index).squeeze(1))
        picked.append(index)
    return torch.cat(picked, dim=1)
