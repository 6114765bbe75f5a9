"""Presets on the images of one episode: deviation from dense, and what is drawn of it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from efficientvla_ros.evaluation.channel_trace import plot_trace, trace
from efficientvla_ros.evaluation.closed_loop import EpisodeRow
from efficientvla_ros.evaluation.deviation import replay, replay_presets
from efficientvla_ros.evaluation.preset_benchmark import random_profile
from efficientvla_ros.evaluation.watched_policy import WatchedPolicy
from efficientvla_ros.runtime.engine import load_engine
from efficientvla_ros.types import Observation

INSTRUCTION = 'pick the red can'
PERIOD_NS = 600_000_000


@pytest.fixture(scope='module')
def engine():
    engine = load_engine('tabletop-pick', random_weights=True, num_ddim_steps=2)
    engine.profile = random_profile(engine, INSTRUCTION)
    return engine


@pytest.fixture(scope='module')
def observations() -> list[Observation]:
    """Two still scenes: three images each that differ by a little noise."""
    rng = np.random.default_rng(1)
    scenes = [rng.integers(20, 230, (112, 112, 3)) for _ in range(2)]
    return [
        Observation(
            {'camera': (scenes[index // 3] + rng.integers(-3, 4, (112, 112, 3))).astype(np.uint8)},
            INSTRUCTION,
            stamp_ns=1_000 + index * PERIOD_NS,
        )
        for index in range(6)
    ]


def test_only_what_is_left_out_deviates(engine, observations):
    presets = ('dense', 'tokens', 'ecovla_40', 'random_channels_40')
    found = replay_presets(engine, presets, observations)
    assert set(found) == {'tokens', 'ecovla_40', 'random_channels_40'}
    adaptive = found['ecovla_40']
    assert adaptive['kinds'][0] == 'update' and 'sparse' in adaptive['kinds']
    for kind, relative in zip(adaptive['kinds'], adaptive['relative'], strict=True):
        assert (relative > 0.0) == (kind == 'sparse')
    assert found['random_channels_40']['kinds'] == ['sparse'] * 6
    assert min(found['random_channels_40']['relative']) > 0.0
    assert np.shape(found['tokens']['deviation']) == (6, 7)


def test_dense_replayed_is_dense(engine, observations):
    first, _ = replay(engine, 'dense', observations)
    again, _ = replay(engine, 'dense', observations)
    assert all(map(np.array_equal, first, again))


def test_an_episode_is_told_and_drawn_tick_by_tick(engine, observations, tmp_path):
    engine.set_acceleration('ecovla_40')
    watched = WatchedPolicy(engine)
    for observation in observations:
        watched.infer(observation)
        engine.settle()
    row = EpisodeRow(7, INSTRUCTION, 'can', False, 'success', 18, 'can', 6, 0)
    found = json.loads(json.dumps(trace(engine, watched.looks, row, 'ecovla_40')))
    assert found['seconds'] == pytest.approx([0.0, 0.6, 1.2, 1.8, 2.4, 3.0])
    assert found['updates'][0] and found['reasons'][0] == 'first frame'
    assert found['similarity'][0] is None and found['similarity'][1] > found['similarity'][3]
    assert found['relative'][0] == 0.0 and found['ratio'][1] == pytest.approx(0.4)
    for phases in (found['phases'], ['approach', 'descend', 'grasp', 'lift', 'lift', 'lift']):
        picture = tmp_path / 'episode.png'
        plot_trace({**found, 'phases': phases}, picture)
        assert picture.read_bytes().startswith(b'\x89PNG')
