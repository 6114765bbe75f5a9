"""The bootstrap tells a sure ranking from a guess, and draws whole episodes."""

from __future__ import annotations

import numpy as np
import pytest

from efficientvla_ros.evaluation.ranking_stability import _kendall_tau, ranking_stability


def samples(noise: float, episodes: int = 16, frames: int = 4, shared: float = 0.0) -> tuple:
    """Importance of six layers, 0.1 apart: noise by frame, and noise shared by an episode."""
    rng = np.random.default_rng(0)
    base = np.array([1.0, 0.1, 0.2, 0.3, 0.4, 0.0])
    own = noise * rng.normal(size=(episodes * frames, 6))
    common = np.repeat(shared * rng.normal(size=(episodes, 6)), frames, axis=0)
    return base + own + common, np.repeat(np.arange(episodes), frames)


def test_a_clear_ranking_is_stable():
    values, episodes = samples(noise=0.01)
    stability = ranking_stability(values, episodes, keep=(4, 5), protected=(0, 5), resamples=200)
    assert stability.unit == 'episodes'
    assert stability.kendall_tau == (1.0, 1.0, 1.0)
    np.testing.assert_array_equal(stability.removed, [[0, 1, 1, 0, 0, 0], [0, 1, 0, 0, 0, 0]])
    np.testing.assert_array_equal(stability.rank[5], [1, 1])
    np.testing.assert_array_equal(stability.rank[0], [6, 6])
    assert (stability.importance[:, 0] <= values.mean(0)).all()
    assert (stability.importance[:, 1] >= values.mean(0)).all()


def test_a_ranking_that_is_noise_shows_as_such():
    values, episodes = samples(noise=5.0)
    stability = ranking_stability(values, episodes, keep=(4,), protected=(0, 5), resamples=400)
    assert stability.removed[0].sum() == pytest.approx(2.0)
    assert stability.removed[0].max() < 0.95
    assert stability.removed[0][[0, 5]].tolist() == [0.0, 0.0]
    assert stability.kendall_tau[1] < 0.5


def test_frames_of_one_episode_count_as_one_draw():
    values, episodes = samples(noise=0.0, shared=0.3)
    by_episode = ranking_stability(values, episodes, keep=(4,), resamples=400)
    by_frame = ranking_stability(values, np.arange(len(values)), keep=(4,), resamples=400)
    width = np.diff(by_episode.importance).mean() / np.diff(by_frame.importance).mean()
    assert width == pytest.approx(2.0, rel=0.15)  # four frames an episode say no more than one


def test_few_episodes_fall_back_to_frames():
    values, episodes = samples(noise=0.1, episodes=7)
    assert ranking_stability(values, episodes, keep=(4,), resamples=50).unit == 'frames'


def test_a_single_frame_gives_no_spread():
    values, _ = samples(noise=0.1)
    stability = ranking_stability(values[:1], np.array([3]), keep=(4,), resamples=50)
    assert np.ptp(stability.importance, axis=1).max() == 0.0


def test_equal_seeds_give_equal_draws():
    values, episodes = samples(noise=1.0)
    first, second, other = (
        ranking_stability(values, episodes, keep=(4,), resamples=50, seed=seed)
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first.removed, second.removed)
    assert not np.array_equal(first.importance, other.importance)


def test_kendall_tau_counts_pairs():
    first = np.array([1.0, 2.0, 3.0, 4.0])
    others = np.array([[1.0, 2.0, 3.0, 4.0], [4.0, 3.0, 2.0, 1.0], [2.0, 1.0, 3.0, 4.0]])
    np.testing.assert_allclose(_kendall_tau(first, others), [1.0, -1.0, 4 / 6])
