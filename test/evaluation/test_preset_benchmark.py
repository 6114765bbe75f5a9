"""Presets take turns in one run, each timed warm, beside a baseline."""

from __future__ import annotations

import numpy as np
import pytest

from efficientvla_ros.evaluation.channel_tables import channel_table
from efficientvla_ros.evaluation.preset_benchmark import benchmark_presets, give_profile
from efficientvla_ros.evaluation.preset_tables import latency_table
from efficientvla_ros.evaluation.turns import (
    TURN,
    Pipeline,
    measure_in_turns,
    random_turns,
    simulated_turns,
)
from efficientvla_ros.runtime.engine import load_engine

INSTRUCTION = 'pick the red can'
STAGES = ['preprocess', 'vision', 'language', 'action_head', 'postprocess', 'total']


@pytest.fixture(scope='module')
def engine():
    engine = load_engine('tabletop-pick', random_weights=True)
    engine.profile = None
    return engine


def test_pipelines_take_turns_of_a_few_ticks_after_one_that_does_not_count():
    calls: list[str] = []

    def pipeline(name: str):
        def tick(image: np.ndarray) -> dict[str, float]:
            calls.append(name)
            return {'vision': 1.0, 'language': float(len(calls))}

        return tick

    done: list[int] = []
    pipelines = {
        name: Pipeline(pipeline(name), lambda name=name: calls.append(f'prepare {name}'))
        for name in 'ab'
    }
    seconds = measure_in_turns(pipelines, random_turns((6, 8), TURN + 2), done.append)
    first, last = TURN + 1, 3
    expected = ['prepare a', *'a' * first, 'prepare b', *'b' * first]
    expected += ['prepare a', *'a' * last, 'prepare b', *'b' * last]
    assert calls == expected and done == [TURN, TURN + 2]
    assert len(seconds['a']['language']) == TURN + 2
    assert seconds['a']['language'][0] == 3.0  # the tick before it was not counted
    assert seconds['a']['total'][0] == 4.0


def test_each_preset_runs_its_plan_and_is_compared_with_dense_and_the_baseline(engine):
    assert give_profile(engine, INSTRUCTION) == 'random images'
    found = benchmark_presets(
        engine, ('dense', 'cache', 'efficientvla'), INSTRUCTION,
        turns=random_turns((60, 80), 2), warm_up_runs=1, baseline='eager',
    )  # fmt: skip
    sections = found['presets']
    assert list(sections) == ['dense', 'cache', 'efficientvla']
    done = {
        name: tuple(
            section['plan'][key] for key in ('layers_run', 'visual_tokens', 'diffusion_steps')
        )
        for name, section in sections.items()
    }
    assert done == {'dense': (12, 64, 10), 'cache': (12, 64, 2), 'efficientvla': (8, 14, 2)}
    assert sections['efficientvla']['plan']['notes'] == []
    assert len(sections['efficientvla']['plan']['layers']) == 8
    for section in sections.values():
        assert list(section['latency_s']) == STAGES
    ratio = (
        sections['dense']['latency_s']['total']['p50']
        / sections['cache']['latency_s']['total']['p50']
    )
    assert sections['cache']['speed_up']['total'] == pytest.approx(ratio)
    assert 'speed_up' not in sections['dense']
    baseline = found['baseline']
    assert set(baseline['speed_up']) == set(sections)
    assert baseline['relative_difference'] <= 1e-4
    assert len(latency_table(found).splitlines()) == 2 + 3 and channel_table(found) == ''


def test_a_pause_follows_every_tick_and_a_start_the_one_that_does_not_count():
    calls: list[str] = []

    def tick(image: np.ndarray) -> dict[str, float]:
        calls.append('tick')
        return {'vision': 1.0}

    hooks = {
        name: (lambda name=name: calls.append(name))
        for name in ('prepare', 'start', 'timed', 'pause')
    }
    measure_in_turns({'a': Pipeline(tick, **hooks)}, random_turns((6, 8), 1))
    assert calls == ['prepare', 'tick', 'pause', 'start', 'tick', 'timed', 'pause']


def test_random_turns_hold_as_many_images_as_runs():
    turns = random_turns((6, 8), 12, turn=5)
    assert [len(images) for images in turns] == [5, 5, 2]
    assert turns[0][0].shape == (6, 8, 3)


def test_channels_are_chosen_at_the_start_of_each_turn_and_then_as_images_change(engine):
    give_profile(engine, INSTRUCTION)
    found = benchmark_presets(
        engine, ('dense', 'ecovla_25', 'frozen_25'), INSTRUCTION,
        turns=random_turns((60, 80), 6, turn=3), warm_up_runs=1,
    )  # fmt: skip
    adaptive, frozen = (found['presets'][name] for name in ('ecovla_25', 'frozen_25'))
    channels = adaptive['channels']
    assert channels['reasons']['first frame'] == 2
    assert sum(channels['ticks'].values()) == 6
    assert channels['missed'] == 0  # each gap was waited for
    assert channels['audits'] >= 1 and len(channels['audit_deviation']) == 7
    assert {'mix', 'update', 'sparse'} <= set(channels['seconds'])
    assert frozen['channels']['ticks'] == {'sparse': 6}
    assert frozen['channels']['mean_ratio'] == pytest.approx(0.25)
    assert frozen['mean_speed_up'] > 0.0 and 'channels' not in found['presets']['dense']
    assert len(channel_table(found).splitlines()) == 2 + 2


def test_as_many_plans_as_wanted_stay_prepared(engine):
    names = ('dense', 'cache', 'tokens')
    for kept, same in ((3, True), (2, False)):
        engine.plans_kept = kept
        engine.set_acceleration('dense')
        first = engine.policy
        for name in (*names[1:], 'dense'):
            engine.set_acceleration(name)
        assert (engine.policy is first) == same


def test_a_turn_of_simulated_images_is_an_episode():
    turns = simulated_turns((32, 48), 20)
    assert sum(len(images) for images in turns) == 20 and len(turns) >= 2
    assert all(image.shape == (32, 48, 3) for images in turns for image in images)
    assert not np.array_equal(turns[0][0], turns[0][-1])
    assert not np.array_equal(turns[0][0], turns[1][0])
