"""How many of the kept visual tokens are key, task and diversity tokens; free of torch."""

from __future__ import annotations

import math
from dataclasses import dataclass

PUBLISHED_KEY, PUBLISHED_KEEP = 4, 56
"""Key tokens and kept tokens of EfficientVLA's main setting."""


class SelectionError(ValueError):
    """A token selection that is not possible; the message quotes the bad value."""


@dataclass(frozen=True)
class TokenCounts:
    """Sizes of the three parts; their sum is what is kept."""

    key: int
    task: int
    diversity: int


def token_counts(keep: int, key: int | None = None, alpha: float = 0.5) -> TokenCounts:
    """Divides `keep` tokens (EfficientVLA, arXiv 2506.10100).

    Args:
        keep: kept tokens K, at least 1.
        key: key tokens; None takes the published share, max(1, round(4 K / 56)).
        alpha: share of task tokens among the rest, rounded down.

    Raises:
        SelectionError: a number is out of its range.
    """
    if keep < 1:
        raise SelectionError(f'kept tokens are {keep}, expected at least 1')
    if key is None:
        key = max(1, math.floor(keep * PUBLISHED_KEY / PUBLISHED_KEEP + 0.5))
    if not 1 <= key <= keep:
        raise SelectionError(f'key tokens are {key}, expected 1 to the {keep} kept ones')
    if not 0.0 <= alpha <= 1.0:
        raise SelectionError(f'alpha is {alpha}, expected 0 to 1')
    # 0.29 * 100 is a little below 29.
    task = math.floor(alpha * (keep - key) + 1e-9)
    return TokenCounts(key, task, keep - key - task)


def checked_counts(
    patches: int, keep: int, key: int | None = None, alpha: float = 0.5
) -> TokenCounts:
    """As `token_counts`; also refuses more tokens than there are patches."""
    if keep > patches:
        raise SelectionError(f'kept tokens are {keep}, expected at most {patches}')
    return token_counts(keep, key, alpha)
