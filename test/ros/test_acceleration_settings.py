"""Parameters `acceleration.*` become a preset with changes; values that fit no model are named."""

from __future__ import annotations

import pytest

from efficientvla_ros.acceleration.config import AccelerationConfig
from efficientvla_ros.acceleration.presets import PRESETS, preset
from efficientvla_ros.models.config import CONFIGS
from efficientvla_ros.ros.parameters.acceleration import (
    SPECS,
    acceleration_config,
    audit_settings,
    plan_name,
    same_acceleration,
)
from efficientvla_ros.ros.parameters.policy import TABLE, engine_options
from efficientvla_ros.runtime.audit import AuditSettings
from efficientvla_ros.types import InputError

MODEL = CONFIGS['cogact-base']


def settings(**values: object):
    """Settings with parameters of the group (`__` for the dot)."""
    return TABLE.settings(
        {f'acceleration.{name.replace("__", ".")}': value for name, value in values.items()}
    )


def test_by_default_nothing_is_left_out():
    assert acceleration_config(settings(), MODEL) == AccelerationConfig()
    assert plan_name(settings(), MODEL) == 'dense'


@pytest.mark.parametrize('name', PRESETS)
def test_a_preset_alone_is_that_preset(name):
    chosen = settings(preset=name)
    assert acceleration_config(chosen, MODEL) == preset(name, MODEL)
    assert plan_name(chosen, MODEL) == name


@pytest.mark.parametrize(
    ('parameter', 'value', 'field'),
    [
        ('layers__keep', 30, 'layers'),
        ('layers__method', 'greedy', 'layers_method'),
        ('mlp__ratio', 0.5, 'mlp_ratio'),
        ('mlp__ratio', 0.0, 'mlp_ratio'),
        ('tokens__keep', 72, 'tokens'),
        ('tokens__method', 'fastv', 'tokens_method'),
        ('tokens__diversity', 'greedy', 'tokens_diversity'),
        ('tokens__hysteresis', 0.1, 'tokens_hysteresis'),
        ('cache__interval', 1, 'cache_interval'),
        ('cache__threshold', 0.2, 'cache_threshold'),
        ('channels__method', 'wanda', 'channels_method'),
        ('channels__heads', False, 'channels_heads'),
        ('channels__update_rate', 0.3, 'channels_update_rate'),
        ('channels__alpha', 0.9, 'channels_alpha'),
        ('channels__history', 0.5, 'channels_history'),
        ('channels__window', 20, 'channels_window'),
        ('channels__max_age', 99, 'channels_max_age'),
    ],
)
def test_one_parameter_changes_one_thing_of_the_preset(parameter, value, field):
    chosen = settings(preset='efficientvla', **{parameter: value})
    found = acceleration_config(chosen, MODEL).to_dict()
    assert found.pop(field) == value
    expected = preset('efficientvla', MODEL).to_dict()
    assert expected.pop(field) != value
    assert found == expected
    assert plan_name(chosen, MODEL) == 'efficientvla (changed)'


def test_a_ratio_of_channels_replaces_that_of_the_preset():
    found = acceleration_config(settings(preset='ecovla_25', channels__ratio=0.4), MODEL)
    assert found == preset('ecovla_40', MODEL)
    off = acceleration_config(settings(preset='combined', channels__ratio=0.0), MODEL)
    assert off.channels_ratio == 0.0 and off.layers == 22


def test_two_ways_to_leave_out_mlp_channels_are_refused_together():
    both = settings(preset='efficientvla', channels__ratio=0.25)
    with pytest.raises(InputError, match=r'parameters acceleration\.\*: mlp_ratio is 0\.25 and'):
        acceleration_config(both, MODEL)


def test_audit_parameters_are_the_settings_of_the_audit():
    chosen = settings(
        audit__enabled=False, audit__max_deviation=0.1, audit__patience=3, audit__recovery=9
    )
    assert audit_settings(chosen) == AuditSettings(False, 0.1, 3, 9)
    assert audit_settings(settings()) == AuditSettings()
    assert same_acceleration(chosen, settings())  # no other plan


@pytest.mark.parametrize(
    ('values', 'message'),
    [
        ({'preset': 'magic'}, "parameter acceleration.preset: got 'magic', expected string, one"),
        ({'mlp__ratio': -0.5}, 'acceleration.mlp.ratio: got -0.5, expected -1 or 0 to 0.95'),
        ({'channels__ratio': -0.5}, 'channels.ratio: got -0.5, expected -1 or 0 to 0.95'),
        ({'channels__method': 'magic'}, "acceleration.channels.method: got 'magic'"),
        ({'channels__update_rate': 1.5}, 'acceleration.channels.update_rate: got 1.5'),
        ({'audit__max_deviation': -1.0}, 'acceleration.audit.max_deviation: got -1.0'),
        ({'latency_budget_ms': -1.0}, 'acceleration.latency_budget_ms: got -1.0'),
        ({'tokens__keep': -1}, 'acceleration.tokens.keep: got -1'),
        ({'cache__interval': 2.5}, 'acceleration.cache.interval: got 2.5, expected integer'),
    ],
)
def test_values_that_fit_no_model_are_refused_before_one_is_loaded(values, message):
    with pytest.raises(InputError, match=message):
        settings(**values)


def test_the_engine_is_loaded_with_plan_and_profile():
    chosen = settings(preset='tokens', profile='/a.safetensors', only_kept_layers=True)
    options = engine_options(chosen)
    assert options['acceleration'](MODEL) == preset('tokens', MODEL)
    assert options['profile'] == '/a.safetensors' and options['only_kept_layers'] is True
    assert engine_options(settings())['profile'] is None


def test_other_parameters_make_no_other_plan():
    before = settings(preset='tokens')
    assert same_acceleration(before, before.replaced({'control.rate': 10.0}))
    for spec in SPECS:
        other = {'double': 0.5, 'bool': not spec.default, 'integer': 3}.get(spec.type_name)
        choices = [choice for choice in spec.choices if choice != before[spec.name]]
        other = other if other is not None else choices[0] if choices else '/x'
        assert not same_acceleration(before, before.replaced({spec.name: other}))
