"""Sizes of the networks from the configurations of the released folders, and the full verdict."""

import json

import pytest
import torch
from checkpoint_writers import MINI_COGACT, MINI_OPENVLA, write_cogact, write_openvla

from efficientvla_ros.models.config import CONFIGS, LlamaConfig
from efficientvla_ros.models.errors import CheckpointError
from efficientvla_ros.models.layout import COGACT, OPENVLA, PRISMATIC, released_tensors
from efficientvla_ros.models.sizes import model_config
from efficientvla_ros.models.sources import Source
from efficientvla_ros.models.tensor_files import open_tensors
from efficientvla_ros.models.verify import verify_checkpoint

RELEASED_OPENVLA = {
    'model_type': 'openvla',
    'timm_model_ids': ['vit_large_patch14_reg4_dinov2.lvd142m', 'vit_so400m_patch14_siglip_224'],
    'image_sizes': [224, 224],
    'use_fused_vision_backbone': True,
    'image_resize_strategy': 'resize-naive',
    'text_config': {'model_type': 'llama', 'pad_token_id': 32000, 'vocab_size': 32064},
    'pad_to_multiple_of': 64,
    'n_action_bins': 256,
}


def source(tmp_path, kind: str, description: dict) -> Source:
    return Source(kind, tmp_path, tmp_path / 'weights', description)


@pytest.mark.parametrize('name', ['cogact-small', 'cogact-base', 'cogact-large'])
def test_the_released_cogact_folders_are_recognised(tmp_path, name):
    shapes = {n: spec.shape for n, spec in released_tensors(CONFIGS[name], COGACT).items()}
    description = {'vla': {'base_vlm': 'prism-dinosiglip-224px+7b'}}
    assert model_config(source(tmp_path, COGACT, description), shapes) == CONFIGS[name]


def test_the_released_openvla_folder_is_recognised(tmp_path):
    found = model_config(source(tmp_path, OPENVLA, RELEASED_OPENVLA), {})
    assert found == CONFIGS['openvla-7b']


def test_fields_of_the_language_model_count_more_than_the_released_sizes(tmp_path):
    text = {
        'hidden_size': 2048,
        'num_hidden_layers': 5,
        'num_attention_heads': 16,
        'intermediate_size': 5504,
        'vocab_size': 32064,
        'rms_norm_eps': 1e-6,
        'rope_theta': 5e5,
        'max_position_embeddings': 2048,
    }
    found = model_config(source(tmp_path, OPENVLA, RELEASED_OPENVLA | {'text_config': text}), {})
    assert found.llm == LlamaConfig(
        2048, 5, 16, 16, 5504, 32064, 1e-6, 5e5, LlamaConfig().max_positions
    )
    assert found.name == 'openvla'


@pytest.mark.parametrize(
    ('change', 'expected'),
    [
        ({'image_resize_strategy': 'letterbox'}, "'letterbox', expected 'resize-naive'"),
        ({'use_fused_vision_backbone': False}, 'use_fused_vision_backbone'),
        ({'timm_model_ids': ['vit_base', 'vit_so400m_patch14_siglip_224']}, 'timm_model_ids'),
        ({'timm_model_ids': RELEASED_OPENVLA['timm_model_ids'][::-1]}, 'timm_model_ids'),
        ({'timm_model_ids': None}, 'timm_model_ids'),
        ({'text_config': {'rope_scaling': {'type': 'linear'}}}, 'rope_scaling'),
        ({'text_config': {'num_attention_heads': 3}}, r'llm\.width is 4096'),
        ({'image_sizes': [384, 384]}, 'image_size is 384'),
    ],
)
def test_networks_that_this_package_does_not_have_are_refused(tmp_path, change, expected):
    with pytest.raises(CheckpointError, match=rf'config\.json.*{expected}') as error:
        model_config(source(tmp_path, OPENVLA, RELEASED_OPENVLA | change), {})
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('key', ['timm_model_ids', 'n_action_bins', 'image_sizes'])
def test_a_missing_key_of_the_configuration_is_named(tmp_path, key):
    description = {name: value for name, value in RELEASED_OPENVLA.items() if name != key}
    with pytest.raises(CheckpointError, match=rf"config\.json lacks the key '{key}'"):
        model_config(source(tmp_path, OPENVLA, description), {})


