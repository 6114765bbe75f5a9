"""`efficientvla inspect --path`: every fault of a checkpoint is listed, none is made up."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from checkpoint_writers import MINI_COGACT, write_cogact, write_openvla

HEAD = 'action_model.net.'


@pytest.fixture
def verdict(inspect):
    """Runs `inspect --path ... --json -`; returns its exit code and what it says."""

    def run(path: Path, *arguments: object) -> tuple[int, dict]:
        result = inspect('--path', path, '--json', '-', *arguments)
        assert result.stderr == ''
        return result.returncode, json.loads(result.stdout)['checkpoint']

    return run


def no_faults_but(check: dict, *kinds: str) -> bool:
    return {kind for kind, faults in check['faults'].items() if faults} == set(kinds)


def test_good_cogact_folder(verdict, tmp_path):
    groups = write_cogact(tmp_path, ema=True, tokenizer=False)
    code, check = verdict(tmp_path)
    assert code == 0 and check['good'] and no_faults_but(check)
    assert check['kind'] == 'cogact'
    assert check['groups'] == {name: len(tensors) for name, tensors in groups.items()}
    assert check['statistics_keys'] == ['bridge_orig', 'fractal20220817_data']
    assert check['has_ema'] and not check['has_tokenizer']
    weights = tmp_path / 'checkpoints' / 'CogACT-Mini.pt'
    assert check['weights'] == str(weights) and check['file_bytes'] == weights.stat().st_size
    assert verdict(weights)[0] == 0


def test_good_openvla_folder(verdict, tmp_path):
    write_openvla(tmp_path)
    code, check = verdict(tmp_path)
    assert code == 0 and check['good']
    assert check['kind'] == 'openvla' and check['has_tokenizer']
    assert list(check['dtypes']) == ['bfloat16']


def test_cost_is_that_of_the_checkpoint(inspect, tmp_path):
    groups = write_cogact(tmp_path)
    shown = json.loads(inspect('--path', tmp_path, '--json', '-').stdout)
    assert shown['config']['head']['width'] == MINI_COGACT.head.width
    in_file = sum(value.numel() for group in groups.values() for value in group.values())
    assert shown['total']['parameters_in_file'] == in_file


def test_embedded_folder_holds_nothing_unused(inspect):
    folder = Path(__file__).resolve().parents[2] / 'efficientvla_ros' / 'weights' / 'tabletop-pick'
    result = inspect('--path', folder)
    assert result.returncode == 0
    assert 'all tensors are as expected' in result.stdout
    assert 'not used' not in result.stdout


def test_missing_extra_and_misshaped_tensors_are_all_listed(inspect, verdict, tmp_path):
    def damage(groups):
        head = groups['action_model']
        for block in (0, 1):
            del head[f'net.blocks.{block}.attn.proj.bias']
        head['net.extra.weight'] = torch.zeros(2)
        key = 'dino_featurizer.blocks.0.attn.qkv.weight'
        groups['vision_backbone'][key] = groups['vision_backbone'][key].T.contiguous()
        groups['projector']['projector.2.bias'] = torch.zeros(1)

    write_cogact(tmp_path, change=damage)
    code, check = verdict(tmp_path)
    assert code == 1 and not check['good']
    assert no_faults_but(check, 'missing', 'extra', 'misshaped')
    assert check['faults']['missing'] == [f'{HEAD}blocks.{b}.attn.proj.bias' for b in (0, 1)]
    assert check['faults']['extra'] == [f'{HEAD}extra.weight']
    assert sorted(check['faults']['misshaped']) == [
        'projector.projector.2.bias: [1], expected [32]',
        'vision_backbone.dino_featurizer.blocks.0.attn.qkv.weight: [32, 96], expected [96, 32]',
    ]
    printed = inspect('--path', tmp_path)
    assert printed.returncode == 1
    for faults in check['faults'].values():
        for fault in faults:
            assert f'\n  {fault}\n' in printed.stdout
    assert 'missing tensors: 2' in printed.stdout
    assert 'this checkpoint has faults' in printed.stdout


def test_missing_group_is_named(inspect, tmp_path):
    groups = write_cogact(tmp_path, change=lambda groups: groups.pop('projector'))
    assert 'projector' not in groups
    result = inspect('--path', tmp_path)
    assert result.returncode == 1
    assert 'group missing: projector' in result.stdout
    assert 'missing tensors: 6' in result.stdout


def test_tensor_of_integers_is_a_fault(verdict, tmp_path):
    def damage(groups):
        groups['projector']['projector.0.bias'] = torch.zeros(64, dtype=torch.int32)

    write_cogact(tmp_path, change=damage)
    code, check = verdict(tmp_path)
    assert code == 1 and no_faults_but(check, 'not_floating')
    assert check['faults']['not_floating'] == ['projector.projector.0.bias: int32']


def test_folder_without_statistics_is_a_fault(verdict, tmp_path):
    write_cogact(tmp_path)
    (tmp_path / 'dataset_statistics.json').unlink()
    code, check = verdict(tmp_path)
    assert code == 1 and no_faults_but(check, 'statistics')


def test_checkpoint_of_another_model_than_asked_for(verdict, tmp_path):
    write_cogact(tmp_path)
    code, check = verdict(tmp_path, '--model', 'cogact-base')
    assert code == 1 and no_faults_but(check, 'another_model')
    different = check['faults']['another_model']
    assert 'head.width is 64, cogact-base has 768' in different


@pytest.mark.parametrize('damage', ['no path', 'no config', 'truncated', 'two files'])
def test_what_cannot_be_verified_is_one_line_and_exit_code_2(inspect, tmp_path, damage):
    write_cogact(tmp_path)
    weights = tmp_path / 'checkpoints' / 'CogACT-Mini.pt'
    if damage == 'no config':
        (tmp_path / 'config.json').unlink()
    elif damage == 'truncated':
        weights.write_bytes(weights.read_bytes()[:1000])
    elif damage == 'two files':
        (weights.parent / 'second.pt').touch()
    result = inspect('--path', tmp_path / 'gone' if damage == 'no path' else tmp_path)
    assert result.returncode == 2 and result.stdout == ''
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith('error: ') and str(tmp_path) in lines[0]
    assert 'expected' in lines[0]
