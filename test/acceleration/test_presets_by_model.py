"""Presets: the published fractions of every model's own counts, and cogact-mini's proportions."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from efficientvla_ros.acceleration.config import AccelerationConfig, AccelerationError
from efficientvla_ros.acceleration.cost_model import Workload, tick_cost
from efficientvla_ros.acceleration.presets import PRESETS, preset
from efficientvla_ros.acceleration.presets_file import presets_text
from efficientvla_ros.models.config import CONFIGS, TABLETOP_PICK

ROOT = Path(__file__).resolve().parents[2]
BASE = CONFIGS['cogact-base']


def test_the_published_settings_come_back_on_the_published_model():
    whole = {'mlp_ratio': 0.25, 'cache_interval': 5}
    assert preset('efficientvla', BASE) == AccelerationConfig(layers=22, tokens=56, **whole)
    assert preset('efficientvla_light', BASE) == AccelerationConfig(layers=28, tokens=112, **whole)


@pytest.mark.parametrize(
    ('name', 'layers', 'tokens'), [('efficientvla', 8, 14), ('efficientvla_light', 11, 28)]
)
def test_counts_of_the_embedded_model_round_half_up(name, layers, tokens):
    found = preset(name, TABLETOP_PICK)
    assert (found.layers, found.tokens) == (layers, tokens)


def test_dense_is_everything_off():
    assert preset('dense', TABLETOP_PICK) == AccelerationConfig()


@pytest.mark.parametrize(
    ('name', 'names'),
    [
        ('layers', {'layers'}),
        ('mlp', {'mlp_ratio'}),
        ('tokens', {'tokens'}),
        ('cache', {'cache_interval'}),
        ('layers_mlp', {'layers', 'mlp_ratio'}),
        ('fastv', {'tokens', 'tokens_method'}),
        ('random', {'tokens', 'tokens_method'}),
    ],
)
def test_a_row_of_the_table_is_a_part_of_the_whole_method(name, names):
    whole = preset('efficientvla', BASE).to_dict() | {'tokens_method': name}
    expected = AccelerationConfig(**{key: whole[key] for key in names})
    assert preset(name, BASE) == expected


@pytest.mark.parametrize(('name', 'ratio'), [('ecovla_25', 0.25), ('ecovla_40', 0.4)])
def test_ecovla_leaves_out_its_published_ratios_and_nothing_else(name, ratio):
    assert preset(name, BASE) == AccelerationConfig(channels_ratio=ratio)


def test_combined_is_efficientvla_with_channels_that_adapt_for_the_narrow_mlp():
    expected = replace(preset('efficientvla', BASE), mlp_ratio=0.0, channels_ratio=0.25)
    assert preset('combined', BASE) == expected


@pytest.mark.parametrize('percent', [25, 40])
@pytest.mark.parametrize('name', ['eap_gap', 'frozen', 'wanda', 'random_channels', 'every_frame'])
def test_other_choices_of_channels_have_ecovlas_ratios(name, percent):
    expected = replace(
        preset(f'ecovla_{percent}', BASE), channels_method=name.removesuffix('_channels')
    )
    assert preset(f'{name}_{percent}', BASE) == expected


def test_the_smallest_model_keeps_something():
    config = replace(TABLETOP_PICK, image_size=28, llm=replace(TABLETOP_PICK.llm, layers=1))
    for name in PRESETS:
        found = preset(name, config)
        assert (found.layers or 1) >= 1 and (found.tokens or 1) >= 1


def test_an_unknown_name_is_quoted_with_those_that_exist():
    with pytest.raises(AccelerationError, match="preset 'fast' is unknown, expected one of dense"):
        preset('fast', TABLETOP_PICK)


def test_the_file_to_look_up_agrees_with_the_presets():
    text = (ROOT / 'config/presets.yaml').read_text(encoding='utf-8')
    assert text == presets_text(), 'run python -m efficientvla_ros.acceleration.presets_file'
    content = yaml.safe_load(text)
    assert content.keys() == CONFIGS.keys()
    for model, rows in content.items():
        for name in PRESETS:
            assert AccelerationConfig.from_dict(rows[name]) == preset(name, CONFIGS[model])


@pytest.mark.parametrize('prompt_tokens', [8, 30])
def test_the_mini_model_has_the_proportions_of_the_published_one(prompt_tokens):
    mini = CONFIGS['cogact-mini']
    cost = tick_cost(mini, Workload(prompt_tokens))
    share = {part.name: part.macs / cost.macs for part in cost.components}
    vision = share['dino'] + share['siglip'] + share['projector']
    assert share['llm'] == pytest.approx(0.89, abs=0.01)
    assert vision == pytest.approx(0.095, abs=0.01)
    assert share['action_head'] == pytest.approx(0.013, abs=0.005)
    assert 20e6 <= cost.parameters <= 30e6
    published = tick_cost(BASE, Workload(30))
    for name, macs in share.items():
        assert macs == pytest.approx(published[name].macs / published.macs, abs=0.015)
    assert (mini.num_patches, mini.head.horizon) == (256, 16)
