"""Acceleration of a running node, changed over DDS: no tick is lost, status shows the plan."""

from __future__ import annotations

import re
import shutil

import pytest
from ros_harness import Robot, active_policy
from sensor_msgs.msg import Image

from efficientvla_ros.msg import PolicyStatus

pytestmark = pytest.mark.ros


@pytest.fixture(scope='module')
def calibrated(checkpoints, tmp_path_factory):
    """A checkpoint folder with a calibration profile."""
    from efficientvla_ros.acceleration.profile import PROFILE_FILE, save_profile
    from efficientvla_ros.evaluation.preset_benchmark import random_profile
    from efficientvla_ros.runtime.engine import load_engine

    folder = tmp_path_factory.mktemp('calibrated') / 'model'
    shutil.copytree(checkpoints['good'], folder)
    engine = load_engine(str(folder))
    save_profile(random_profile(engine, 'pick red can'), folder / PROFILE_FILE)
    return folder


@pytest.fixture(scope='module')
def node(ros_domain, ros_context, calibrated):
    """(process, robot) of an active node."""
    with active_policy(ros_domain, ros_context, calibrated) as pair:
        yield pair


@pytest.fixture
def running(node):
    """The node with nothing left out."""
    process, robot = node
    values = {
        'preset': 'dense', 'layers__keep': 0, 'mlp__ratio': -1.0, 'tokens__keep': 0,
        'tokens__method': 'preset', 'cache__interval': 0, 'channels__ratio': -1.0,
        'latency_budget_ms': 0.0,
    }  # fmt: skip
    assert change(robot, **values) == []
    wait_for_plan(robot, 'dense', 12, 64, 10)
    return process, robot


def change(robot: Robot, **values: object) -> list[str]:
    """Sets parameters of the group, one after the other; returns the reasons of refusals."""
    results = robot.set_parameters(
        **{f'acceleration__{name}': value for name, value in values.items()}
    )
    return [result.reason for result in results if not result.successful]


def wait_for_plan(robot: Robot, preset: str, layers: int, tokens: int, steps: int) -> PolicyStatus:
    return robot.status.wait(
        lambda s: (
            (s.preset, s.layers_run, s.visual_tokens, s.diffusion_steps)
            == (preset, layers, tokens, steps)
        ),
        since=robot.status.count,
    )


def diagnosis_of(robot: Robot) -> dict[str, str]:
    """The next diagnostics, by name."""
    array = robot.diagnostics.wait(since=robot.diagnostics.count)
    return {value.key: value.value for entry in array.status for value in entry.values}


def test_presets_change_while_the_arm_moves_and_no_tick_is_lost(running):
    process, robot = running
    log, status, chunks = process.mark(), robot.status.count, robot.chunks.count
    missed = diagnosis_of(robot)['ticks missed: inference late']
    failed = robot.status.newest.ticks_failed
    assert change(robot, preset='efficientvla') == []
    wait_for_plan(robot, 'efficientvla', 8, 14, 2)
    assert change(robot, preset='efficientvla_light', cache__interval=1) == []
    wait_for_plan(robot, 'efficientvla_light (changed)', 11, 28, 10)
    assert change(robot, tokens__keep=20, layers__keep=12) == []
    wait_for_plan(robot, 'efficientvla_light (changed)', 12, 20, 10)
    seen = robot.chunks.count
    robot.chunks.wait(since=seen)
    numbers = [chunk.sequence for chunk in robot.chunks.since(chunks)]
    assert len(numbers) >= 3
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    states = {message.state for message in robot.status.since(status)}
    assert states == {PolicyStatus.RUNNING}
    diagnosis = diagnosis_of(robot)
    assert diagnosis['ticks missed: inference late'] == missed
    assert diagnosis['acceleration preset'] == 'efficientvla_light (changed)'
    assert diagnosis['decoder layers run'] == '12 of 12'
    assert diagnosis['visual tokens kept'] == '20 of 64'
    assert robot.status.newest.ticks_failed == failed
    assert process.lines(r'plan efficientvla: 8 layers, .* 14 visual tokens', log)


def wait_for_ratio(robot: Robot, preset: str, ratio: float) -> PolicyStatus:
    """A status whose newest inference left out so much; those that choose channels do not."""
    return robot.status.wait(
        lambda s: s.preset == preset and s.channel_ratio == pytest.approx(ratio),
        since=robot.status.count,
    )


