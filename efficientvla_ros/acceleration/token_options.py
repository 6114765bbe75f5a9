"""How visual tokens are chosen: names and options, free of torch."""

from __future__ import annotations

import math
from dataclasses import dataclass

from efficientvla_ros.acceleration.token_counts import SelectionError, token_counts

METHODS = ('efficientvla', 'fastv', 'random')
"""Ways to choose tokens."""

DIVERSITY_KINDS = ('key', 'greedy')
"""Against the key tokens at once, as published; or greedy max-min against all that is kept."""

ROWS = ('instruction', 'prompt', 'last')
"""Text positions whose attention counts: the instruction's, all, or the last one (FastV)."""


@dataclass(frozen=True)
class TokenOptions:
    """How tokens are chosen.

    Attributes:
        keep: tokens that stay.
        method: one of `METHODS`; the rest is for `efficientvla`.
        key: key tokens; None takes the published share.
        alpha: share of task tokens among those that are not key tokens.
        diversity: one of `DIVERSITY_KINDS`.
        hysteresis: bonus of what was kept at the tick before, in shares of the range of
            relevance, twice for key tokens; 0 is off.
        rows: whose attention counts, one of `ROWS`; FastV asks the last row always.
    """

    keep: int
    method: str = 'efficientvla'
    key: int | None = None
    alpha: float = 0.5
    diversity: str = 'key'
    hysteresis: float = 0.0
    rows: str = 'instruction'

    def __post_init__(self) -> None:
        """Refuses what cannot be used, with a `SelectionError` that quotes it."""
        token_counts(self.keep, self.key, self.alpha)
        for name, value, choices in (
            ('token method', self.method, METHODS),
            ('diversity', self.diversity, DIVERSITY_KINDS),
            ('token rows', self.rows, ROWS),
        ):
            if value not in choices:
                raise SelectionError(f'{name} is {value!r}, expected one of {", ".join(choices)}')
        if not (self.hysteresis >= 0.0 and math.isfinite(self.hysteresis)):
            raise SelectionError(f'hysteresis is {self.hysteresis}, expected 0 or more')

    @property
    def needs_scores(self) -> bool:
        """Whether attention is read at all."""
        return self.method != 'random'

    @property
    def scored_rows(self) -> str:
        """Rows whose attention is read."""
        return 'last' if self.method == 'fastv' else self.rows
