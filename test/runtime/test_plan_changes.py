"""Plans change between two ticks: none is dropped, none mixes two plans, memory stays bounded."""

import gc
import threading
import weakref

import numpy as np
import pytest
import torch
from naive_plans import deep_cogact, deep_openvla, engine_for, observation, profile_of

from efficientvla_ros.acceleration.config import AccelerationConfig
from efficientvla_ros.types import InputError

SETTINGS = (
    AccelerationConfig(),
    AccelerationConfig(layers=5),
    AccelerationConfig(tokens=5, cache_interval=5),
    AccelerationConfig(layers=6, mlp_ratio=0.25, tokens=3, cache_interval=2),
    AccelerationConfig(mlp_ratio=0.5),
    AccelerationConfig(tokens=9, tokens_method='fastv'),
)


@pytest.fixture(scope='module', params=[deep_cogact, deep_openvla])
def model(request):
    return request.param()


def random_tokens(**changes) -> AccelerationConfig:
    return AccelerationConfig(tokens=5, tokens_method='random', **changes)


def test_plans_change_under_a_running_loop_without_dropping_a_tick(model):
    profile = profile_of(model)
    engine = engine_for(model, profile=profile)
    look = observation()
    expected = {}
    for settings in SETTINGS:
        other = engine_for(model, profile=profile, acceleration=settings)
        chunk, report = other.infer(look)
        counts = (report.visual_tokens, report.layers_run, report.diffusion_steps)
        expected.setdefault(counts, []).append(chunk.actions)
    stop, ticks, failures = threading.Event(), [], []

    def run():
        try:
            while not stop.is_set():
                ticks.append(engine.infer(look))
        except BaseException as error:
            failures.append(error)

    threads, intra = threading.Thread(target=run), torch.get_num_threads()
    threads.start()
    try:
        for _ in range(3):
            for settings in SETTINGS:
                before = len(ticks)
                plan = engine.set_acceleration(settings)
                assert engine.plan is plan and plan.config == settings
                while len(ticks) < before + 2 and threads.is_alive():
                    stop.wait(0.001)
    finally:
        stop.set()
        threads.join()
    assert failures == [] and torch.get_num_threads() == intra
    assert [chunk.sequence for chunk, _ in ticks] == list(range(1, len(ticks) + 1))
    seen = set()
    for chunk, report in ticks:
        counts = (report.visual_tokens, report.layers_run, report.diffusion_steps)
        seen.add(counts)
        assert any(np.array_equal(chunk.actions, one) for one in expected[counts])
    assert seen == set(expected)


def test_a_new_plan_holds_from_the_next_tick_on(model):
    engine = engine_for(model, profile=profile_of(model))
    engine.set_acceleration(AccelerationConfig(layers=5))
    assert engine.infer(observation())[1].layers_run == 5
    engine.set_acceleration('dense')
    assert engine.infer(observation())[1].layers_run == 7


def test_presets_are_taken_by_name(model):
    engine = engine_for(model, profile=profile_of(model), acceleration='efficientvla')
    # 22 / 32 of 7 layers, 56 / 256 of 16 tokens, half up.
    assert len(engine.plan.layers) == 5 and engine.plan.tokens.keep == 4


@pytest.mark.parametrize(
    ('acceleration', 'message'),
    [
        ('fast', "preset 'fast' is unknown, expected one of dense, efficientvla"),
        (AccelerationConfig(layers=8), 'layers to keep is 8, expected 4 .. 7'),
        (AccelerationConfig(tokens=17), 'kept tokens are 17, expected at most 16'),
    ],
)
def test_settings_that_do_not_fit_leave_the_plan_as_it_is(model, acceleration, message):
    engine = engine_for(model)
    plan = engine.set_acceleration(AccelerationConfig(tokens=7))
    for ask in (engine.set_acceleration, engine.plan_for):
        with pytest.raises(InputError) as error:
            ask(acceleration)
        assert message in str(error.value) and '\n' not in str(error.value)
    assert engine.plan is plan and engine.infer(observation())[1].visual_tokens == 7


