"""Recordings: content, labels, resumption."""

from __future__ import annotations

import numpy as np
import pytest

from efficientvla_ros.simulation import recorder, recording
from efficientvla_ros.simulation.dataset_card import summarise
from efficientvla_ros.simulation.demonstrations import Demonstrator
from efficientvla_ros.simulation.expert import TableState, plan
from efficientvla_ros.simulation.recorder import record
from efficientvla_ros.simulation.recording import (
    RecordingSettings,
    encode_png,
    read_frame,
    shard_path,
    write_shard,
)
from efficientvla_ros.simulation.scene import OBJECT_MODELS
from efficientvla_ros.simulation.tasks import OBJECTS, sample_episode
from efficientvla_ros.types import InputError

SIZE = 64


@pytest.fixture(scope='module')
def demonstrator():
    demonstrator = Demonstrator(image_size=SIZE)
    yield demonstrator
    demonstrator.close()


@pytest.fixture(scope='module')
def shard(demonstrator, tmp_path_factory):
    path = tmp_path_factory.mktemp('recording') / 'shard_00000.npz'
    write_shard(path, demonstrator, range(30))
    return dict(np.load(path))


def test_images_survive_the_file(shard, demonstrator):
    first = demonstrator.demonstrate(int(shard['seeds'][1]))
    rows = np.flatnonzero(shard['episode'] == 1)
    assert len(rows) == len(first.images)
    for index, image in zip(rows, first.images):
        np.testing.assert_array_equal(read_frame(shard, index), image)


def test_arrays_have_the_documented_shapes(shard):
    frames = len(shard['episode'])
    assert frames > 200
    assert shard['plans'].shape == (frames, 3, 16, 7) and shard['plans'].dtype == np.float32
    assert shard['object_ids'].shape == (frames, 3) and shard['object_ids'].dtype == np.int8
    assert shard['object_pixels'].shape == (frames, 3, 2)
    assert shard['gripper_pixel'].shape == (frames, 2)
    assert shard['tcp'].shape == (frames, 3) and shard['gripper'].shape == (frames,)
    assert len(shard['frame_offsets']) == frames + 1
    assert shard['frame_offsets'][-1] == len(shard['frames'])
    assert np.isfinite(shard['plans']).all() and shard['tried'] == 30


def test_most_episodes_are_kept_and_end_with_the_object_in_the_gripper(shard):
    assert len(shard['seeds']) >= 27
    last = np.flatnonzero(np.diff(shard['episode'], append=len(shard['seeds'])))
    assert (shard['plans'][last, 0, 0, 6] == 0.0).all()
    assert (shard['gripper'][last] < 0.75).all()


def test_first_labels_are_the_plans_of_the_first_state(shard):
    checked = 0
    for episode, seed in enumerate(shard['seeds']):
        row = int(np.argmax(shard['episode'] == episode))
        start = sample_episode('pick', int(seed))
        names = [OBJECTS[i] for i in shard['object_ids'][row]]
        assert set(names) == set(start.objects) and names[0] == start.target
        if shard['gripper'][row] < 0.99:
            continue
        objects = {
            name: np.array([*start.object_positions[name], OBJECT_MODELS[name].rest_height])
            for name in names
        }
        state = TableState(shard['tcp'][row].astype(float), 0.045, objects)
        for slot, name in enumerate(names):
            np.testing.assert_allclose(shard['plans'][row, slot], plan(state, name), atol=1e-4)
        checked += 1
    assert checked > 15


def test_keypoints_lie_in_the_picture_where_the_camera_saw_the_object(shard):
    inside = np.mean((shard['object_pixels'] > 0) & (shard['object_pixels'] < 1))
    assert inside > 0.99
    hits = total = 0
    for index in range(0, len(shard['episode']), 5):
        image = read_frame(shard, index).astype(int)
        slot = np.flatnonzero(shard['object_ids'][index] == OBJECTS.index('orange'))
        if len(slot) == 0:
            continue
        column, row = (shard['object_pixels'][index, slot[0]] * SIZE).astype(int)
        red, green, blue = image[np.clip(row, 0, SIZE - 1), np.clip(column, 0, SIZE - 1)]
        hits += red > 90 and blue < 0.5 * red and 0.3 * red < green < 0.7 * red
        total += 1
    assert total > 20 and hits / total > 0.85  # the hand hides it now and then


