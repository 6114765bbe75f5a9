"""Frames for calibration are spread over a source and carry its instructions."""

from __future__ import annotations

import json

import numpy as np
import pytest

from efficientvla_ros.evaluation.calibration_frames import (
    demonstration_frames,
    recorded_frames,
    simulator_frames,
)
from efficientvla_ros.simulation.dataset_card import recording_folders
from efficientvla_ros.simulation.recording import FORMAT, encode_png
from efficientvla_ros.simulation.tasks import OBJECTS
from efficientvla_ros.types import ActionChunk, InputError, TickReport


def write_recording(folder, shards=3, episodes=4, frames=5, **settings) -> None:
    """Each image is filled with the number of its frame in the shard."""
    folder.mkdir(exist_ok=True)
    described = {'format': FORMAT, 'task': 'pick', 'objects': list(OBJECTS), **settings}
    (folder / 'recording.json').write_text(json.dumps(described))
    total = episodes * frames
    for shard in range(shards):
        images = [np.full((16, 16, 3), index, np.uint8) for index in range(total)]
        data = [encode_png(image) for image in images]
        np.savez(
            folder / f'shard_{shard:05d}.npz',
            frames=np.concatenate(data or [np.zeros(0, np.uint8)]),
            frame_offsets=np.cumsum([0, *(len(part) for part in data)]),
            episode=np.repeat(np.arange(episodes, dtype=np.int32), frames),
            object_ids=np.tile(np.array([[shard % len(OBJECTS), 3, 2]], np.int8), (total, 1)),
        )


def test_frames_are_spread_over_shards_and_episodes(tmp_path):
    write_recording(tmp_path)
    frames = demonstration_frames(tmp_path, 12)
    assert [int(frame.image[0, 0, 0]) for frame in frames] == [2, 7, 12, 17] * 3
    assert [frame.episode for frame in frames] == list(range(12))
    assert frames[0].image.shape == (16, 16, 3)


def test_the_instruction_is_the_target_s_in_all_wordings(tmp_path):
    write_recording(tmp_path, shards=1)
    texts = [frame.instruction for frame in demonstration_frames(tmp_path, 4)]
    name = OBJECTS[0]
    assert texts == [f'pick {name}', f'pick the {name}', f'pick up the {name}', f'pick {name}']


@pytest.mark.parametrize('count', [1, 2, 7, 59, 60])
def test_as_many_frames_as_wanted_come_each_once(tmp_path, count):
    write_recording(tmp_path)
    frames = demonstration_frames(tmp_path, count)
    places = {(frame.episode, int(frame.image[0, 0, 0])) for frame in frames}
    assert len(frames) == len(places) == count


def test_a_short_recording_gives_all_that_it_has(tmp_path):
    write_recording(tmp_path, shards=2, episodes=1, frames=3)
    assert len(demonstration_frames(tmp_path, 100)) == 6


@pytest.mark.parametrize(
    ('settings', 'message'),
    [({'format': 'else'}, 'another format'), ({'objects': ['cube']}, 'other objects')],
)
def test_another_recording_is_refused(tmp_path, settings, message):
    write_recording(tmp_path, **settings)
    with pytest.raises(InputError, match=message):
        demonstration_frames(tmp_path, 4)


def test_a_damaged_shard_is_named(tmp_path):
    write_recording(tmp_path, shards=1)
    shard = tmp_path / 'shard_00000.npz'
    shard.write_bytes(shard.read_bytes()[:200])
    with pytest.raises(InputError, match=r'shard_00000\.npz cannot be read') as error:
        demonstration_frames(tmp_path, 4)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('shards', [0, 1])
def test_a_recording_without_frames_is_refused(tmp_path, shards):
    write_recording(tmp_path, shards=shards, episodes=0)
    with pytest.raises(InputError, match='at least one'):
        demonstration_frames(tmp_path, 4)


def test_several_tasks_give_an_equal_part_each(tmp_path):
    for task in ('move_near', 'pick'):
        write_recording(tmp_path / task, shards=1)
    assert [path.name for path in recording_folders(tmp_path)] == ['move_near', 'pick']
    frames = recorded_frames(tmp_path, 8)
    assert [frame.episode for frame in frames] == list(range(8))
    assert len(recorded_frames(tmp_path / 'pick', 8)) == 8
    assert recording_folders(tmp_path / 'none') == []
    with pytest.raises(InputError, match='cannot be read'):
        recorded_frames(tmp_path / 'none', 8)


class Still:
    """A policy that stays where it is."""

    step_duration = 0.2

    def infer(self, observation):
        actions = np.zeros((8, 7))
        actions[:, 6] = 1.0
        chunk = ActionChunk(
            actions, self.step_duration, observation.stamp_ns, observation.instruction, 1
        )
        return chunk, TickReport({'language': 0.001})


def test_simulated_episodes_give_frames_of_the_policy_s_own_doing():
    done = []
    frames = simulator_frames(Still(), 3, progress=done.append)
    assert [frame.episode for frame in frames] == [0, 1, 2]
    assert done == [1, 2, 3]
    for frame in frames:
        assert frame.image.shape == (224, 224, 3)
        assert frame.image.std() > 5
        assert frame.instruction.startswith('pick ')


def test_simulated_episodes_of_several_tasks_are_counted_through():
    frames = simulator_frames(Still(), 5, tasks=('open_drawer', 'close_drawer'))
    assert [frame.episode for frame in frames] == [0, 1, 2, 3, 4]
    opens = ['shut' not in f.instruction and 'close' not in f.instruction for f in frames]
    assert opens == [True, True, False, False, False]
    assert not np.array_equal(frames[0].image, frames[1].image)
