"""What is wrong with a checkpoint is said in one line that names file and expectation."""

import json
import os
import re
from pathlib import Path

import pytest
import torch
from checkpoint_writers import write_cogact, write_openvla
from safetensors.torch import load_file, save_file

from efficientvla_ros.models import placement
from efficientvla_ros.models.checkpoint import load_checkpoint, random_checkpoint
from efficientvla_ros.models.errors import CheckpointError

KEY = ('bridge_orig',)
PT = Path('checkpoints') / 'CogACT-Mini.pt'
INDEX = 'model.safetensors.index.json'


@pytest.fixture
def cogact(tmp_path):
    write_cogact(tmp_path, keys=KEY)
    return tmp_path


@pytest.fixture
def openvla(tmp_path):
    write_openvla(tmp_path, keys=KEY)
    return tmp_path


def refused(path: Path, *expected: str, **options) -> str:
    """The one line with which a checkpoint is refused."""
    with pytest.raises(CheckpointError) as error:
        load_checkpoint(path, **options)
    line = str(error.value)
    assert '\n' not in line and len(line) < 700
    for text in expected:
        assert text in line
    return line


def edit_json(path: Path, **values) -> None:
    content = json.loads(path.read_text()) | values
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))


class Payload:
    def __reduce__(self):
        return os.system, ('touch code_was_run',)


