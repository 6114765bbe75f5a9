"""Training: packing is exact, shifts move labels along, a broken-off run goes on as it was."""

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_run import FRAMES, HORIZON, tiny_config, tiny_settings

from efficientvla_ros.models.cogact import CogACT
from efficientvla_ros.models.random_weights import init_weights
from efficientvla_ros.models.tokenizer import PAD
from efficientvla_ros.training.augment import MAX_SHIFT, augment
from efficientvla_ros.training.batches import suite_words
from efficientvla_ros.training.dataset import load_demonstrations
from efficientvla_ros.training.packing import packed_cognition
from efficientvla_ros.training.parallel import train
from efficientvla_ros.training.settings import StageSettings, TrainSettings, learning_rate
from efficientvla_ros.types import InputError


def test_packed_instructions_equal_separate_passes():
    model = init_weights(CogACT(tiny_config()), seed=1).double().eval()
    visual = torch.randn(2, 16, 32).double()
    texts = torch.tensor([[[4, 5, 6, 2], [7, 8, 2, PAD], [9, 2, PAD, PAD]]]).expand(2, -1, -1)
    packed = packed_cognition(model, visual, texts)
    for row in range(3):
        ids = [1, *(i for i in texts[0, row].tolist() if i != PAD)]
        alone = model.cognition(visual, torch.tensor([ids, ids]))
        assert torch.allclose(packed[:, row], alone, atol=1e-10)


def test_hidden_tokens_are_the_same_as_never_attending_to_them():
    model = init_weights(CogACT(tiny_config()), seed=1).double().eval()
    visual = torch.randn(1, 16, 32).double()
    kept = torch.tensor([[0, 3, 4, 9, 15]])
    found = packed_cognition(model, visual, torch.tensor([[[4, 2]]]), kept)
    decoder = model.llm_backbone.llm.model
    x = model.input_embeddings(visual, torch.tensor([[1, 4, 2]]))
    visible = torch.zeros(19, dtype=torch.bool)
    visible[torch.tensor([0, *(kept[0] + 1).tolist(), 17, 18])] = True
    mask = torch.ones(19, 19, dtype=torch.bool).tril() & (
        visible | torch.eye(19, dtype=torch.bool)
    )
    expected = decoder(x, mask=mask)[:, -1]
    assert torch.allclose(found[:, 0], expected, atol=1e-10)


def test_a_shifted_image_shifts_its_labels():
    images = torch.zeros(64, 3, 56, 56)
    images[:, :, 20, 30] = 1.0
    moved, shift = augment(images, np.random.default_rng(0))
    assert float(shift.abs().max()) <= MAX_SHIFT + 1e-6 and float(shift.abs().sum()) > 0
    for image, (dx, dy) in zip(moved, (shift * 56).round().int().tolist()):
        y, x = divmod(int(image.mean(0).argmax()), 56)
        assert (x, y) == (30 + dx, 20 + dy)


def test_statistics_and_split_come_from_the_recording(recording):
    data = load_demonstrations([recording], 56, HORIZON)
    assert data.images[np.arange(2)].shape == (2, 56, 56, 3)
    assert data.plans.shape == (FRAMES, 3, HORIZON, 7)
    train_rows, held_out = data.split()
    assert not set(data.episode[train_rows]) & set(data.episode[held_out])
    assert len(train_rows) + len(held_out) == FRAMES
    statistics = data.statistics()
    assert not statistics.mask[6] and (statistics.q01[3:6] == statistics.q99[3:6]).all()


def test_an_empty_folder_or_a_short_plan_is_refused(recording, tmp_path):
    with pytest.raises(InputError, match=r'no \*\.npz shards'):
        load_demonstrations([tmp_path], 56, HORIZON)
    with pytest.raises(InputError, match='plans have 16 steps'):
        load_demonstrations([recording], 56, 17)


