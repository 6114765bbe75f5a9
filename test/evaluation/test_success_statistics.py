"""Intervals and tests on success counts."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from efficientvla_ros.evaluation.statistics import (
    mcnemar_exact,
    paired_difference,
    percentiles,
    wilson_interval,
)


@pytest.mark.parametrize(
    ('successes', 'trials', 'expected'),
    [
        (0, 0, (0.0, 1.0)),
        (40, 40, (0.9124, 1.0)),
        (0, 40, (0.0, 0.0876)),
        (90, 100, (0.8256, 0.9448)),
        (17, 24, (0.5083, 0.8509)),
    ],
)
def test_wilson_interval_agrees_with_published_values(successes, trials, expected):
    assert wilson_interval(successes, trials) == pytest.approx(expected, abs=1e-4)


@given(st.integers(1, 500), st.data())
def test_wilson_interval_holds_the_rate_and_narrows_with_more_trials(trials, data):
    successes = data.draw(st.integers(0, trials))
    low, high = wilson_interval(successes, trials)
    assert 0.0 <= low <= successes / trials <= high <= 1.0
    more_low, more_high = wilson_interval(4 * successes, 4 * trials)
    assert more_high - more_low < high - low


@pytest.mark.parametrize(('successes', 'trials'), [(5, 4), (-1, 4)])
def test_impossible_counts_are_refused(successes, trials):
    with pytest.raises(ValueError, match='trials'):
        wilson_interval(successes, trials)


@pytest.mark.parametrize(
    ('first', 'second', 'expected'),
    [(0, 0, 1.0), (5, 5, 1.0), (0, 1, 1.0), (0, 5, 0.0625), (1, 9, 22 / 1024), (0, 10, 2 / 1024)],
)
def test_mcnemar_is_the_two_sided_sign_test(first, second, expected):
    assert mcnemar_exact(first, second) == pytest.approx(expected)
    assert mcnemar_exact(second, first) == pytest.approx(expected)


def test_percentiles_of_nothing_are_not_a_number():
    assert math.isnan(percentiles([])['p50'])
    assert percentiles([1.0, 2.0, 3.0])['p50'] == 2.0


def test_the_difference_of_paired_rates_agrees_with_the_published_interval():
    # Newcombe, Statistics in Medicine 17 (1998), table II: 36, 12, 2, 0 by method 10.
    assert paired_difference(36, 12, 2, 0) == pytest.approx((0.2, 0.0569, 0.3404), abs=5e-5)


def test_equal_outcomes_differ_by_nothing_and_no_trials_say_nothing():
    difference, low, high = paired_difference(97, 0, 0, 3)
    assert difference == 0.0 and -0.05 < low < 0.0 < high < 0.05
    assert paired_difference(0, 0, 0, 0) == (0.0, -1.0, 1.0)


@given(st.tuples(*[st.integers(0, 60)] * 4).filter(any))
def test_the_interval_of_a_difference_holds_it_and_turns_with_the_order(counts):
    both, first, second, neither = counts
    difference, low, high = paired_difference(*counts)
    assert -1.0 <= low <= difference <= high <= 1.0
    assert paired_difference(both, second, first, neither) == pytest.approx(
        (-difference, -high, -low)
    )