def test_the_verdict_on_a_good_folder(tmp_path):
    write_cogact(tmp_path, ema=True)
    found = verify_checkpoint(tmp_path)
    assert found.good and found.summary() == ''
    assert found.kind == COGACT and found.config == MINI_COGACT
    assert found.groups == {
        'vision_backbone': 103,
        'projector': 6,
        'llm_backbone': 21,
        'action_model': 30,
        'ema_diffusion': 30,
    }
    # Last block 14 + 12, pooling 2 + 15, next-token scores 1, history 2 x 2, averaged 28.
    assert sum(found.unused.values()) == 26 + 17 + 1 + 4 + 28
    assert found.statistics_keys == ('bridge_orig', 'fractal20220817_data')
    assert found.has_tokenizer and found.has_ema
    assert found.dtypes == {'float32': 190}
    assert found.file_bytes == (tmp_path / 'checkpoints' / 'CogACT-Mini.pt').stat().st_size


@pytest.mark.parametrize('shards', [1, 3])
def test_the_verdict_on_an_openvla_folder(tmp_path, shards):
    write_openvla(tmp_path, shards=shards)
    found = verify_checkpoint(tmp_path)
    assert found.good and found.kind == OPENVLA and found.config == MINI_OPENVLA
    assert found.groups == {'vision_backbone': 103, 'projector': 6, 'language_model': 21}
    assert found.dtypes == {'bfloat16': 130}
    files = tmp_path.glob('*.safetensors')
    assert found.file_bytes == sum(file.stat().st_size for file in files)


def test_the_verdict_lists_all_faults_and_does_not_raise(tmp_path):
    def damage(groups):
        del groups['projector']
        del groups['action_model']['net.positional_embedding']
        groups['action_model']['net.other'] = torch.zeros(2)
        for n in range(2):
            name = f'llm.model.layers.{n}.mlp.down_proj.weight'
            groups['llm_backbone'][name] = groups['llm_backbone'][name].T.contiguous()

    write_cogact(tmp_path, change=damage, tokenizer=False)
    (tmp_path / 'dataset_statistics.json').unlink()
    found = verify_checkpoint(tmp_path)
    assert not found.good
    assert found.missing_groups == ('projector',)
    assert len(found.missing) == 7 and 'action_model.net.positional_embedding' in found.missing
    assert found.extra == ('action_model.net.other',)
    assert found.misshaped == {
        f'llm_backbone.llm.model.layers.{n}.mlp.down_proj.weight': ((48, 32), (32, 48))
        for n in range(2)
    }
    assert found.statistics_keys == () and not found.has_tokenizer
    assert '\n' not in found.summary()


def test_a_missing_head_is_a_fault_and_not_another_model(tmp_path):
    write_cogact(tmp_path, change=lambda groups: groups.pop('action_model'))
    assert verify_checkpoint(tmp_path).missing_groups == ('action_model',)


def test_the_three_groups_of_openvla_in_one_pt_file(tmp_path):
    write_cogact(tmp_path, change=lambda groups: groups.pop('action_model'))
    description = json.loads((tmp_path / 'config.json').read_text())
    del description['model']['suffix_ids']
    (tmp_path / 'config.json').write_text(json.dumps(description | {'model_type': 'openvla'}))
    found = verify_checkpoint(tmp_path)
    assert found.good and found.kind == PRISMATIC
    assert verify_checkpoint(next(tmp_path.glob('*/*.pt'))).good


def test_averaged_weights_beside_the_model_are_found_too(tmp_path):
    groups = write_cogact(tmp_path, ema=True)
    path = next(tmp_path.glob('*/*.pt'))
    averaged = groups.pop('ema_diffusion')
    torch.save({'model': groups, 'ema_diffusion': averaged, 'epoch': 3}, path)
    found = verify_checkpoint(tmp_path)
    assert found.good and found.has_ema


def test_headers_are_enough_to_verify(tmp_path):
    write_cogact(tmp_path)
    file = open_tensors(next(tmp_path.glob('*/*.pt')))
    name = 'llm_backbone.llm.lm_head.weight'
    assert file.infos[name].shape == (32064, 32) and file.infos[name].dtype == 'float32'
    assert file.tensor(name).shape == (32064, 32)