def test_camera_moves_from_frame_to_frame_within_its_limits(shard):
    camera = shard['camera']
    steady = ~camera.any(axis=1)
    assert 0.05 < steady.mean() < 0.30
    assert np.abs(camera[:, :2]).max() <= np.radians(2.5) + 1e-6
    assert len(np.unique(camera[~steady], axis=0)) == (~steady).sum()


def test_same_seed_records_the_same(demonstrator):
    first, second = demonstrator.demonstrate(17), demonstrator.demonstrate(17)
    assert len(first.images) == len(second.images)
    np.testing.assert_array_equal(first.images[-1], second.images[-1])
    np.testing.assert_array_equal(first.rows['plans'], second.rows['plans'])


def test_target_changes_in_some_episodes(shard):
    changed = [
        len(np.unique(shard['object_ids'][shard['episode'] == episode, 0])) > 1
        for episode in range(len(shard['seeds']))
    ]
    assert 0 < sum(changed) < 12


def test_shard_without_a_success_can_be_read(tmp_path, demonstrator):
    write_shard(tmp_path / 'empty.npz', demonstrator, range(0))
    shard = np.load(tmp_path / 'empty.npz')
    assert shard['plans'].shape == (0, 3, 16, 7) and shard['frame_offsets'].tolist() == [0]


def test_recording_resumes_with_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(recording, 'EPISODES_PER_SHARD', 3)
    progress: list[int] = []
    summary = record(RecordingSettings('pick', 5, 40, SIZE), tmp_path, 1, progress.append)
    assert summary.tried == 5 and progress[0] == 0 and progress[-1] == 5
    first, second = shard_path(tmp_path, 0), shard_path(tmp_path, 1)
    written, content = first.stat().st_mtime_ns, second.read_bytes()
    second.unlink()
    (tmp_path / 'shard_00001.99.part').write_bytes(b'unfinished')
    progress.clear()
    assert record(RecordingSettings('pick', 5, 40, SIZE), tmp_path, 2, progress.append) == summary
    assert progress[0] == 3
    assert first.stat().st_mtime_ns == written and second.read_bytes() == content
    assert not list(tmp_path.glob('*.part'))
    grown = record(RecordingSettings('pick', 7, 40, SIZE), tmp_path)
    assert grown.tried == 7 and grown.frames > summary.frames
    assert summarise(tmp_path) == grown


def test_folder_of_another_recording_is_refused(tmp_path):
    recorder._prepare(RecordingSettings('pick', 10, 0, SIZE), tmp_path)
    with pytest.raises(InputError, match=r'seed = 0, expected 1: use another folder'):
        record(RecordingSettings('pick', 10, 1, SIZE), tmp_path)
    file = tmp_path / 'file'
    file.write_text('')
    with pytest.raises(InputError, match='is not a folder'):
        record(RecordingSettings('pick', 10, 1, SIZE), file)


@pytest.mark.parametrize(
    ('values', 'named'),
    [
        (('juggle', 1, 0), 'unknown task "juggle"'),
        (('pick', 0, 0), 'episodes is 0'),
        (('pick', 1, -1), 'seed is -1'),
        (('pick', 1, 0, 4), 'image_size is 4'),
    ],
)
def test_bad_settings_are_named(values, named):
    with pytest.raises(InputError, match=named):
        RecordingSettings(*values)


def test_png_keeps_the_channel_order():
    image = np.zeros((4, 5, 3), np.uint8)
    image[..., 0] = 200
    np.testing.assert_array_equal(recording.decode_png(encode_png(image)), image)
