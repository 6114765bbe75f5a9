"""Recordings of the tasks with furniture: labels, keypoints, card, contact sheet."""

from __future__ import annotations

import io
import json
import re

import numpy as np
import pytest
from typer.testing import CliRunner

from efficientvla_ros.cli.main import app
from efficientvla_ros.simulation.demonstrations import Demonstrator, Disturbances
from efficientvla_ros.simulation.expert import plan
from efficientvla_ros.simulation.goals import TASKS, Goal
from efficientvla_ros.simulation.labels import label_goals
from efficientvla_ros.simulation.objects import KEYPOINTS, PLATE
from efficientvla_ros.simulation.recorder import record_all
from efficientvla_ros.simulation.recording import RecordingSettings, frame_goals, write_shard
from efficientvla_ros.simulation.recording_look import COLUMNS, contact_sheet
from efficientvla_ros.types import InputError

SIZE = 48
DESCRIBED = {'objects': list(KEYPOINTS), 'tasks': list(TASKS)}


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('all')
    settings = RecordingSettings('pick', 4, 50, SIZE)
    record_all(settings, folder, tasks=('open_drawer', 'place_plate'))
    return folder


@pytest.fixture(scope='module')
def shards(folder):
    return {
        task: dict(np.load(folder / task / 'shard_00000.npz'))
        for task in ('open_drawer', 'place_plate')
    }


def test_every_frame_has_three_instructions_that_its_scene_allows(shards):
    tasks = set()
    for task, shard in shards.items():
        for row in range(len(shard['episode'])):
            goals = frame_goals(shard, row, DESCRIBED)
            assert len(set(goals)) == 3
            tasks |= {(task, goal.task) for goal in goals}
            assert goals[0].task == task or task != 'open_drawer' or row > 0
    assert ('open_drawer', 'close_drawer') in tasks and ('open_drawer', 'place_drawer') in tasks
    assert ('place_plate', 'move_near') in tasks and ('place_plate', 'pick') in tasks


def test_tasks_are_recorded_side_by_side(shards, tmp_path):
    progress: dict[str, list[int]] = {task: [] for task in shards}
    record_all(
        RecordingSettings('pick', 1, 50, SIZE),
        tmp_path,
        2,
        lambda task, done: progress[task].append(done),
        tasks=tuple(shards),
    )
    for task, shard in shards.items():
        assert progress[task][0] == 0 and progress[task][-1] == 1
        alone = np.load(tmp_path / task / 'shard_00000.npz')
        frames = len(alone['episode'])
        assert 0 < frames < len(shard['episode']) and alone['seeds'].tolist() == [50]
        np.testing.assert_array_equal(alone['plans'], shard['plans'][:frames])


def test_keypoints_are_those_of_what_is_there(shards):
    for task, shard in shards.items():
        present = np.isfinite(shard['keypoints']).all(-1)
        assert present.shape == (len(shard['episode']), len(KEYPOINTS))
        assert (present[:, : len(KEYPOINTS) - 2].sum(1) == 3).all()
        assert (present[:, KEYPOINTS.index(PLATE)] == (task == 'place_plate')).all()
        assert (present[:, -1] == (task == 'open_drawer')).all()
        rows = np.arange(len(present))[:, None]
        np.testing.assert_array_equal(
            shard['object_pixels'], shard['keypoints'][rows, shard['object_ids']]
        )
    assert np.isnan(shards['place_plate']['drawer']).all()
    assert np.nanmax(shards['open_drawer']['drawer']) > 0.8


def test_a_frame_can_be_read_without_this_package(folder):
    from PIL import Image

    described = json.loads((folder / 'place_plate' / 'recording.json').read_text())
    shard = np.load(folder / 'place_plate' / 'shard_00000.npz')
    start, stop = shard['frame_offsets'][:2]
    image = np.asarray(Image.open(io.BytesIO(shard['frames'][start:stop].tobytes())))
    assert image.shape == (SIZE, SIZE, 3)
    names = [
        described['objects'][i] for i in (shard['object_ids'][0, 0], shard['references'][0, 0])
    ]
    wording = described['templates'][described['tasks'][shard['tasks'][0, 0]]][0]
    assert wording.format(*names) == frame_goals(shard, 0, described)[0].instruction()


