"""The adaptive ensemble against a step-by-step reference written in another way."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from efficientvla_ros.control.adaptive_ensemble import AdaptiveEnsemble
from efficientvla_ros.types import InputError

HORIZON = 16


def naive(plans: list[list[list[float]]], window: int, alpha: float) -> list[float]:
    """The action after the last of `plans`, in plain Python over the whole episode's record."""
    now = len(plans) - 1
    candidates = [plans[made][now - made] for made in range(max(0, now - window + 1), now + 1)]
    newest = candidates[-1]

    def length(vector):
        return math.sqrt(sum(value**2 for value in vector))

    weights = []
    for candidate in candidates:
        dot = sum(a * b for a, b in zip(candidate, newest, strict=True))
        weights.append(math.exp(alpha * dot / (length(candidate) * length(newest) + 1e-7)))
    total = sum(weights)
    return [
        sum(w * c[k] for w, c in zip(weights, candidates, strict=True)) / total for k in range(7)
    ]


def plans_of(seed: int, count: int, scale: float) -> np.ndarray:
    plans = np.random.default_rng(seed).normal(size=(count, HORIZON, 7)) * scale
    plans[..., 6] = plans[..., 6] > 0
    return plans


@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 20),
    window=st.integers(1, HORIZON),
    alpha=st.sampled_from([0.1, 0.0, 2.0, -1.0]),
    scale=st.sampled_from([1.0, 0.02, 1e-5, 0.0]),
)
def test_every_step_equals_the_naive_reference(seed, count, window, alpha, scale):
    ensemble = AdaptiveEnsemble(window, alpha)
    plans = plans_of(seed, count, scale)
    for step in range(count):
        action = ensemble.step(plans[step])
        expected = naive(plans[: step + 1].tolist(), window, alpha)
        assert action.dtype == np.float64 and action.shape == (7,)
        np.testing.assert_allclose(action, expected, rtol=1e-12, atol=1e-15)


@given(plan=st.lists(st.floats(-2.0, 2.0), min_size=7, max_size=7), steps=st.integers(1, 12))
def test_plans_that_agree_are_executed_as_they_are(plan, steps):
    ensemble = AdaptiveEnsemble(7)
    for _ in range(steps):
        action = ensemble.step(np.tile(plan, (HORIZON, 1)))
    np.testing.assert_allclose(action, plan, rtol=1e-12, atol=1e-15)


def test_a_plan_that_points_away_counts_less():
    ensemble = AdaptiveEnsemble(2)
    ensemble.step(np.full((HORIZON, 7), -1.0))
    action = ensemble.step(np.full((HORIZON, 7), 1.0))
    # Weights exp(-0.1) and exp(0.1): the mean of -1 and 1 is tanh(0.1).
    np.testing.assert_allclose(action, np.tanh(0.1), rtol=1e-6)


def test_a_window_of_one_takes_the_newest_plan_alone():
    ensemble = AdaptiveEnsemble(1)
    for plan in plans_of(3, 4, 1.0):
        np.testing.assert_allclose(ensemble.step(plan), plan[0], rtol=1e-15)


def test_after_a_reset_earlier_plans_are_forgotten():
    ensemble, fresh = AdaptiveEnsemble(7), AdaptiveEnsemble(7)
    plans = plans_of(5, 4, 1.0)
    ensemble.step(plans[0])
    ensemble.reset()
    for plan in plans[1:]:
        np.testing.assert_array_equal(ensemble.step(plan), fresh.step(plan))


def test_a_plan_may_be_overwritten_by_its_owner_afterwards():
    ensemble, kept = AdaptiveEnsemble(3), AdaptiveEnsemble(3)
    plans = plans_of(6, 3, 1.0)
    buffer = np.empty_like(plans[0])
    for plan in plans:
        buffer[:] = plan
        np.testing.assert_array_equal(ensemble.step(buffer), kept.step(plan))


@pytest.mark.parametrize(
    ('actions', 'message'),
    [
        (np.zeros((16, 6)), r'\(16, 6\), expected \(horizon, 7\)'),
        (np.zeros(7), r'\(7,\), expected'),
        (np.zeros((6, 7)), 'has 6 actions, expected at least the ensemble window 7'),
        (np.full((16, 7), np.nan), 'not finite'),
    ],
)
def test_a_plan_that_cannot_be_used_changes_nothing(actions, message):
    ensemble, untouched = AdaptiveEnsemble(7), AdaptiveEnsemble(7)
    first, second = plans_of(8, 2, 1.0)
    ensemble.step(first)
    untouched.step(first)
    with pytest.raises(InputError, match=message):
        ensemble.step(actions)
    np.testing.assert_array_equal(ensemble.step(second), untouched.step(second))


def test_settings_that_mean_nothing_are_refused():
    with pytest.raises(InputError, match='window is 0, expected at least 1'):
        AdaptiveEnsemble(0)
    with pytest.raises(InputError, match='alpha is nan'):
        AdaptiveEnsemble(2, float('nan'))
