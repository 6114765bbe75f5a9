"""Settings: everything is off unless asked for, and bad values are quoted."""

import json
import subprocess
import sys

import pytest

from efficientvla_ros.acceleration.config import AccelerationConfig, AccelerationError
from efficientvla_ros.acceleration.token_options import TokenOptions


def test_everything_is_off_by_default():
    settings = AccelerationConfig()
    assert settings.dense and settings.token_options is None and not settings.caches


@pytest.mark.parametrize(
    'change',
    [
        {'layers': 3},
        {'tokens': 9},
        {'mlp_ratio': 0.1},
        {'cache_interval': 2},
        {'channels_ratio': 0.2},
    ],
)
def test_any_technique_alone_is_not_dense(change):
    assert not AccelerationConfig(**change).dense


def test_options_of_techniques_that_are_off_leave_it_dense():
    assert AccelerationConfig(
        tokens_method='fastv', cache_threshold=0.5, layers_method='greedy', channels_method='wanda'
    ).dense


@pytest.mark.parametrize(
    ('values', 'message'),
    [
        ({'layers': 0}, 'layers is 0, expected a whole number from 1'),
        ({'layers': 2.5}, 'layers is 2.5'),
        ({'layers': True}, 'layers is True'),
        ({'layers': '8'}, "layers is '8'"),
        ({'layers_method': 'best'}, "layers_method is 'best', expected one of one_shot, greedy"),
        ({'mlp_ratio': 1.0}, 'mlp_ratio is 1.0, expected below 1'),
        ({'mlp_ratio': -0.25}, 'mlp_ratio is -0.25, expected a finite number from 0'),
        ({'mlp_ratio': float('nan')}, 'mlp_ratio is nan'),
        ({'tokens': 0}, 'tokens is 0'),
        ({'tokens_method': 'all'}, "tokens_method is 'all', expected one of efficientvla, fastv"),
        ({'tokens': 5, 'tokens_key': 6}, 'key tokens are 6, expected 1 to the 5 kept ones'),
        ({'tokens': 5, 'tokens_alpha': 1.5}, 'alpha is 1.5'),
        ({'tokens_diversity': 'none'}, "tokens_diversity is 'none', expected one of key, greedy"),
        ({'tokens_hysteresis': float('inf')}, 'tokens_hysteresis is inf'),
        (
            {'tokens_rows': 'bos'},
            "tokens_rows is 'bos', expected one of instruction, prompt, last",
        ),
        ({'scoring_layer': -1}, 'scoring_layer is -1, expected a whole number from 0'),
        ({'cache_interval': 0}, 'cache_interval is 0, expected a whole number from 1'),
        ({'cache_threshold': -1.0}, 'cache_threshold is -1.0'),
        ({'channels_ratio': 1.0}, 'channels_ratio is 1.0, expected below 1'),
        ({'channels_ratio': -0.1}, 'channels_ratio is -0.1, expected a finite number from 0'),
        (
            {'channels_method': 'magic'},
            "channels_method is 'magic', expected one of eap, eap_gap, every_frame, frozen, ",
        ),
        ({'channels_heads': 2}, 'channels_heads is 2, expected one of True, False'),
        ({'channels_update_rate': 1.5}, 'channels_update_rate is 1.5, expected 0 to 1'),
        ({'channels_alpha': 2.0}, 'channels_alpha is 2.0, expected 0 to 1'),
        ({'channels_history': float('nan')}, 'channels_history is nan'),
        ({'channels_window': 0}, 'channels_window is 0, expected a whole number from 1'),
        ({'channels_max_age': 0}, 'channels_max_age is 0'),
        (
            {'channels_ratio': 0.25, 'mlp_ratio': 0.25},
            'mlp_ratio is 0.25 and channels_ratio 0.25, expected one of them to be 0',
        ),
        ({'speed': 2}, "acceleration setting 'speed' is unknown, expected one of layers, "),
    ],
)
def test_a_bad_value_is_quoted_in_one_line(values, message):
    with pytest.raises(AccelerationError) as error:
        AccelerationConfig.from_dict(values)
    assert message in str(error.value) and '\n' not in str(error.value)


def test_settings_survive_json():
    settings = AccelerationConfig(layers=8, mlp_ratio=0.25, tokens=14, tokens_key=2)
    assert AccelerationConfig.from_dict(json.loads(json.dumps(settings.to_dict()))) == settings
    assert AccelerationConfig.from_dict({'tokens': 14}) == AccelerationConfig(tokens=14)


def test_token_settings_reach_the_selection():
    settings = AccelerationConfig(
        tokens=20,
        tokens_method='fastv',
        tokens_key=3,
        tokens_alpha=0.25,
        tokens_diversity='greedy',
        tokens_hysteresis=0.1,
        tokens_rows='prompt',
    )
    assert settings.token_options == TokenOptions(20, 'fastv', 3, 0.25, 'greedy', 0.1, 'prompt')


def test_settings_and_presets_need_no_torch():
    code = (
        'import sys, efficientvla_ros.acceleration.presets as p; '
        "assert p.PRESETS; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, '-c', code], check=True, timeout=60)
