"""Token selections to compare with: FastV and random drop."""

from __future__ import annotations

import torch
from torch import Tensor

from efficientvla_ros.acceleration.token_counts import checked_counts
from efficientvla_ros.acceleration.token_roles import TASK, UNRANKED
from efficientvla_ros.acceleration.token_selection import Selection, ranking


def fastv(relevance: Tensor, keep: int) -> Selection:
    """Keeps the patches that the last position attends to most (FastV, arXiv 2403.06764).

    Args:
        relevance: `token_scores.relevance` of the last text row alone, [B, P].
        keep: tokens to keep.

    Raises:
        SelectionError: `keep` is not 1 to P.
    """
    checked_counts(relevance.shape[1], keep)
    return _selection(ranking(relevance)[:, :keep], TASK)


def random_tokens(batch: int, patches: int, keep: int, generator: torch.Generator) -> Selection:
    """Keeps patches drawn without replacement, another set at every call.

    Args:
        batch: rows to draw.
        patches: visual tokens to draw from.
        keep: tokens to keep.
        generator: seeded, on the device on which the indices are wanted.

    Raises:
        SelectionError: `keep` is not 1 to `patches`.
    """
    checked_counts(patches, keep)
    draws = torch.rand(batch, patches, generator=generator, device=generator.device)
    return _selection(ranking(draws)[:, :keep], UNRANKED)


def _selection(chosen: Tensor, role: int) -> Selection:
    kept = chosen.sort(dim=1).values
    return Selection(kept, torch.full_like(kept, role, dtype=torch.uint8))