def test_all_stages_run_and_leave_metrics_and_an_exported_policy(finished, tmp_path):
    folder, trainer = finished
    rows = [json.loads(line) for line in (folder / 'metrics.jsonl').read_text().splitlines()]
    assert [row['stage'] for row in rows] == ['vision', 'policy', 'head']
    assert rows[-1]['val_sampled'] > 0 and rows[-1]['val_cached'] > 0
    trainer.export(tmp_path)
    from efficientvla_ros.runtime.engine import load_engine

    engine = load_engine(str(tmp_path), threads=1)
    assert engine.model_name == 'tiny' and engine.horizon == HORIZON
    from safetensors import safe_open

    with safe_open(tmp_path / 'model.safetensors', framework='pt') as file:
        groups = {name.split('.')[0] for name in list(file.keys())}
    assert groups == {'vision_backbone', 'projector', 'llm_backbone', 'action_model'}


class BreakOffError(Exception):
    pass


@pytest.mark.parametrize('stage', ['vision', 'policy', 'head'])
def test_a_broken_off_run_ends_with_the_same_weights(
    stage, finished, recording, tmp_path, monkeypatch
):
    """Batches and dropout depend on the step alone, so stopping must not change the result."""
    from efficientvla_ros.training import trainer as module

    original = module.Trainer._one_step

    def breaking(self, parameters):
        if (self.stage, self.step) == (stage, 2):
            self.save()
            raise BreakOffError
        return original(self, parameters)

    monkeypatch.setattr(module.Trainer, '_one_step', breaking)
    with pytest.raises(BreakOffError):
        train(tiny_config(), tiny_settings(), [recording], tmp_path)
    monkeypatch.undo()
    resumed = train(tiny_config(), tiny_settings(), [recording], tmp_path)
    expected = finished[1].average.state_dict()
    for name, value in resumed.average.state_dict().items():
        assert torch.equal(value, expected[name]), name


def test_further_training_starts_from_the_averages_and_keeps_the_units(
    finished, recording, tmp_path
):
    folder, before = finished
    data = [recording, recording]
    after = train(tiny_config(), tiny_settings(1), data, tmp_path, start=folder)
    assert np.array_equal(after.statistics.q99, before.statistics.q99)
    rows = [json.loads(line) for line in (tmp_path / 'metrics.jsonl').read_text().splitlines()]
    assert [row['stage'] for row in rows] == ['policy', 'head']
    weights, new = before.average.state_dict(), after.average.state_dict()
    moved = max(float((weights[name] - new[name]).abs().max()) for name in weights)
    assert 0.0 < moved < 0.01
    with pytest.raises(
        InputError, match='expected the folder of a training run or of an embedded checkpoint'
    ):
        train(tiny_config(), tiny_settings(1), data, tmp_path / 'new', start=tmp_path / 'none')


def test_training_goes_on_from_a_checkpoint_once_the_new_heads_have_learnt_alone(
    finished, recording, tmp_path
):
    _, before = finished
    before.export(tmp_path / 'checkpoint', torch.float32)
    runs = {}
    for steps in (3, 1):  # of 3: all, and the first one alone
        settings = tiny_settings(3, new_heads_steps=steps)
        folder = tmp_path / str(steps)
        start = tmp_path / 'checkpoint'
        runs[steps] = train(tiny_config(), settings, [recording], folder, start=start)
    weights = before.average.state_dict()

    def moved(trainer, part):
        new = trainer.average.state_dict()
        names = [name for name in weights if name.startswith(part)]
        return max(float((new[name] - weights[name]).abs().max()) for name in names)

    assert np.array_equal(runs[3].statistics.q99, before.statistics.q99)
    # Weight decay goes on meanwhile: a shade, not a step.
    assert moved(runs[3], 'llm_backbone') < 1e-6 < 1e-5 < moved(runs[1], 'llm_backbone')
    assert moved(runs[3], 'action_model') > 1e-5


