"""Statistics of success counts."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

Z_95 = 1.959963984540054
"""Two-sided 95 % quantile of the standard normal distribution."""


def wilson_interval(successes: int, trials: int, z: float = Z_95) -> tuple[float, float]:
    """Returns the Wilson score interval of a success rate, within [0, 1]; (0, 1) without trials.

    Args:
        successes: number of successes, 0..trials.
        trials: number of trials.
        z: normal quantile, 1.96 for 95 %.

    Raises:
        ValueError: successes is not within 0..trials.
    """
    if not 0 <= successes <= trials:
        raise ValueError(f'{successes} successes of {trials} trials, expected 0 <= successes')
    if trials == 0:
        return 0.0, 1.0
    rate = successes / trials
    scale = 1.0 + z * z / trials
    centre = (rate + z * z / (2.0 * trials)) / scale
    spread = math.sqrt(rate * (1.0 - rate) / trials + (z / (2.0 * trials)) ** 2) * z / scale
    low = 0.0 if successes == 0 else max(0.0, centre - spread)
    high = 1.0 if successes == trials else min(1.0, centre + spread)
    return low, high


def mcnemar_exact(first_only: int, second_only: int) -> float:
    """Returns the two-sided exact p-value of McNemar's test on paired outcomes.

    Args:
        first_only: pairs in which only the first of the two succeeded.
        second_only: pairs in which only the second one did.
    """
    discordant = first_only + second_only
    if discordant == 0:
        return 1.0
    tail = sum(math.comb(discordant, k) for k in range(min(first_only, second_only) + 1))
    return min(1.0, 2.0 * tail / 2**discordant)


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """Returns p50, p95 and p99 of the values, NaN where there are none."""
    if len(values) == 0:
        return dict.fromkeys(('p50', 'p95', 'p99'), math.nan)
    found = np.percentile(np.asarray(values, dtype=np.float64), [50, 95, 99])
    return {name: float(value) for name, value in zip(('p50', 'p95', 'p99'), found)}
