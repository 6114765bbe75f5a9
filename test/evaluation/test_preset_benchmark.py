"""Presets take turns in one run, each timed warm, beside a baseline."""

from __future__ import annotations

import numpy as np
import pytest

from efficientvla_ros.evaluation.preset_benchmark import (
    TURN,
    benchmark_presets,
    give_profile,
    measure_in_turns,
)
from efficientvla_ros.evaluation.preset_tables import latency_table
from efficientvla_ros.runtime.engine import load_engine

INSTRUCTION = 'pick the red can'
STAGES = ['preprocess', 'vision', 'language', 'action_head', 'postprocess', 'total']


@pytest.fixture(scope='module')
def engine():
    engine = load_engine('tabletop', random_weights=True)
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
    prepare = {name: (lambda name=name: calls.append(f'prepare {name}')) for name in 'ab'}
    ticks = {name: pipeline(name) for name in 'ab'}
    seconds = measure_in_turns(ticks, prepare, (6, 8), TURN + 2, done.append)
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
        image_shape=(60, 80), runs=2, warm_up_runs=1, baseline='eager',
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
    assert len(latency_table(found).splitlines()) == 2 + 3