def test_an_exported_state_brings_the_training_only_parts_along(finished, recording, tmp_path):
    _, before = finished
    before.export_state(tmp_path / 'state')
    # Every part learns from the first step on: there are no new heads to be taught alone.
    settings = tiny_settings(1, new_heads_steps=1)
    after = train(tiny_config(), settings, [recording], tmp_path / 'run', start=tmp_path / 'state')
    for name, value in before._average_heads.state_dict().items():
        assert (after._average_heads.state_dict()[name] - value).abs().max() < 0.01, name
    backbone = 'llm_backbone.llm.model.layers.0.mlp.up_proj.weight'
    old, new = (run.average.state_dict()[backbone] for run in (before, after))
    assert (new - old).abs().max() > 1e-5


def test_a_checkpoint_of_other_sizes_is_refused(finished, recording, tmp_path):
    finished[1].export(tmp_path / 'checkpoint', torch.float32)
    for changes in ({'projector_width': 24}, {'projector_width': 24, 'image_size': 84}):
        other = replace(tiny_config(), **changes)
        with pytest.raises(InputError, match='differs from tiny in more than'):
            train(other, tiny_settings(1), [recording], tmp_path, start=tmp_path / 'checkpoint')


def test_a_start_may_be_shallower_and_have_another_head(finished, recording, tmp_path):
    folder, before = finished
    config = tiny_config()
    deep = replace(config, llm=replace(config.llm, layers=5))
    after = train(deep, tiny_settings(1), [recording], tmp_path / 'deep', start=folder)
    assert after.average.config.llm.layers == 5
    assert np.array_equal(after.statistics.q99, before.statistics.q99)
    wide = replace(deep, head=replace(config.head, width=32))
    other = train(wide, tiny_settings(1), [recording], tmp_path / 'wide', start=folder)
    assert other.average.action_model.net.x_embedder.linear.weight.shape[0] == 32
    embedding = 'llm_backbone.llm.model.embed_tokens.weight'
    kept = (other.average.state_dict()[embedding] - before.average.state_dict()[embedding]).abs()
    assert float(kept.max()) < 0.01


def test_a_start_may_have_a_narrower_language_model(finished, recording, tmp_path):
    folder, before = finished
    config = tiny_config()
    narrow = config.llm
    llm = replace(narrow, width=2 * narrow.width, heads=2 * narrow.heads,
                  kv_heads=2 * narrow.kv_heads, mlp_width=narrow.mlp_width + 8)  # fmt: skip
    after = train(
        replace(config, llm=llm), tiny_settings(1), [recording], tmp_path / 'run', start=folder
    )
    embedding = 'llm_backbone.llm.model.embed_tokens.weight'
    old, new = (run.average.state_dict()[embedding] for run in (before, after))
    assert new.shape[1] == llm.width
    assert (new[:, : narrow.width] - old).abs().max() < 0.01
    head = 'direct.0.weight'
    old, new = (run._average_heads.state_dict()[head] for run in (before, after))
    assert (new[: len(old), : narrow.width] - old).abs().max() < 0.01


def test_a_start_may_have_smaller_pictures(finished, recording, tmp_path):
    folder, before = finished
    fine = replace(tiny_config(), image_size=84)
    after = train(fine, tiny_settings(1), [recording], tmp_path / 'run', start=folder)
    rows = [json.loads(line) for line in (tmp_path / 'run/metrics.jsonl').read_text().splitlines()]
    assert [row['stage'] for row in rows] == ['vision', 'policy', 'head']
    assert 'distance' in rows[0] and 'distance' not in rows[1]
    old, new = (run.average.state_dict() for run in (before, after))
    assert new['vision_backbone.siglip_featurizer.pos_embed'].shape[1] == 36
    embedding = 'llm_backbone.llm.model.embed_tokens.weight'
    assert (new[embedding] - old[embedding]).abs().max() < 0.01


def test_stage_vision_leaves_the_language_model_alone(recording, tmp_path):
    settings = tiny_settings(2, policy=StageSettings(0, 4, 1e-3), head=StageSettings(0, 4, 1e-3))
    after = train(tiny_config(), settings, [recording], tmp_path)
    begun = init_weights(CogACT(tiny_config()), settings.seed).state_dict()
    for name, value in after.average.state_dict().items():
        same = torch.equal(value, begun[name])
        assert same == name.startswith(('llm_backbone.', 'action_model.')), name


