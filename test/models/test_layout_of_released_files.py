"""Every tensor of the released files is known by name, shape and use."""

from collections import Counter

import pytest
from checkpoint_writers import MINI_COGACT, MINI_OPENVLA, huggingface_tensors, random_groups

from efficientvla_ros.models.config import CONFIGS, ConfigError
from efficientvla_ros.models.layout import (
    COGACT,
    EMBEDDED,
    OPENVLA,
    PRISMATIC,
    released_parameters,
    released_tensors,
)
from efficientvla_ros.models.placement import build_empty
from efficientvla_ros.models.sizes import head_config

HEADS = {
    'cogact-small': (62, 12_476_807, 7.55),
    'cogact-base': (110, 88_986_887, 7.63),
    'cogact-large': (206, 307_764_231, 7.85),
}


def shapes(specs) -> dict[str, tuple[int, ...]]:
    return {name: spec.shape for name, spec in specs.items()}


@pytest.mark.parametrize('name', HEADS)
def test_tensors_and_parameters_of_the_cogact_files(name):
    specs = released_tensors(CONFIGS[name], COGACT)
    tensors, head_parameters, billions = HEADS[name]
    groups = Counter(name.split('.')[0] for name in specs)
    assert groups == {
        'vision_backbone': 685,
        'projector': 6,
        'llm_backbone': 291,
        'action_model': tensors,
    }
    towers = Counter(name.split('.')[1] for name in specs if name.startswith('vision'))
    assert towers == {'dino_featurizer': 343, 'siglip_featurizer': 342}
    counts = released_parameters(CONFIGS[name])
    assert counts['dino'] == 303_230_976
    assert counts['siglip'] == 427_680_704
    assert counts['projector'] == 71_385_600
    assert counts['embedding'] + counts['llm'] + counts['lm_head'] == 6_738_939_904
    assert counts['action_head'] == head_parameters
    assert sum(counts.values()) == sum(spec.parameters for spec in specs.values())
    assert round(sum(counts.values()) / 1e9, 2) == billions


def test_needed_parameters_of_the_towers():
    specs = released_tensors(CONFIGS['cogact-base'], COGACT)
    live = Counter()
    for name, spec in specs.items():
        live[name.split('.')[1]] += spec.parameters if spec.target else 0
    assert live['dino_featurizer'] == 290_630_656
    assert live['siglip_featurizer'] == 397_200_544


@pytest.mark.parametrize('name', CONFIGS)
@pytest.mark.parametrize('layout', [EMBEDDED, COGACT, OPENVLA])
def test_tensors_in_use_are_exactly_the_parameters_of_the_model(name, layout):
    specs = released_tensors(CONFIGS[name], layout)
    parameters = {n: tuple(p.shape) for n, p in build_empty(CONFIGS[name]).named_parameters()}
    assert {spec.target: spec.shape for spec in specs.values() if spec.target} == parameters
    assert all(bool(spec.reason) == (spec.target is None) for spec in specs.values())


def test_names_and_shapes_are_those_of_files_written_from_the_published_tables():
    for config, layout in ((MINI_COGACT, COGACT), (MINI_OPENVLA, PRISMATIC)):
        written = {
            f'{group}.{name}': tuple(value.shape)
            for group, entries in random_groups(config).items()
            for name, value in entries.items()
        }
        assert shapes(released_tensors(config, layout)) == written
    tensors = huggingface_tensors(random_groups(MINI_OPENVLA))
    written = {name: tuple(value.shape) for name, value in tensors.items()}
    assert shapes(released_tensors(MINI_OPENVLA, OPENVLA)) == written


def test_huggingface_names_differ_as_published():
    specs = released_tensors(CONFIGS['openvla-7b'], OPENVLA)
    targets = {name: spec.target for name, spec in specs.items()}
    assert len(targets) == 685 + 6 + 291
    vision = 'vision_backbone.dino_featurizer.blocks.3'
    assert targets['vision_backbone.featurizer.blocks.3.ls1.scale_factor'] == f'{vision}.ls1.gamma'
    siglip = 'vision_backbone.siglip_featurizer.pos_embed'
    assert targets['vision_backbone.fused_featurizer.pos_embed'] == siglip
    assert targets['projector.fc3.bias'] == 'projector.projector.4.bias'
    assert targets['language_model.lm_head.weight'] == 'llm_backbone.llm.lm_head.weight'
    assert targets['vision_backbone.fused_featurizer.attn_pool.latent'] is None


def test_averaged_weights_stand_in_for_the_head():
    plain = released_tensors(MINI_COGACT, COGACT)
    kept = released_tensors(MINI_COGACT, COGACT, ema=True)
    swapped = released_tensors(MINI_COGACT, COGACT, ema=True, use_ema=True)
    assert kept.keys() == swapped.keys() > plain.keys()
    used = {n for n, s in swapped.items() if s.target and s.target.startswith('action_model.')}
    assert used and all(name.startswith('ema_diffusion.') for name in used)
    in_use = [{s.target for s in specs.values() if s.target} for specs in (plain, kept, swapped)]
    assert in_use[0] == in_use[1] == in_use[2]


@pytest.mark.parametrize('name', HEADS)
def test_the_size_of_a_head_is_read_from_its_shapes(name):
    found = shapes(released_tensors(CONFIGS[name], COGACT))
    assert head_config(found) == CONFIGS[name].head


def test_one_wrong_shape_does_not_change_the_size_of_the_head():
    config = CONFIGS['cogact-small']
    good = shapes(released_tensors(config, COGACT))
    for name in [name for name in good if name.startswith('action_model.')]:
        swapped = {**good, name: good[name][::-1]}
        assert head_config(swapped) == config.head, name


def test_a_head_of_unknown_width_has_sixty_four_channels_a_head_or_is_refused():
    found = shapes(released_tensors(MINI_COGACT, COGACT))
    assert head_config(found).heads == 1
    narrow = {name: tuple(24 if size == 64 else size for size in s) for name, s in found.items()}
    with pytest.raises(ConfigError, match='head is 24 wide, expected 384, 768, 1024'):
        head_config(narrow)
    assert head_config(narrow, {'heads': 3}).heads == 3