def test_a_truncated_pt_file(cogact):
    path = cogact / PT
    whole = path.read_bytes()
    for kept in (len(whole) - 1000, len(whole) // 2, 100):
        path.write_bytes(whole[:kept])
        refused(cogact, str(path), 'is truncated')


def test_a_truncated_shard(openvla):
    path = openvla / 'model-00002-of-00002.safetensors'
    path.write_bytes(path.read_bytes()[:-1000])
    refused(openvla, str(path), 'not a readable safetensors file')


@pytest.mark.parametrize(
    ('content', 'expected'),
    [
        (b'', 'is not a file of torch.save'),
        (b'<html>not found</html>', 'is not a file of torch.save'),
        (b'version https://git-lfs.github.com/spec/v1\n', 'is not a file of torch.save'),
    ],
)
def test_a_file_of_another_kind(cogact, content, expected):
    (cogact / PT).write_bytes(content)
    refused(cogact, str(cogact / PT), expected)


def test_a_pt_file_in_the_old_format(cogact):
    torch.save({'model': {}}, cogact / PT, _use_new_zipfile_serialization=False)
    refused(cogact, str(cogact / PT), 'before torch 1.6', 'expected a zip archive')


def test_a_pickle_with_code_is_refused_and_not_run(cogact, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({'model': {'vision_backbone': Payload()}}, cogact / PT)
    refused(cogact, str(cogact / PT), 'posix.system: refused, expected tensors alone')
    assert not (tmp_path / 'code_was_run').exists()


@pytest.mark.parametrize(
    ('content', 'expected'),
    [
        ([1, 2], "no dictionary 'model'"),
        ({'state_dict': {}}, "no dictionary 'model'"),
        ({'model': {'projector': [1]}}, 'group projector is a list, expected a dictionary'),
        ({'model': {'projector': {'a': 'text'}}}, 'projector.a is str, expected a dense tensor'),
    ],
)
def test_a_pt_file_with_other_things_in_it(cogact, content, expected):
    torch.save(content, cogact / PT)
    refused(cogact, str(cogact / PT), expected)


@pytest.mark.parametrize('group', ['vision_backbone', 'projector', 'llm_backbone', 'action_model'])
def test_a_missing_group_is_named(tmp_path, group):
    write_cogact(tmp_path, keys=KEY, change=lambda groups: groups.pop(group))
    refused(tmp_path, str(tmp_path / PT), f'lacks the group {group}')


def test_missing_and_additional_tensors_are_named(tmp_path):
    def change(groups):
        del groups['projector']['projector.2.bias']
        groups['llm_backbone']['llm.score.weight'] = torch.zeros(1)

    write_cogact(tmp_path, keys=KEY, change=change)
    refused(
        tmp_path,
        'lacks 1 tensors: projector.projector.2.bias',
        'has unexpected 1 tensors: llm_backbone.llm.score.weight',
    )


@pytest.mark.parametrize(
    ('group', 'name'),
    [
        ('action_model', 'net.x_embedder.linear.weight'),
        ('action_model', 'net.positional_embedding'),
        ('action_model', 'net.final_layer.linear.weight'),
        ('projector', 'projector.0.weight'),
        ('llm_backbone', 'llm.lm_head.weight'),
        ('vision_backbone', 'siglip_featurizer.attn_pool.kv.weight'),
    ],
)
def test_a_transposed_tensor_is_named_with_both_shapes(tmp_path, group, name):
    def transpose(groups):
        groups[group][name] = groups[group][name].T.contiguous()

    groups = write_cogact(tmp_path, keys=KEY, change=transpose)
    found = tuple(groups[group][name].shape)
    refused(
        tmp_path,
        'has 1 tensors of the wrong shape: '
        f'{group}.{name} has shape {found}, expected {found[::-1]}',
    )


def test_quantised_weights_are_refused(tmp_path):
    def quantise(groups):
        name = 'llm.model.layers.0.mlp.up_proj.weight'
        groups['llm_backbone'][name] = groups['llm_backbone'][name].to(torch.int8)

    write_cogact(tmp_path, keys=KEY, change=quantise)
    refused(tmp_path, 'not floating-point', 'up_proj.weight is int8')


def test_rotary_frequencies_of_older_files_are_ignored(tmp_path):
    def add(groups):
        name = 'llm.model.layers.0.self_attn.rotary_emb.inv_freq'
        groups['llm_backbone'][name] = torch.zeros(8)

    write_cogact(tmp_path, keys=KEY, change=add)
    assert load_checkpoint(tmp_path).unnorm_key == 'bridge_orig'


def test_a_head_of_impossible_width(tmp_path):
    def narrow(groups):
        for name, value in groups['action_model'].items():
            sizes = [size - 8 if size == 64 else size for size in value.shape]
            groups['action_model'][name] = torch.zeros(sizes)

    write_cogact(tmp_path, keys=KEY, change=narrow)
    refused(tmp_path, 'diffusion head is 56 wide', 'multiple of 64')


def test_an_unknown_base_model_lists_those_that_are_known(cogact):
    edit_json(cogact / 'config.json', model=None)
    refused(cogact, "'vla.base_vlm' is 'mini', expected prism-dinosiglip-224px+7b")
    edit_json(cogact / 'config.json', vla={'type': 'x'})
    refused(cogact, 'config.json describes no model', 'vla.base_vlm', 'openvla')


@pytest.mark.parametrize('vla', [{'base_vlm': ['x']}, {'base_vlm': None}])
def test_values_of_the_wrong_kind(cogact, vla):
    edit_json(cogact / 'config.json', model='large')
    refused(cogact, "'model' is 'large', expected an object")
    edit_json(cogact / 'config.json', model=None, vla=vla)
    refused(cogact, "'vla.base_vlm' is")


def test_sizes_that_do_not_fit_the_file(cogact):
    content = json.loads((cogact / 'config.json').read_text())
    content['model']['llm']['mlp_width'] = 47
    (cogact / 'config.json').write_text(json.dumps(content))
    refused(cogact, 'has 6 tensors of the wrong shape', '(48, 32), expected (47, 32)', '3 more')


def test_a_folder_without_statistics(cogact):
    (cogact / 'dataset_statistics.json').unlink()
    refused(cogact, 'dataset_statistics.json does not exist', 'expected the action statistics')


def test_an_openvla_folder_without_statistics(openvla):
    edit_json(openvla / 'config.json', norm_stats=None)
    refused(openvla, 'dataset_statistics.json does not exist', "'norm_stats'")


def test_statistics_of_a_fine_tuned_openvla_count_more_than_inherited_ones(openvla):
    write_cogact(openvla / 'other', keys=['my_robot'])
    (openvla / 'other' / 'dataset_statistics.json').rename(openvla / 'dataset_statistics.json')
    assert load_checkpoint(openvla).unnorm_key == 'my_robot'


@pytest.mark.parametrize(
    ('entry', 'expected'),
    [
        ({}, 'statistics of .* are incomplete'),
        ({'action': {'q01': [0.0] * 7}}, 'statistics of .* are incomplete'),
        ({'action': {'q01': ['a'] * 7, 'q99': [1.0] * 7}}, 'statistics of .* are incomplete'),
        ({'action': {'q01': [0.0] * 6, 'q99': [1.0] * 7}}, 'lists of one length'),
        ({'action': {'q01': [0.0] * 6, 'q99': [1.0] * 6}}, '6 dimensions, expected 7'),
        ({'action': {'q01': [0.0] * 7, 'q99': [float('nan')] * 7}}, 'not finite'),
    ],
)
def test_unusable_statistics(cogact, entry, expected):
    (cogact / 'dataset_statistics.json').write_text(json.dumps({'mine': entry}))
    assert re.search(expected, refused(cogact, str(cogact)))


def test_the_data_set_must_be_named_where_there_are_several(tmp_path):
    write_cogact(tmp_path, keys=('bridge_orig', 'fractal20220817_data'))
    refused(tmp_path, 'unnorm_key', 'bridge_orig, fractal20220817_data')
    refused(tmp_path, "'libero'", 'bridge_orig, fractal20220817_data', unnorm_key='libero')


def test_a_folder_without_tokenizer(tmp_path):
    write_cogact(tmp_path, keys=KEY, tokenizer=False)
    refused(tmp_path, 'tokenizer.json', 'openvla/openvla-7b')


def test_a_tokenizer_with_more_ids_than_the_model(openvla):
    path = openvla / 'tokenizer.json'
    path.write_text(path.read_text().replace('30000', '32064'))
    refused(openvla, '32065 ids', '32064')


def test_two_pt_files(cogact):
    (cogact / 'checkpoints' / 'other.pt').write_bytes(b'')
    refused(cogact, '2 .pt files (CogACT-Mini.pt, other.pt)', 'expected one')
    assert load_checkpoint(cogact / PT).unnorm_key == 'bridge_orig'


def test_no_pt_file(cogact):
    (cogact / PT).unlink()
    refused(cogact, 'has no .pt file')


def test_a_wrong_path(cogact, tmp_path):
    refused(tmp_path / 'nothing', 'does not exist, expected a checkpoint folder or .pt file')
    refused(cogact / 'checkpoints', 'config.json does not exist')
    refused(cogact / 'config.json', 'is a file, expected a checkpoint folder or a .pt file')


def test_averaged_weights_that_are_not_there(cogact):
    refused(cogact, str(cogact / PT), 'expected the group ema_diffusion', use_ema=True)


def test_an_index_that_does_not_fit_its_files(openvla):
    index = json.loads((openvla / INDEX).read_text())
    first = next(iter(index['weight_map']))
    (openvla / INDEX).write_text(json.dumps({'weight_map': {**index['weight_map'], 'x': first}}))
    refused(openvla, INDEX)
    (openvla / INDEX).write_text(json.dumps({'weight_map': {'x': '../secret.safetensors'}}))
    refused(openvla, "'../secret.safetensors', expected a file in the same folder")
    (openvla / INDEX).write_text('{}')
    refused(openvla, 'is not an index of safetensors files')
    (openvla / INDEX).unlink()
    refused(openvla, 'model.safetensors does not exist')


def test_a_shard_that_is_missing(openvla):
    (openvla / 'model-00001-of-00002.safetensors').unlink()
    refused(openvla, '1 do not exist: model-00001-of-00002.safetensors')


def test_a_tensor_that_no_shard_has(openvla):
    path = openvla / 'model-00001-of-00002.safetensors'
    tensors = load_file(path)
    name = sorted(tensors)[0]
    save_file({k: v for k, v in tensors.items() if k != name}, path)
    refused(openvla, INDEX, f'1 tensors are in one and not in the other: {name}')


def test_an_openvla_group_that_is_missing(tmp_path):
    write_openvla(tmp_path, keys=KEY, shards=1)
    tensors = load_file(tmp_path / 'model.safetensors')
    kept = {k: v for k, v in tensors.items() if not k.startswith('language_model.')}
    save_file(kept, tmp_path / 'model.safetensors')
    refused(tmp_path, 'model.safetensors lacks the group language_model')


def test_the_files_of_openvla_oft_are_not_taken_for_openvla(openvla):
    (openvla / 'action_head--150000_checkpoint.pt').write_bytes(b'')
    refused(openvla, 'OpenVLA-OFT')


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_a_model_that_does_not_fit_says_what_it_needs(cogact, monkeypatch, dtype):
    monkeypatch.setattr(placement, 'available_bytes', lambda device: 2_000_000)
    line = refused(cogact, 'cogact-mini', 'MB on cpu', '2.0 MB are available', dtype=dtype)
    assert ('; bfloat16 needs' in line) == (dtype == torch.float32)


def test_a_released_model_that_does_not_fit_is_refused_before_it_is_made(monkeypatch):
    monkeypatch.setattr(placement, 'available_bytes', lambda device: 12_000_000_000)
    with pytest.raises(CheckpointError) as error:
        random_checkpoint('cogact-base', 'cpu', torch.float32, seed=0)
    assert str(error.value) == (
        'cogact-base in float32 needs 30.3 GB on cpu, 12.0 GB are available; '
        'bfloat16 needs 15.6 GB'
    )


def test_known_models_with_random_weights():
    with pytest.raises(CheckpointError, match=r"'pi9' is unknown.*cogact-base"):
        random_checkpoint('pi9', 'cpu', torch.float32, seed=0)
    with pytest.raises(CheckpointError, match=r'tokenizer\.json does not exist'):
        random_checkpoint('cogact-base', 'cpu', torch.float32, seed=0, tokenizer='/nowhere')


def test_random_weights_take_the_type_that_is_asked_for():
    checkpoint = random_checkpoint('tabletop-pick', 'cpu', torch.bfloat16, seed=0)
    types = {name: p.dtype for name, p in checkpoint.model.named_parameters()}
    head = {kind for name, kind in types.items() if name.startswith('action_model.')}
    assert head == {torch.float32}
    rest = {kind for name, kind in types.items() if not name.startswith('action_model.')}
    assert rest == {torch.bfloat16}
    assert not checkpoint.model.training
    assert checkpoint.statistics.mask.tolist() == [True] * 6 + [False]