def test_several_recordings_are_one_data_set(recording, tmp_path):
    other = tmp_path / 'other'
    shutil.copytree(recording, other)
    one = load_demonstrations([recording], 56, HORIZON)
    two = load_demonstrations([recording, other], 56, HORIZON)
    assert len(two.images) == 2 * len(one.images) == 2 * FRAMES
    rows = np.array([0, FRAMES - 1, FRAMES, FRAMES + 7])
    assert np.array_equal(two.images[rows], one.images[rows % FRAMES])
    assert two.episode[FRAMES] == one.episode.max() + 1


def test_what_is_counted_twice_is_held_out_in_both_places(recording):
    data = load_demonstrations([recording, recording], 56, HORIZON)
    assert len(data.images) == 2 * FRAMES
    assert np.array_equal(data.episode[:FRAMES], data.episode[FRAMES:])
    train_rows, held_out = data.split()
    assert not set(data.episode[train_rows]) & set(data.episode[held_out])


def test_two_processes_share_every_step(recording, tmp_path):
    trainer = train(tiny_config(), tiny_settings(2), [recording], tmp_path, workers=2)
    assert (trainer.stage, trainer.step) == ('head', 2)
    assert all(torch.isfinite(value).all() for value in trainer.average.state_dict().values())


def test_the_learning_rate_warms_up_stays_and_falls():
    stage = StageSettings(2000, 4, 1e-3)
    rates = [learning_rate(stage, step) for step in range(2000)]
    assert rates[0] < 1e-5 and rates[600] == 1e-3 and rates[-1] < 3e-5
    assert max(rates) == 1e-3


def test_settings_survive_json_and_unknown_keys_are_named():
    settings = tiny_settings()
    assert TrainSettings.from_dict(json.loads(json.dumps(settings.to_dict()))) == settings
    with pytest.raises(InputError, match='colour'):
        TrainSettings.from_dict({'colour': 1})
    with pytest.raises(InputError, match="optimizer is 'sgd', expected one of adamw, muon"):
        TrainSettings.from_dict({'optimizer': 'sgd'})


@pytest.mark.parametrize(
    ('text', 'expected'),
    [('{bad', 'Expecting property name'), ('[1]', 'are no JSON object'), (None, 'No such file')],
)
def test_a_file_that_holds_no_settings_is_named(tmp_path, text, expected):
    path = tmp_path / 'recipe.json'
    if text:
        path.write_text(text)
    with pytest.raises(InputError, match=rf'training settings {re.escape(str(path))}.*{expected}'):
        TrainSettings.from_file(path)


@pytest.mark.parametrize(
    ('values', 'expected'),
    [
        ({'quiet_draws': 1.5}, 'quiet_draws is 1.5, expected a number from 0 to 1'),
        ({'ema': 'slow'}, "ema is 'slow', expected a number from 0 to 1"),
        ({'head_reuse': 0}, 'head_reuse is 0, expected a number at least 1'),
        ({'head': {'steps': 5}}, 'settings of stage head lack batch, learning_rate'),
        (
            {'head': {'steps': -1, 'batch': 2, 'learning_rate': 1e-3}},
            'steps of stage head is -1, expected a number at least 0',
        ),
        (
            {'head': {'steps': 5, 'batch': 2, 'learning_rate': 1e-3, 'colour': 1}},
            'settings of stage head have unknown keys: colour',
        ),
    ],
)
def test_settings_out_of_range_are_refused_in_one_line(values, expected):
    with pytest.raises(InputError, match=f'^{re.escape(expected)}$'):
        TrainSettings.from_dict(values)


def test_the_vocabulary_covers_every_instruction_of_the_suite():
    words = set(suite_words())
    assert {'pick', 'the', 'red', 'can', 'orange'} <= words
