"""`efficientvla replay` plans every frame of a recording as the node would, without ROS 2."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from bag_writer import (
    IMAGE,
    JOINT_STATE,
    STORE,
    STRING,
    compressed,
    header,
    joints,
    picture,
    text,
    write_bag,
)
from rosbags.rosbag2 import StoragePlugin

from efficientvla_ros.cli import main as cli
from efficientvla_ros.simulation.arm import ARM_JOINTS, HOME_POSITIONS, JOINT_NAMES, arm_urdf

START = 1_700_000_000_000_000_000
MS = 1_000_000
FRAMES = 5


def rows(*, frames: int = FRAMES, camera: str = '/camera', lag_ms: int = 15):
    """What a node heard: an image every 100 ms, the arm at 50 Hz, the rest at the start."""
    rng = np.random.default_rng(3)
    found = [
        (START, '/robot_description', STRING, text(arm_urdf())),
        (START + 1, '/instruction', STRING, text('pick red can')),
    ]
    for tick in range(5 * frames + 5):
        stamp = START + (20 * tick - 40) * MS
        moved = np.array(HOME_POSITIONS) + 0.001 * tick
        state = joints(JOINT_NAMES, moved, stamp)
        found.append((stamp + MS, '/joint_states', JOINT_STATE, state))
    for frame in range(frames):
        stamp = START + (100 * frame + 50) * MS
        pixels = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
        found.append((stamp + lag_ms * MS, f'{camera}/image_raw', IMAGE, picture(pixels, stamp)))
    return sorted(found, key=lambda row: row[0])


@pytest.fixture
def bag(tmp_path):
    write_bag(tmp_path / 'bag', rows())
    return tmp_path / 'bag'


@pytest.fixture
def replay(monkeypatch, capsys, tmp_path):
    """Runs the command; returns (report or None, stdout, stderr)."""

    def run(*arguments: object):
        file = tmp_path / 'out.json'
        words = ['efficientvla', 'replay', *map(str, arguments), '--json', str(file)]
        monkeypatch.setattr(sys, 'argv', words)
        with pytest.raises(SystemExit) as stop:
            cli.main()
        output = capsys.readouterr()
        report = json.loads(file.read_text()) if not stop.value.code else None
        return report, output.out, output.err

    return run


def frames(report, run: int = 0):
    return report['runs'][run]['frames']


def refused(result, *parts: str) -> None:
    report, _, err = result
    assert report is None
    assert err.strip().splitlines()[-1].startswith('error: ')
    assert len([line for line in err.splitlines() if line.startswith('error')]) == 1
    assert 'Traceback' not in err
    for part in parts:
        assert part in err


def test_every_frame_has_a_chunk_and_a_command(replay, bag):
    report, out, err = replay(bag, '--model', 'tabletop-pick')
    assert [row['stamp_ns'] for row in frames(report)] == [
        START + (100 * n + 50) * MS for n in range(FRAMES)
    ]
    for row in frames(report):
        assert row['hold_reason'] == ''
        assert np.shape(row['chunk']['actions']) == (8, 7)
        assert row['command']['joints'] == list(JOINT_NAMES)
        assert row['command']['stamp_ns'] == row['stamp_ns']
        assert not any(row['command']['velocities'][-1])
    assert f'dense: {FRAMES} frames, {FRAMES} plans, {FRAMES} commands' in out
    assert err == ''


def test_chunks_are_anchored_on_the_arm_interpolated_at_the_image(replay, bag):
    from efficientvla_ros.control.kinematics import ArmKinematics

    report, _, _ = replay(bag, '--frames', 2)
    kinematics = ArmKinematics(arm_urdf(), ARM_JOINTS, 'tcp', 'base_link')
    for number, row in enumerate(frames(report)):
        tick = (100 * number + 50 + 40) / 20
        arm = np.array(HOME_POSITIONS)[:6] + 0.001 * tick
        np.testing.assert_allclose(row['chunk']['anchor'], kinematics.fk(arm), atol=1e-9)


def test_replays_of_both_storage_formats_are_equal(replay, bag, tmp_path):
    write_bag(tmp_path / 'mcap', rows(), StoragePlugin.MCAP)
    one, _, _ = replay(bag)
    other, _, _ = replay(tmp_path / 'mcap')
    for a, b in zip(frames(one), frames(other), strict=True):
        assert (a['chunk'], a['command']) == (b['chunk'], b['command'])


def test_presets_are_compared_with_the_first_run(replay, bag):
    report, out, _ = replay(bag, '--compare', 'tokens', '--compare', 'dense')
    same, cheaper = report['runs'][2]['comparison'], report['runs'][1]['comparison']
    assert same['frames'] == cheaper['frames'] == FRAMES
    assert max(same['deviation']) == 0.0
    assert max(cheaper['deviation']) > 0.0
    assert frames(report)[0]['visual_tokens'] > frames(report, 1)[0]['visual_tokens']
    assert 'mean difference of the actions to those of dense' in out


def test_what_holds_the_arm_is_named_frame_by_frame(replay, tmp_path):
    found = [row for row in rows() if row[1] != '/robot_description']
    late = START + 170 * MS
    found = [(late, *row[1:]) if row[1] == '/instruction' else row for row in found]
    write_bag(tmp_path / 'bag', sorted(found, key=lambda row: row[0]))
    report, out, err = replay(tmp_path / 'bag')
    # The new instruction plans at once, from the newest image.
    assert [row['hold_reason'] for row in frames(report)] == [
        'no_instruction',
        'no_instruction',
        *['no_robot_description'] * (FRAMES - 1),
    ]
    assert [row['chunk'] is None for row in frames(report)] == [True, True, *[False] * 4]
    assert 'has no topic /robot_description' in err
    assert 'held 2x no_instruction' in out


def test_a_robot_description_can_be_given(replay, tmp_path):
    write_bag(tmp_path / 'bag', [row for row in rows() if row[1] != '/robot_description'])
    (tmp_path / 'arm.urdf').write_text(arm_urdf())
    report, _, _ = replay(tmp_path / 'bag', '--urdf', tmp_path / 'arm.urdf', '--frames', 1)
    assert frames(report)[0]['command'] is not None


def test_latency_is_counted_as_on_the_node(replay, bag):
    # Meanwhile the arm goes on telling its joints.
    report, _, _ = replay(bag, '--latency', 0.5, '--frames', 1)
    assert frames(report)[0]['command']['times'][0] == pytest.approx(0.6)
    report, _, _ = replay(bag, '--latency', 3)
    assert {row['hold_reason'] for row in frames(report)} == {'joint_state_too_old'}


def test_an_instruction_during_an_inference_throws_the_plan_away(replay, tmp_path):
    found = [*rows(), (START + 230 * MS, '/instruction', STRING, text('pick green can'))]
    write_bag(tmp_path / 'bag', sorted(found, key=lambda row: row[0]))
    report, _, _ = replay(tmp_path / 'bag', '--latency', 0.1)
    told = [(row['instruction'], row['command'] is None) for row in frames(report)]
    red, green = 'pick red can', 'pick green can'
    assert told == [(red, False), (red, True), *[(green, False)] * 4]
    assert 'thrown away' in frames(report)[1]['detail']


def test_with_a_rate_ticks_take_the_newest_frame(replay, bag):
    report, _, _ = replay(bag, '--rate', 5)
    stamps = [(row['stamp_ns'] - START) // MS for row in frames(report)]
    assert stamps == sorted(set(stamps))
    assert 1 < len(stamps) < FRAMES


def test_parameters_of_the_node_are_read(replay, tmp_path):
    write_bag(tmp_path / 'bag', rows(camera='/arm1/wrist/color'))
    file = tmp_path / 'arm.yaml'
    file.write_text(
        '/**:\n  policy_node:\n    ros__parameters:\n      acceleration: {preset: tokens}\n'
        '      cameras.names: [wrist]\n      safety: {max_image_age: 1}\n      typo: 1\n'
        'other_node:\n  ros__parameters: {cameras.names: [unused]}\n'
    )
    report, _, err = replay(
        tmp_path / 'bag', '--params', file, '--namespace', 'arm1', '-p', 'cameras.rotation:=[180]',
        '-r', 'wrist/image_raw:=wrist/color/image_raw', '-r', 'instruction:=/instruction',
        '-r', 'joint_states:=/joint_states', '-r', 'robot_description:=/robot_description',
    )  # fmt: skip
    assert report['runs'][0]['preset'] == 'tokens'
    assert report['settings']['parameters']['cameras.rotation'] == [180]
    assert frames(report)[0]['command'] is not None
    assert err.strip() == 'warning: parameter "typo" is unknown and has no effect'


def test_crop_and_rotation_change_what_the_model_sees(replay, bag):
    plain, _, _ = replay(bag, '--frames', 1)
    turned, _, _ = replay(bag, '--frames', 1, '-p', 'cameras.rotation:=[180]')
    assert frames(plain)[0]['chunk'] != frames(turned)[0]['chunk']


def test_a_bad_image_holds_only_its_frame(replay, tmp_path):
    found = rows()
    broken = [row for row in found if row[2] == IMAGE][1][3]
    broken.step = 5
    write_bag(tmp_path / 'bag', found)
    report, _, _ = replay(tmp_path / 'bag')
    assert [row['hold_reason'] for row in frames(report)] == ['', 'bad_image', '', '', '']
    assert 'expected step x height' in frames(report)[1]['detail']
    assert report['runs'][0]['summary']['images_rejected'] == 1


def test_what_a_recording_lacks_is_named_with_what_it_has(replay, bag, tmp_path):
    refused(replay(tmp_path / 'nothing'), 'is no rosbag2 recording')
    refused(
        replay(bag, '-p', 'cameras.names:=[wrist]'),
        'has no topic /wrist/image_raw (sensor_msgs/msg/Image), it has: ',
        '/camera/image_raw (sensor_msgs/msg/Image)',
    )
    write_bag(tmp_path / 'mute', [row for row in rows() if row[1] != '/instruction'])
    refused(replay(tmp_path / 'mute'), 'has no topic /instruction', 'give one with --instruction')
    data = compressed(3)
    data.header = header(START)
    write_bag(
        tmp_path / 'jpeg',
        [(START, '/camera/image_raw/compressed', data.__msgtype__, data), *rows()[:2]],
    )
    refused(replay(tmp_path / 'jpeg'), '-p cameras.compressed:=[true] hears that')
    write_bag(tmp_path / 'odd', [(START, '/camera/image_raw', STRING, text('image'))])
    refused(
        replay(tmp_path / 'odd'),
        'topic /camera/image_raw is of std_msgs/msg/String, expected sensor_msgs/msg/Image',
    )
    refused(replay(bag, '-p', 'use_sim_time:=true'), 'has no topic /clock')


@pytest.mark.parametrize(
    ('arguments', 'complaint'),
    [
        (['--latency', 'soon'], "--latency 'soon': expected seconds"),
        (['--preset', 'fastest'], "preset 'fastest' is unknown"),
        (['--compare', 'fastest'], "preset 'fastest' is unknown"),
        (['-p', 'cameras.sync'], 'expected name:=value'),
        (['-p', 'cameras.sync:=never'], "parameter cameras.sync: got 'never'"),
        (['-p', 'cameras.names:=[a, b]', '-r', 'a/image_raw'], 'expected from:=to'),
        (['--params', 'nowhere.yaml'], 'nowhere.yaml cannot be read'),
    ],
)
def test_options_that_cannot_be_used_are_named(replay, bag, arguments, complaint):
    refused(replay(bag, *arguments), complaint)


def test_with_simulated_time_the_clock_of_the_recording_counts(replay, tmp_path):
    offset = START - 5_000 * MS  # stamps count from 5 s on, messages were recorded much later
    clock = STORE.types['rosgraph_msgs/msg/Clock']
    found = []
    for time, topic, kind, message in rows():
        stamped = getattr(message, 'header', None)
        if stamped is not None:
            now = stamped.stamp.sec * 1000 * MS + stamped.stamp.nanosec - offset
            message.header = header(now)
            tick = clock(clock=header(now).stamp)
            found.append((time - 1, '/clock', 'rosgraph_msgs/msg/Clock', tick))
        found.append((time, topic, kind, message))
    write_bag(tmp_path / 'bag', sorted(found, key=lambda row: row[0]))
    wall, _, _ = replay(tmp_path / 'bag')
    assert {row['hold_reason'] for row in frames(wall)} == {'image_too_old'}
    assert 'is use_sim_time the same' in frames(wall)[0]['detail']
    simulated, _, _ = replay(tmp_path / 'bag', '-p', 'use_sim_time:=true')
    assert {row['hold_reason'] for row in frames(simulated)} == {''}


def test_a_recording_without_images_has_no_frames(replay, tmp_path):
    others = [row for row in rows() if row[2] != IMAGE]
    write_bag(tmp_path / 'bag', others, empty=[('/camera/image_raw', IMAGE)])
    report, out, _ = replay(tmp_path / 'bag', '--compare', 'tokens')
    assert frames(report) == frames(report, 1) == []
    assert 'dense: 0 frames, 0 plans, 0 commands' in out


def test_it_needs_no_ros(bag, tmp_path):
    blocked = 'import sys; sys.modules.update(rclpy=None, sensor_msgs=None, std_msgs=None)'
    code = f'{blocked}; from efficientvla_ros.cli.main import main; main()'
    done = subprocess.run(
        [sys.executable, '-c', code, 'replay', str(bag), '--frames', '1'],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert 'dense: 1 frames, 1 plans, 1 commands' in done.stdout
