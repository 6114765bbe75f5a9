"""One data set of several tasks, and of recordings from before there were several."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from efficientvla_ros.models.tokenizer import WordTokenizer
from efficientvla_ros.simulation.demonstrations import Demonstrator
from efficientvla_ros.simulation.objects import KEYPOINTS, PLATE
from efficientvla_ros.simulation.recorder import _prepare
from efficientvla_ros.simulation.recording import RecordingSettings, write_shard
from efficientvla_ros.training.batches import BatchSource, suite_words
from efficientvla_ros.training.dataset import load_demonstrations
from efficientvla_ros.training.losses import in_picture

SIZE, HORIZON = 32, 8
TASKS = ('close_drawer', 'pick', 'place_plate')


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('mixed')
    for task in TASKS:
        _prepare(RecordingSettings(task, 2, 0, SIZE), folder / task)
        demonstrator = Demonstrator(task, SIZE)
        try:
            write_shard(folder / task / 'shard_00000.npz', demonstrator, range(3), keep_all=True)
        finally:
            demonstrator.close()
    return folder


def _source(data, rows) -> BatchSource:
    config = _config()
    tokenizer = WordTokenizer(suite_words())
    return BatchSource(data, rows, config, tokenizer, data.statistics(), torch.device('cpu'))


def _config():
    from tiny_run import tiny_config

    return tiny_config()


def _words(batch, frame: int, slot: int) -> str:
    words = WordTokenizer(suite_words()).words
    return ' '.join(words[i - 4] for i in batch.texts[frame, slot].tolist() if i >= 4)


def test_a_folder_of_all_tasks_is_one_data_set(folder):
    data = load_demonstrations([folder], SIZE, HORIZON)
    assert len(np.unique(data.episode)) == 9 and len(data.images) == len(data.tasks)
    apart = load_demonstrations([folder / task for task in TASKS], SIZE, HORIZON)
    np.testing.assert_array_equal(data.plans, apart.plans)


def test_a_batch_mixes_tasks_with_their_own_words_and_keypoints(folder):
    data = load_demonstrations([folder], SIZE, HORIZON)
    first = [int(np.argmax(data.episode == episode)) for episode in (0, 3, 6)]
    (batch,) = _source(data, np.array(first)).fixed(3, 1)
    assert batch.texts.shape[:2] == (3, 3) and batch.actions.shape == (3, 3, HORIZON, 7)
    assert _words(batch, 0, 0) == 'close drawer'
    assert _words(batch, 1, 0).startswith('pick ')
    assert _words(batch, 2, 0).startswith('put ') and _words(batch, 2, 0).endswith(' on plate')
    visible = in_picture(batch.keypoints)
    assert visible[:, -1].tolist() == [True, False, False]
    assert visible[:, KEYPOINTS.index(PLATE)].tolist() == [False, False, True]
    drawn = _source(data, np.arange(len(data.images))).draw(6, np.random.default_rng(0))
    assert drawn.keypoints.shape == (6, len(KEYPOINTS), 2)
    assert (in_picture(drawn.keypoints).sum(1) >= 2).all()


def test_recordings_of_the_first_format_are_read_as_picking(folder, tmp_path):
    with np.load(folder / 'pick' / 'shard_00000.npz') as shard:
        new = dict(shard)
    old = {name: new[name] for name in new
           if name not in ('tasks', 'references', 'keypoints', 'drawer')}  # fmt: skip
    np.savez(tmp_path / 'shard_00000.npz', **old)
    before = load_demonstrations([tmp_path], SIZE, HORIZON)
    after = load_demonstrations([folder / 'pick'], SIZE, HORIZON)
    for name in ('plans', 'tasks', 'object_ids', 'references', 'keypoints'):
        np.testing.assert_array_equal(getattr(before, name), getattr(after, name))


def test_words_of_picking_keep_their_numbers():
    known = ['pick', 'red', 'can', 'green', 'blue', 'orange', 'the', 'up']
    assert suite_words()[: len(known)] == known
    assert {'move', 'near', 'open', 'close', 'drawer', 'plate', 'apple'} <= set(suite_words())
