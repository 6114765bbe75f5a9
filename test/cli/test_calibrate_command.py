"""`efficientvla calibrate` writes a profile that its model accepts, and a report."""

from __future__ import annotations

import json
import sys

import cv2
import numpy as np
import pytest
from bag_writer import two_episodes, write_bag

from efficientvla_ros.acceleration.profile import load_profile
from efficientvla_ros.cli import main as cli
from efficientvla_ros.runtime.engine import load_engine
from efficientvla_ros.simulation.recording import FORMAT, encode_png
from efficientvla_ros.simulation.tasks import OBJECTS


def run(monkeypatch, *arguments: str) -> int:
    words = ['efficientvla', 'calibrate', '--model', 'tabletop-pick', *map(str, arguments)]
    monkeypatch.setattr(sys, 'argv', words)
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return stop.value.code or 0


@pytest.fixture
def recording(tmp_path):
    """Ten episodes of one frame, as `efficientvla record` writes them."""
    folder = tmp_path / 'demonstrations'
    folder.mkdir()
    described = {'format': FORMAT, 'task': 'pick', 'objects': list(OBJECTS)}
    (folder / 'recording.json').write_text(json.dumps(described))
    rng = np.random.default_rng(0)
    data = [encode_png(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)) for _ in range(10)]
    np.savez(
        folder / 'shard_00000.npz',
        frames=np.concatenate(data),
        frame_offsets=np.cumsum([0, *(len(part) for part in data)]),
        episode=np.arange(10, dtype=np.int32),
        object_ids=np.zeros((10, 3), np.int8),
    )
    return folder


def test_a_recording_gives_a_profile_a_report_and_a_picture(
    recording, tmp_path, monkeypatch, capsys
):
    out, report_file = tmp_path / 'made' / 'p.safetensors', tmp_path / 'report.json'
    picture = tmp_path / 'layers.png'
    code = run(
        monkeypatch,
        *('--data', recording, '--frames', 10, '--out', out, '--greedy', '--keep', 9),
        *('--json', report_file, '--plot', picture),
    )
    shown = capsys.readouterr()
    assert code == 0, shown.err
    engine = load_engine('tabletop-pick')
    profile = load_profile(out, engine.model)
    assert (profile.frames, profile.layers, profile.source) == (10, 12, 'demonstrations')
    assert set(profile.greedy_removals((0, 1, 2, 11))) == set(range(3, 11))

    report = json.loads(report_file.read_text())
    assert report['schema'] == 'efficientvla_ros/calibration_report/1'
    assert report['importance'] == profile.importance.tolist()
    (selection,) = report['selections']
    assert len(selection['kept']) == len(selection['greedy_kept']) == 9
    assert report['hardware']['cores'] >= 1
    assert cv2.imread(str(picture)) is not None

    assert '10 frames of 10 episodes from demonstrations' in shown.out
    assert f'keep 9: layers {selection["removed"]} go' in shown.out
    greedy_removed = sorted(set(range(12)) - set(selection['greedy_kept']))
    is_same = greedy_removed == selection['removed']
    anew = 'the same' if is_same else greedy_removed
    assert f'go; measured anew after each removal, {anew}' in shown.out
    assert 'goes at 9' in shown.out
    assert "Kendall's tau" in shown.out
    assert f'profile: {out}' in shown.out
    for layer, value in enumerate(report['importance']):
        assert f'{value:.5f}' in shown.out, layer


def test_the_table_lists_layers_from_the_least_important(recording, tmp_path, monkeypatch, capsys):
    run(monkeypatch, '--data', recording, '--frames', 8, '--out', tmp_path / 'p.safetensors')
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    ranked = [row for row in rows if len(row) > 5 and row[0].isdigit() and row[1].isdigit()]
    assert [int(row[0]) for row in ranked] == list(range(1, 13))
    assert sorted(int(row[1]) for row in ranked) == list(range(12))
    values = [float(row[2]) for row in ranked]
    assert values == sorted(values)
    protected = {int(row[1]) for row in ranked if 'protected' in row}
    assert protected == {0, 1, 2, 11}
    # The published 22 and 28 of 32 layers.
    assert any(row[:2] == ['keep', '8:'] for row in rows)
    assert any(row[:2] == ['keep', '11:'] for row in rows)


def test_fewer_frames_than_asked_for_are_said(recording, tmp_path, monkeypatch, capsys):
    run(monkeypatch, '--data', recording, '--frames', 99, '--out', tmp_path / 'p.safetensors')
    assert '10 frames (99 were asked for) of 10 episodes' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (('--data', 'nowhere'), '--data \'nowhere\' is not a recording, expected "simulator"'),
        (('--data', 'simulator', '--scoring-layer', -1), '--scoring-layer is -1'),
        (('--data', 'simulator', '--scoring-layer', 12), 'scoring layer is 12, expected 0 .. 11'),
        (('--data', 'simulator', '--image-topic', '/a'), '--image-topic is for a rosbag2'),
        (('--data', 'simulator', '--keep', 13), 'layers to keep is 13, expected 4 .. 12'),
        (('--data', 'simulator', '--keep', 2), 'layers to keep is 2, expected 4 .. 12'),
        (('--data', 'simulator', '--task', 'fly'), "--task is 'fly', expected one of: pick,"),
    ],
)
def test_unusable_options_are_answered_in_one_line(
    options, message, tmp_path, monkeypatch, capsys
):
    out = tmp_path / 'p.safetensors'
    assert run(monkeypatch, '--out', out, '--frames', 9999, *options) == cli.EXIT_USAGE
    error = capsys.readouterr().err.strip()
    assert message in error
    assert error.startswith('error: ')
    assert not out.exists()


def test_a_rosbag2_recording_gives_a_profile(tmp_path, monkeypatch, capsys):
    write_bag(tmp_path / 'bag', two_episodes())
    out = tmp_path / 'p.safetensors'
    code = run(monkeypatch, '--data', tmp_path / 'bag', '--frames', 4, '--out', out)
    assert code == 0, capsys.readouterr().err
    profile = load_profile(out)
    assert (profile.frames, profile.source) == (4, 'bag')
    assert profile.episodes.unique().tolist() == [0, 1]


def test_an_instruction_that_the_model_cannot_take_is_named(tmp_path, monkeypatch, capsys):
    write_bag(tmp_path / 'bag', two_episodes())
    arguments = ('--data', tmp_path / 'bag', '--instruction', 'juggle', '--out', tmp_path / 'p')
    assert run(monkeypatch, *arguments) == cli.EXIT_USAGE
    assert "error: instruction 'juggle'" in capsys.readouterr().err


def test_a_recording_of_another_task_is_refused(recording, tmp_path, monkeypatch, capsys):
    description = json.loads((recording / 'recording.json').read_text())
    (recording / 'recording.json').write_text(json.dumps({**description, 'task': 'juggle'}))
    out = tmp_path / 'p.safetensors'
    assert run(monkeypatch, '--data', recording, '--out', out) == cli.EXIT_USAGE
    assert "recording of the task 'juggle', expected one of: pick" in capsys.readouterr().err


@pytest.mark.parametrize('name', ['', 'file/p.safetensors'])
def test_a_profile_that_cannot_be_written_is_refused_before_the_measurement(
    name, tmp_path, monkeypatch, capsys
):
    (tmp_path / 'file').write_text('')
    out = tmp_path / name
    code = run(monkeypatch, '--data', 'simulator', '--frames', 9999, '--out', out)
    assert code == cli.EXIT_USAGE
    assert f'error: --out {out} cannot be written' in capsys.readouterr().err