def test_a_plan_that_fails_when_it_is_tried_leaves_nothing_behind(model, monkeypatch):
    engine = engine_for(model, profile=profile_of(model))
    plan, narrow = engine.plan, engine._runners._narrow

    def fail(*_):
        raise MemoryError('no room')

    with monkeypatch.context() as patch:
        patch.setattr(engine, '_warm', fail)
        with pytest.raises(MemoryError):
            engine.set_acceleration(AccelerationConfig(mlp_ratio=0.25))
    gc.collect()
    assert engine.plan is plan and len(narrow._mlps) == 0
    assert engine.infer(observation())[1].layers_run == 7
    assert engine.set_acceleration(AccelerationConfig(mlp_ratio=0.25)).channels is not None


def test_a_plan_can_be_looked_at_without_being_set(model):
    engine = engine_for(model, profile=profile_of(model))
    plan = engine.plan_for(AccelerationConfig(layers=5))
    assert len(plan.layers) == 5 and len(engine.plan.layers) == 7


def test_recent_plans_are_not_prepared_again(model, monkeypatch):
    engine = engine_for(model, profile=profile_of(model))
    made = []
    make = engine._runners._make
    monkeypatch.setattr(engine._runners, '_make', lambda plan: made.append(plan) or make(plan))
    narrow, other = AccelerationConfig(mlp_ratio=0.25), AccelerationConfig(tokens=5)
    for settings in (narrow, other, narrow, 'dense', other, narrow):
        engine.set_acceleration(settings)
    assert [plan.config for plan in made] == [narrow, other]


def test_plans_of_one_width_share_their_weights_and_old_ones_are_freed(model):
    engine = engine_for(model, profile=profile_of(model))
    narrow = engine._runners._narrow
    engine.set_acceleration(AccelerationConfig(mlp_ratio=0.25))
    first = weakref.ref(next(iter(narrow._mlps.values())))
    assert len(narrow._mlps) == 7
    engine.set_acceleration(AccelerationConfig(mlp_ratio=0.25, layers=5))
    assert len(narrow._mlps) == 7
    for tokens in range(3, 8):
        engine.set_acceleration(AccelerationConfig(tokens=tokens))
    gc.collect()
    assert first() is None and len(narrow._mlps) == 0


def test_a_new_profile_makes_the_plan_anew(model):
    engine = engine_for(model, acceleration=AccelerationConfig(layers=5))
    assert engine.profile is None and len(engine.plan.layers) == 7 and engine.plan.notes
    engine.profile = profile = profile_of(model)
    assert engine.profile is profile
    assert len(engine.plan.layers) == 5 and engine.plan.notes == ()
    assert engine.infer(observation())[1].layers_run == 5


def test_a_profile_of_another_model_is_refused(model):
    engine = engine_for(model)
    other = deep_openvla() if engine.guidance is not None else deep_cogact()
    with pytest.raises(InputError, match='profile is of another model'):
        engine.profile = profile_of(other)
    assert engine.profile is None


def kept_in_a_row(engine, instructions) -> list[tuple[int, ...]]:
    engine.report_tokens = True
    return [tuple(engine.infer(observation(text))[1].kept_tokens) for text in instructions]


def test_random_draws_go_on_in_an_episode_and_start_over_with_the_next(model):
    engine = engine_for(model, acceleration=random_tokens())
    engine.warm_up()
    first = kept_in_a_row(engine, ['pick the can'] * 4)
    assert len(set(first)) == 4
    assert kept_in_a_row(engine, ['pick the can']) != first[:1]
    engine.reset()
    assert kept_in_a_row(engine, ['pick the can'] * 4) == first
    assert kept_in_a_row(engine, ['move the cube'] * 4) == first
    engine.set_acceleration('dense')
    engine.set_acceleration(random_tokens())
    assert kept_in_a_row(engine, ['move the cube'] * 4) == first


def test_hysteresis_remembers_the_tick_before_until_a_reset(model):
    settings = AccelerationConfig(tokens=5, tokens_hysteresis=10.0)
    engine = engine_for(model, acceleration=settings)
    engine.report_tokens = True

    def kept(seed: int) -> list[int]:
        return engine.infer(observation(seed=seed))[1].kept_tokens.tolist()

    alone = {}
    for seed in range(6):
        engine.reset()
        alone[seed] = kept(seed)
    assert len({tuple(each) for each in alone.values()}) > 1
    engine.reset()
    assert [kept(seed) for seed in range(6)] == [alone[0]] * 6
    engine.reset()
    assert kept(5) == alone[5]
