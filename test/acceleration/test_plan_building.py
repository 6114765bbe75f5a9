"""From settings and profile to a plan: which parts run, what stays off and why."""

from dataclasses import FrozenInstanceError, replace

import pytest
from calibration_helpers import random_samples, small_policy
from small_models import tiny_openvla

from efficientvla_ros.acceleration.calibration import calibrate
from efficientvla_ros.acceleration.config import AccelerationConfig
from efficientvla_ros.acceleration.layer_pruning import kept_layers, protected_layers
from efficientvla_ros.acceleration.plan import PlanError, build_plan
from efficientvla_ros.acceleration.presets import PRESETS, preset
from efficientvla_ros.acceleration.width_pruning import kept_channels
from efficientvla_ros.models.config import CONFIGS

LAYERS = 8
PROTECTED = protected_layers(LAYERS, 2)


@pytest.fixture(scope='module')
def model():
    return small_policy(layers=LAYERS)


@pytest.fixture(scope='module')
def profile(model):
    return calibrate(model, random_samples(), source='random', greedy_protected=PROTECTED)


def plan_of(model, profile, **settings):
    return build_plan(model.config, AccelerationConfig(**settings), profile)


def test_the_dense_plan_runs_everything(model, profile):
    plan = plan_of(model, profile)
    assert plan.layers == tuple(range(LAYERS))
    assert plan.channels is None and plan.tokens is None
    assert plan.full_steps == tuple(range(10)) and not plan.caches and plan.notes == ()


def test_a_plan_cannot_be_changed(model, profile):
    with pytest.raises(FrozenInstanceError):
        plan_of(model, profile).layers = (0,)


def test_the_least_important_layers_go(model, profile):
    plan = plan_of(model, profile, layers=5)
    assert plan.layers == kept_layers(profile.importance.tolist(), 5, PROTECTED)
    assert len(plan.layers) == 5 and set(plan.layers) >= PROTECTED


def test_greedy_order_is_another_choice(model, profile):
    plan = plan_of(model, profile, layers=5, layers_method='greedy')
    gone = set(profile.greedy_removals(PROTECTED)[:3])
    assert plan.layers == tuple(index for index in range(LAYERS) if index not in gone)


def test_channels_are_chosen_for_the_layers_that_run(model, profile):
    plan = plan_of(model, profile, layers=5, mlp_ratio=0.25)
    assert len(plan.channels) == 5
    for layer, channels in zip(plan.layers, plan.channels):
        assert channels == tuple(kept_channels(profile.mlp_scores[layer], 72).tolist())


def test_tokens_and_steps_need_no_profile(model):
    plan = plan_of(model, None, tokens=5, cache_interval=5)
    assert plan.tokens.keep == 5 and plan.full_steps == (0, 5) and plan.notes == ()


def test_sampling_steps_are_those_asked_for(model):
    settings = AccelerationConfig(cache_interval=5)
    assert build_plan(model.config, settings, None, steps=20).full_steps == (0, 5, 10, 15)


def test_techniques_without_a_profile_stay_off_and_say_so(model):
    plan = plan_of(model, None, layers=5, mlp_ratio=0.25, tokens=5)
    assert plan.layers == tuple(range(LAYERS)) and plan.channels is None
    assert len(plan.notes) == 2 and plan.tokens is not None
    assert plan.notes[0].startswith('layer pruning stays off: the model has no calibration')
    assert plan.notes[1].startswith('MLP pruning stays off: the model has no calibration')
    settings = AccelerationConfig(layers=5)
    reason = build_plan(model.config, settings, None, no_profile='it is of another model').notes
    assert reason == ('layer pruning stays off: it is of another model',)


def test_a_greedy_order_that_was_not_measured_is_a_note(model, profile):
    plain = replace(profile, greedy_order=profile.greedy_order[:0])
    plan = plan_of(model, plain, layers=5, layers_method='greedy')
    assert plan.layers == tuple(range(LAYERS)) and '--greedy' in plan.notes[0]
    other = plan_of(model, profile, layers=5, layers_method='greedy', scoring_layer=1)
    assert other.layers == tuple(range(LAYERS)) and 'expected [0, 1, 7]' in other.notes[0]


def test_a_cache_without_a_diffusion_head_is_a_note():
    plan = build_plan(tiny_openvla().config, AccelerationConfig(cache_interval=5), None)
    assert plan.steps == 0 and not plan.caches
    assert plan.notes == ('feature cache stays off: model tiny has no diffusion head',)


def test_counts_that_leave_nothing_out_are_dense(model, profile):
    plan = plan_of(model, profile, layers=LAYERS, tokens=16, mlp_ratio=0.01)
    dense = plan_of(model, profile)
    assert replace(plan, config=dense.config) == dense


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'layers': 9}, r'layers to keep is 9, expected 4 \.\. 8 .*, in model small'),
        ({'layers': 3}, r'layers to keep is 3, expected 4 \.\. 8 \(layers 0, 1, 2, 7 are prot'),
        ({'tokens': 17}, 'kept tokens are 17, expected at most 16, in model small'),
        ({'tokens': 5, 'scoring_layer': 7}, r'scoring layer is 7, expected 0 \.\. 6'),
        ({'tokens': 5, 'scoring_layer': 70}, r'scoring layer is 70, expected 0 \.\. 6'),
        ({'layers': 5, 'scoring_layer': 8}, r'scoring layer is 8, expected 0 \.\. 7'),
    ],
)
def test_counts_beyond_the_model_are_refused_in_one_line(model, profile, settings, message):
    for known in (profile, None):
        with pytest.raises(PlanError, match=message) as error:
            plan_of(model, known, **settings)
        assert '\n' not in str(error.value)


@pytest.mark.parametrize('name', CONFIGS)
def test_every_preset_fits_every_model(name):
    for row in PRESETS:
        plan = build_plan(CONFIGS[name], preset(row, CONFIGS[name]), None)
        assert set(plan.layers) <= set(range(CONFIGS[name].llm.layers))


def test_a_plan_is_one_line_for_logs(model, profile):
    plan = plan_of(model, profile, layers=5, mlp_ratio=0.25, tokens=5, cache_interval=5)
    assert str(plan) == (
        '5 layers, 72 MLP channels, 5 visual tokens (efficientvla) after layer 2, '
        '2 of 10 sampling steps in full'
    )