def test_channels_adapt_and_their_ratio_changes_while_the_arm_moves(running):
    process, robot = running
    log, chunks, failed = process.mark(), robot.chunks.count, robot.status.newest.ticks_failed
    assert change(robot, preset='ecovla_25') == []
    status = wait_for_ratio(robot, 'ecovla_25', 0.25)
    assert status.channel_updates >= 1 and status.update_reason
    assert status.pattern_age >= 1
    assert status.similarity == pytest.approx(1.0, abs=1e-4)  # the picture stays the same
    assert change(robot, channels__ratio=0.4) == []
    status = wait_for_ratio(robot, 'ecovla_25 (changed)', 0.4)
    audited = robot.status.wait(
        lambda s: s.preset == 'ecovla_25 (changed)' and len(s.audit_deviation) == 7,
        since=robot.status.count,
    )
    assert all(value >= 0.0 for value in audited.audit_deviation)
    diagnosis = diagnosis_of(robot)
    assert int(diagnosis['channel updates']) >= status.channel_updates
    assert diagnosis['audit deviation'].count(' ') == 6
    assert change(robot, preset='dense', channels__ratio=-1.0) == []
    wait_for_ratio(robot, 'dense', 0.0)
    numbers = [chunk.sequence for chunk in robot.chunks.since(chunks)]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert robot.status.newest.ticks_failed == failed
    assert not process.lines('ended by|Traceback', log)


def test_an_audit_that_tolerates_nothing_leaves_out_less_and_says_so(running):
    process, robot = running
    log = process.mark()
    try:
        assert change(robot, audit__max_deviation=1e-9, channels__update_rate=0.5) == []
        assert change(robot, preset='ecovla_40') == []
        line = process.wait_for_line('audit: deviation .* is above', log, timeout=60.0)
        assert '20% of the channels are left out from now on' in line
        process.wait_for_line('ticks run dense from now on', log, timeout=60.0)
    finally:
        assert change(robot, audit__max_deviation=0.0, channels__update_rate=0.15) == []


def test_a_latency_budget_names_the_plan_that_keeps_it(running):
    process, robot = running
    log = process.mark()
    assert change(robot, latency_budget_ms=60000.0) == []
    robot.status.wait(lambda s: s.preset == 'dense (latency budget)', since=robot.status.count)
    assert change(robot, latency_budget_ms=0.0) == []
    robot.status.wait(lambda s: s.preset == 'dense', since=robot.status.count)
    assert process.lines(r'plan dense \(latency budget\): 12 layers', log)


@pytest.mark.parametrize(
    ('values', 'reason'),
    [
        ({'tokens__keep': 65}, r'parameters acceleration\.\*: .*65.*64'),
        ({'layers__keep': 13}, r'parameters acceleration\.\*: .*13.*12'),
        ({'layers__keep': 2}, r'parameters acceleration\.\*: .*2'),
        ({'mlp__ratio': -0.5}, 'acceleration.mlp.ratio: got -0.5, expected -1 or 0 to 0.95'),
        ({'channels__ratio': -0.5}, 'acceleration.channels.ratio: got -0.5'),
        ({'preset': 'magic'}, "acceleration.preset: got 'magic', expected string, one of dense"),
        ({'tokens__method': 'best'}, "acceleration.tokens.method: got 'best'"),
        ({'profile': '/x.safetensors'}, 'takes effect when the node is configured'),
    ],
)
def test_a_plan_that_the_model_cannot_run_is_refused_with_the_reason(running, values, reason):
    process, robot = running
    log = process.mark()
    refusals = change(robot, **values)
    assert len(refusals) == 1 and re.search(reason, refusals[0]), refusals
    assert '\n' not in refusals[0]
    status = robot.status.wait(since=robot.status.count)
    assert (status.preset, status.visual_tokens, status.layers_run) == ('dense', 64, 12)
    assert not process.lines('plan ', log)


def test_kept_tokens_are_shown_to_those_who_subscribe(running):
    _, robot = running
    assert change(robot, preset='tokens') == []
    wait_for_plan(robot, 'tokens', 12, 14, 10)
    heard = robot.hear(Image, 'policy_node/debug/tokens')
    picture = heard.wait()
    camera = robot.image
    assert (picture.height, picture.width) == (camera.height, camera.width)
    assert picture.encoding == 'rgb8' and bytes(picture.data) != bytes(camera.data)
    robot.chunks.wait(lambda chunk: chunk.header.stamp == picture.header.stamp)


def test_a_technique_that_needs_a_profile_says_once_that_it_stays_off(
    start_policy, make_robot, checkpoints
):
    process = start_policy(
        '-r', '__node:=bare', '-p', f'model.path:={checkpoints["good"]}',
        '-p', 'acceleration.preset:=efficientvla',
    )  # fmt: skip
    robot = make_robot(node='bare')
    assert robot.change('configure')
    process.wait_for_line('layer pruning stays off: .*calibrat')
    process.wait_for_line('MLP pruning stays off: .*calibrat')
    before = process.mark()
    assert change(robot, tokens__keep=20) == []
    line = process.wait_for_line(r'plan efficientvla \(changed\)', before)
    assert '12 layers' in line and '20 visual tokens' in line
    assert not process.lines('stays off', before)
