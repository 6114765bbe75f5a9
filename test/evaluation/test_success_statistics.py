"""Intervals and tests on success counts."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from efficientvla_ros.evaluation.statistics import mcnemar_exact, percentiles, wilson_interval


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
