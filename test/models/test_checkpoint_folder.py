"""A damaged or mismatched checkpoint is refused in one line; a good one gives equal numbers."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from efficientvla_ros.models.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from efficientvla_ros.models.cogact import CogACT
from efficientvla_ros.models.config import TABLETOP_PICK, CogACTConfig, ConfigError
from efficientvla_ros.models.random_weights import init_weights
from efficientvla_ros.models.tokenizer import WordTokenizer

STATISTICS = {
    'tabletop-pick': {
        'action': {'q01': [-1.0] * 7, 'q99': [1.0] * 7, 'mask': [True] * 6 + [False]}
    }
}


@pytest.fixture
def folder(tmp_path):
    model = init_weights(CogACT(TABLETOP_PICK), seed=5)
    save_checkpoint(tmp_path, model, WordTokenizer(['pick', 'can']), STATISTICS)
    return tmp_path


def run(model: CogACT) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, 3, 112, 112, generator=generator)
    noise = torch.randn(1, 8, 7, generator=generator)
    with torch.no_grad():
        return model(image, torch.tensor([[1, 4, 5, 2]]), noise)


def test_what_was_saved_gives_the_same_numbers(folder):
    loaded = load_checkpoint(folder)
    assert torch.equal(run(loaded.model), run(init_weights(CogACT(TABLETOP_PICK), seed=5)))
    assert loaded.tokenizer.words == ('pick', 'can')
    assert not loaded.model.training


def test_random_weights_need_no_file_and_are_reproducible(folder):
    (folder / 'model.safetensors').unlink()
    first, second, other = (
        load_checkpoint(folder, random_weights=seed).model for seed in (1, 1, 2)
    )
    assert torch.equal(run(first), run(second))
    assert not torch.equal(run(first), run(other))


def test_missing_files_are_named(folder):
    (folder / 'model.safetensors').unlink()
    with pytest.raises(CheckpointError, match=r'model\.safetensors does not exist'):
        load_checkpoint(folder)
    (folder / 'config.json').unlink()
    with pytest.raises(CheckpointError, match=r'config\.json does not exist'):
        load_checkpoint(folder)
    with pytest.raises(CheckpointError, match=r'nothing does not exist, expected a checkpoint'):
        load_checkpoint(folder / 'nothing')


@pytest.mark.parametrize('content', [b'', b'garbage', b'\xff' * 4000])
def test_a_corrupt_weights_file_is_one_clear_line(folder, content):
    (folder / 'model.safetensors').write_bytes(content)
    with pytest.raises(CheckpointError, match='not a readable safetensors file') as error:
        load_checkpoint(folder)
    assert '\n' not in str(error.value)


def test_a_truncated_weights_file_is_refused(folder):
    path = folder / 'model.safetensors'
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match='not a readable safetensors file'):
        load_checkpoint(folder)


def test_every_tensor_is_accounted_for(folder):
    path = folder / 'model.safetensors'
    tensors = load_file(path)
    name = 'llm_backbone.llm.model.norm.weight'
    save_file({k: v for k, v in tensors.items() if k != name}, path)
    with pytest.raises(CheckpointError, match=f'lacks 1 tensors: {name}'):
        load_checkpoint(folder)
    save_file(tensors | {'heads.probe.0.weight': torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match='unexpected 1 tensors: heads'):
        load_checkpoint(folder)
    save_file(tensors | {name: torch.zeros(7)}, path)
    with pytest.raises(CheckpointError, match=r'shape \(7,\), expected \(128,\)'):
        load_checkpoint(folder)


def test_a_configuration_with_unknown_or_impossible_values_is_refused(folder):
    path = folder / 'config.json'
    good = json.loads(path.read_text())
    path.write_text(json.dumps(good | {'model': good['model'] | {'colour': 'red'}}))
    with pytest.raises(CheckpointError, match='colour'):
        load_checkpoint(folder)
    path.write_text(json.dumps(good | {'model': good['model'] | {'image_size': 100}}))
    with pytest.raises(CheckpointError, match='image_size is 100'):
        load_checkpoint(folder)
    path.write_text('{')
    with pytest.raises(CheckpointError, match='cannot be read'):
        load_checkpoint(folder)


def test_configurations_survive_json():
    text = json.dumps(TABLETOP_PICK.to_dict())
    assert CogACTConfig.from_dict(json.loads(text)) == TABLETOP_PICK


def test_heads_must_divide_the_width():
    values = TABLETOP_PICK.to_dict()
    values['llm'] = values['llm'] | {'heads': 5}
    with pytest.raises(ConfigError, match=r'llm\.width is 128'):
        CogACTConfig.from_dict(values)


def test_weights_in_several_files_are_read_like_one(folder, tmp_path):
    whole = load_checkpoint(folder)
    statistics = {'any': {'action': whole.statistics.to_json()}}
    for largest in (4_000_000, None):
        save_checkpoint(tmp_path, whole.model, whole.tokenizer, statistics, largest_file=largest)
        files = sorted(tmp_path.glob('*.safetensors'))
        assert len(files) == (1 if largest is None else 5)
        assert all(file.stat().st_size < 4_100_000 for file in files) or largest is None
        assert torch.equal(run(load_checkpoint(tmp_path).model), run(whole.model))
