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


def paired_difference(
    both: int, first_only: int, second_only: int, neither: int, z: float = Z_95
) -> tuple[float, float, float]:
    """Returns the difference of two success rates on the same trials, with its interval.

    The interval is Newcombe's score interval for paired proportions (Statistics in Medicine 17,
    1998, method 10): Wilson limits of both rates, joined with their correlation.

    Args:
        both: trials in which both succeeded.
        first_only: trials in which only the first did.
        second_only: trials in which only the second did.
        neither: trials in which neither did.
        z: normal quantile, 1.96 for 95 %.

    Returns:
        Rate of the first minus rate of the second, its lower and its upper limit, in [-1, 1];
        (0, -1, 1) without trials.
    """
    trials = both + first_only + second_only + neither
    if trials == 0:
        return 0.0, -1.0, 1.0
    first, second = both + first_only, both + second_only
    difference = (first - second) / trials
    low_1, high_1 = wilson_interval(first, trials, z)
    low_2, high_2 = wilson_interval(second, trials, z)
    rate_1, rate_2 = first / trials, second / trials
    phi = _correlation(both, first_only, second_only, neither)

    def distance(one: float, other: float) -> float:
        square = one * one - 2.0 * phi * one * other + other * other
        return math.sqrt(max(0.0, square))

    below = distance(rate_1 - low_1, high_2 - rate_2)
    above = distance(high_1 - rate_1, rate_2 - low_2)
    return difference, max(-1.0, difference - below), min(1.0, difference + above)


def _correlation(both: int, first_only: int, second_only: int, neither: int) -> float:
    """Phi of a 2 x 2 table with Newcombe's continuity correction; 0 where it is not defined."""
    trials = both + first_only + second_only + neither
    margins = (
        (both + first_only)
        * (second_only + neither)
        * (both + second_only)
        * (first_only + neither)
    )
    if margins == 0:
        return 0.0
    product = both * neither - first_only * second_only
    if product > 0:
        product = max(product - trials / 2.0, 0.0)
    return product / math.sqrt(margins)


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """Returns p50, p95 and p99 of the values, NaN where there are none."""
    if len(values) == 0:
        return dict.fromkeys(('p50', 'p95', 'p99'), math.nan)
    found = np.percentile(np.asarray(values, dtype=np.float64), [50, 95, 99])
    return {name: float(value) for name, value in zip(('p50', 'p95', 'p99'), found)}