def test_the_card_says_what_is_there(folder):
    card = json.loads((folder / 'dataset_card.json').read_text())
    assert [row['task'] for row in card['recordings']] == ['open_drawer', 'place_plate']
    assert card['total']['tried'] == 8 and card['total']['kept'] >= 5
    row = card['recordings'][0]
    assert row['seeds'] == [50, 54] and row['image_size'] == SIZE
    assert sum(row['labelled_plans'].values()) == 3 * row['frames']
    assert {'mujoco', 'numpy', 'python'} <= set(card['versions'])
    page = (folder / 'README.md').read_text()
    assert '| place_plate | matching | expert | 50 to 53 |' in page


def test_a_look_makes_a_sheet_or_a_video(folder, tmp_path):
    sheet = contact_sheet(folder, 4)
    assert sheet.shape[1] == COLUMNS * 168 and sheet.shape[0] == 4 * (168 + 16)
    assert sheet.std() > 20
    for name in ('sheet.png', 'film.mp4'):
        result = CliRunner().invoke(app, ['record', '--look', str(folder), str(tmp_path / name)])
        assert result.exit_code == 0, result.output
        assert (tmp_path / name).stat().st_size > 10_000


@pytest.mark.parametrize(
    'arguments',
    [['--look', 'nowhere', 'sheet.png'], ['--look', '.', 'a.txt'], ['--look', '.'], []],
)
def test_an_impossible_look_is_refused(arguments):
    result = CliRunner().invoke(app, ['record', *arguments])
    assert isinstance(result.exception, InputError)


@pytest.mark.parametrize(
    ('arguments', 'expected'),
    [
        (['--preset', 'efficientvla'], 'needs a --policy'),
        (['--policy', 'tabletop-pick', '--preset', 'fast'], 'preset .fast. is unknown'),
    ],
)
def test_a_preset_without_a_policy_or_of_no_name_is_refused(arguments, expected, tmp_path):
    result = CliRunner().invoke(app, ['record', '--out', str(tmp_path), *arguments])
    assert isinstance(result.exception, InputError)
    assert re.search(expected, str(result.exception))


def test_a_policy_that_cannot_be_loaded_is_named(tmp_path):
    arguments = ['--out', str(tmp_path), '--episodes', '1', '--policy', 'tabletop-huge']
    result = CliRunner().invoke(app, ['record', *arguments])
    assert isinstance(result.exception, InputError)
    assert 'tabletop-huge' in str(result.exception)


def test_labels_are_plans_of_the_state_for_each_instruction():
    demonstrator = Demonstrator('place_drawer', SIZE)
    try:
        found = demonstrator.demonstrate(3)
        environment = demonstrator.environment
        state, rng = environment.table_state(), np.random.default_rng(0)
        goals = label_goals(environment.episode, state, Goal('close_drawer'), rng)
        assert goals[0] == Goal('close_drawer') and len(goals) == 3
        for goal in goals:
            assert np.isfinite(plan(state, goal)).all()
    finally:
        demonstrator.close()
    assert all(row.shape == (3, 16, 7) for row in found.rows['plans'])


def test_more_objects_than_labels_give_three_instructions_too(tmp_path):
    brief = RecordingSettings('pick', 20, 0, SIZE, scattered=True).disturbances()
    demonstrator = Demonstrator('pick', SIZE, brief, setting='variants')
    try:
        write_shard(tmp_path / 'pick.npz', demonstrator, range(20), keep_all=True)
    finally:
        demonstrator.close()
    shard = dict(np.load(tmp_path / 'pick.npz'))
    found = {len(set(frame_goals(shard, row, DESCRIBED))) for row in range(len(shard['episode']))}
    assert found == {3}
    assert (shard['keypoints'][:, :, 0] >= 0).sum(axis=1).max() > 3, 'more things than labels'


def test_scattered_starts_hold_things_and_pull_handles(tmp_path):
    settings = RecordingSettings('place_plate', 30, 0, SIZE, scattered=True).disturbances()
    assert settings == Disturbances(random_start_rate=1.0, frames=3)
    held = pulled = 0
    for task in ('place_plate', 'close_drawer'):
        demonstrator = Demonstrator(task, SIZE, settings)
        try:
            path = tmp_path / f'{task}.npz'
            write_shard(path, demonstrator, range(20), keep_all=True)
            for seed in range(20):
                demonstrator.demonstrate(seed)
                state = demonstrator.environment.table_state()
                held += any(state.grips(name) for name in state.objects)
                pulled += state.grips_handle()
        finally:
            demonstrator.close()
        shard = np.load(path)
        assert len(shard['seeds']) == 20 and len(shard['episode']) > 50
        if task == 'close_drawer':
            assert np.ptp(shard['drawer']) > 0.7
    assert held >= 4 and pulled >= 2
