"""Faults of camera, arm, user and model on a running robot: it holds, says why, and goes on.

One policy node and one simulator go through all of it, so that going on is part of every case.
Everything that is published in between is looked at by a checker with arithmetic of its own.
"""

from __future__ import annotations

import array
import contextlib
import copy
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fault_harness import robot_under_test
from ros_harness import POLICY, NodeProcess, is_hold

from efficientvla_ros.msg import PolicyStatus

pytestmark = [pytest.mark.ros, pytest.mark.timeout(240)]

MODEL_FAULTS = ('non_finite', 'too_many_failures')


@pytest.fixture(scope='module')
def models(checkpoints, tmp_path_factory):
    """Checkpoints: one that works, one that gives NaN, one that gives thousands of metres."""
    huge = tmp_path_factory.mktemp('huge') / 'huge'
    shutil.copytree(checkpoints['good'], huge)
    file = huge / 'dataset_statistics.json'
    statistics = json.loads(file.read_text())
    for entry in statistics.values():
        for name in ('q01', 'q99'):
            values = entry['action'][name]
            entry['action'][name] = [1e6 * value for value in values[:6]] + values[6:]
        entry['action']['q01'][3:6], entry['action']['q99'][3:6] = [-1e6] * 3, [1e6] * 3
    file.write_text(json.dumps(statistics))
    return {'good': checkpoints['good'], 'nan': checkpoints['nan'], 'huge': huge}


@pytest.fixture(scope='module')
def campaign(ros_domain, ros_context, models):
    with robot_under_test(ros_domain, ros_context, models['good']) as test:
        yield test


@pytest.fixture
def robot(campaign):
    """The robot, running; it must run again when the fault has ended."""
    robot = campaign.robot
    robot.wait_until_running(robot.status.count - 1)
    yield robot
    robot.heal()
    before = robot.status.count
    robot.wait_until_running(before)
    commands = robot.commands.count
    robot.commands.wait(since=commands)


@pytest.fixture
def peer(ros_domain, monkeypatch):
    """Starts a program that lies beside this file; it ends with the test."""
    here = str(Path(__file__).parent)
    monkeypatch.setenv('PYTHONPATH', os.pathsep.join([here, os.environ.get('PYTHONPATH', '')]))
    with contextlib.ExitStack() as stack:

        def start(module: str) -> NodeProcess:
            process = NodeProcess(module, ros_domain)
            stack.callback(process.end, signal.SIGTERM)
            return process

        yield start


def hold_after(robot, before: int):
    """The last command since then; it must brake the arm."""
    command = robot.commands.since(before)[-1]
    assert is_hold(command)
    robot.wait_until_at_rest()


def test_a_camera_that_drops_out(robot):
    status, commands = robot.status.count, robot.commands.count
    robot.spoil_image = lambda image: None
    robot.wait_for_reason('image_too_old', since=status)
    hold_after(robot, commands - 1)


def test_a_camera_that_freezes_repeats_an_old_stamp(robot):
    status, commands = robot.status.count, robot.commands.count
    frozen = robot.newest_image
    robot.spoil_image = lambda image: frozen
    robot.wait_for_reason('image_too_old', since=status)
    hold_after(robot, commands - 1)


def test_an_image_of_another_size_than_its_data(robot):
    def cut(image):
        image = copy.copy(image)
        image.height //= 2
        return image

    status, commands = robot.status.count, robot.commands.count
    robot.spoil_image = cut
    robot.wait_for_reason('bad_image', since=status)
    hold_after(robot, commands - 1)


def test_a_camera_that_changes_its_resolution_is_used_on(robot):
    def smaller(image):
        half = copy.copy(image)
        half.height = image.height // 2
        half.data = array.array('B', image.data[: image.step * half.height])
        return half

    status, ticks = robot.status.count, robot.status.newest.ticks
    robot.spoil_image = smaller
    robot.status.wait(lambda s: s.ticks > ticks + 3, status)
    assert 'bad_image' not in robot.reasons(status)


def test_a_burst_of_images_at_200_hz_does_not_starve_the_tick(robot, peer):
    status, ticks = robot.status.count, robot.status.newest.ticks
    begin = time.monotonic()
    camera = peer('fast_camera')
    sent = int(camera.wait_for_line('images in').split()[0])
    after = robot.status.wait(since=robot.status.count)
    assert sent > 300
    rate = (after.ticks - ticks) / (time.monotonic() - begin)
    assert rate > 0.8, f'{rate} inferences per second'
    assert not {r for r in robot.reasons(status) if 'image' in r or 'joint' in r}


def test_a_stream_of_1280_by_720(robot, peer):
    robot.spoil_image = lambda image: None
    status, ticks = robot.status.count, robot.status.newest.ticks
    camera = peer('hd_camera')
    robot.status.wait(lambda s: s.ticks > ticks + 6 and s.state == PolicyStatus.RUNNING, status)
    camera.end(signal.SIGTERM)
    assert 'bad_image' not in robot.reasons(status)


def test_joint_states_that_lack_a_joint(campaign, robot):
    def without_elbow(state):
        index = state.name.index('elbow')
        state = copy.deepcopy(state)
        for values in (state.name, state.position, state.velocity):
            del values[index]
        return state

    status, mark = robot.status.count, campaign.policy.mark()
    robot.spoil_joints = without_elbow
    robot.wait_for_reason('joint_state_too_old', since=status)
    campaign.policy.wait_for_line('joint_state_too_old: .*no joint elbow', mark)
    robot.wait_until_at_rest()


def test_the_same_instruction_a_thousand_times_a_second_changes_nothing(robot):
    text = robot.status.newest.instruction
    status, ticks = robot.status.count, robot.status.newest.ticks
    begin = time.monotonic()
    robot.flood(lambda _: robot.instruct(text, volatile=True), 1000.0, 3.0)
    after = robot.status.wait(since=robot.status.count)
    assert (after.ticks - ticks) / (time.monotonic() - begin) > 0.8
    assert 'instruction_changing' not in robot.reasons(status)


def test_a_flood_of_different_instructions_holds_the_arm_and_is_named(robot):
    texts = ('pick red can', 'pick blue can')
    status, ticks = robot.status.count, robot.status.newest.ticks
    robot.flood(lambda i: robot.instruct(texts[i % 2], volatile=True), 1000.0, 4.0)
    after = robot.status.wait(since=robot.status.count)
    assert after.ticks > ticks + 3, 'the tick starved'
    assert 'instruction_changing' in robot.reasons(status)
    robot.wait_until_at_rest()


@contextlib.contextmanager
def crowded(threads: list[int], others: int) -> Iterator[None]:
    """Busy programs share one core with these threads of another process."""
    cores = os.sched_getaffinity(0)
    core = {min(cores)}
    busy = f'import os\nos.sched_setaffinity(0, {core})\nwhile True: pass'
    programs = []
    try:
        for thread in threads:
            os.sched_setaffinity(thread, core)
        programs += [subprocess.Popen([sys.executable, '-c', busy]) for _ in range(others)]
        yield
    finally:
        for program in programs:
            program.kill()
            program.wait()
        for thread in threads:
            os.sched_setaffinity(thread, cores)


def threads_of(pid: int) -> list[int]:
    return [int(thread) for thread in os.listdir(f'/proc/{pid}/task')]


def a_tenth_of_a_core(pid: int) -> contextlib.AbstractContextManager:
    """All of a process takes ten times as long.

    Stopping and continuing it again and again would do so too, but sooner or later while it holds
    a lock of the middleware's shared memory, which then takes its peers for dead.
    """
    return crowded(threads_of(pid), 9)


@contextlib.contextmanager
def starved(pid: int) -> Iterator[None]:
    """A process gets next to nothing of a core; only its middleware stays alive for its peers."""
    threads = [t for t in threads_of(pid) if 'dds' not in name_of_thread(pid, t)]
    assert 0 < len(threads) < len(threads_of(pid)), 'no thread of the middleware was found'
    try:
        for thread in threads:
            os.sched_setscheduler(thread, os.SCHED_IDLE, os.sched_param(0))
        with crowded(threads, 1):
            yield
    finally:
        for thread in threads:
            os.sched_setscheduler(thread, os.SCHED_OTHER, os.sched_param(0))


def name_of_thread(pid: int, thread: int) -> str:
    return Path(f'/proc/{pid}/task/{thread}/comm').read_text()


def test_a_node_that_gets_a_tenth_of_the_processor(campaign, robot):
    # Inference and everything else take ten times as long.
    status = robot.status.count
    with a_tenth_of_a_core(campaign.policy.pid):
        time.sleep(4.0)
    newest = robot.status.wait(since=status)
    assert newest.state in (PolicyStatus.RUNNING, PolicyStatus.HOLDING)


def test_an_inference_that_outlasts_its_plan_lets_the_arm_come_to_rest(campaign, robot):
    status = robot.status.count
    with starved(campaign.policy.pid):
        time.sleep(2.2)  # a plan lasts 1.6 s
        robot.wait_until_at_rest()
    robot.wait_for_reason(
        'inference_late', 'chunk_expired', 'image_too_old', 'joint_state_too_old', since=status
    )


def test_the_stop_button_holds_until_it_is_released_and_reset(robot):
    from std_msgs.msg import Bool

    button = robot.node.create_publisher(Bool, 'stop', 1)
    status, commands = robot.status.count, robot.commands.count
    robot.flood(lambda _: button.publish(Bool(data=True)), 20.0, 0.5)
    robot.wait_for_state(PolicyStatus.STOPPED, 'stopped', status)
    hold_after(robot, commands - 1)
    answer = robot.trigger('reset')
    assert not answer.success and 'release it first' in answer.message
    robot.flood(lambda _: button.publish(Bool(data=False)), 20.0, 0.5)
    released = robot.status.wait(since=robot.status.count)
    assert released.state == PolicyStatus.STOPPED, 'a released button must not start the arm'
    assert robot.trigger('reset').success


@contextlib.contextmanager
def other_model(robot, path):
    """The same node with another model, and with the first one afterwards."""

    def load(model) -> None:
        for transition in ('deactivate', 'cleanup'):
            assert robot.change(transition)
        assert robot.set_parameters(model__path=str(model))[0].successful
        for transition in ('configure', 'activate'):
            assert robot.change(transition)

    (before,) = robot.get_parameters('model.path')
    load(path)
    try:
        yield
    finally:
        load(before.string_value)


def test_a_model_that_gives_nan(robot, models):
    with other_model(robot, models['nan']):
        commands, status = robot.commands.count, robot.status.count
        robot.wait_for_reason('too_many_failures', since=status)
        assert 'non_finite' in robot.reasons(status - 5)
        assert robot.commands.count == commands


def test_a_model_that_gives_kilometres(robot, models):
    with other_model(robot, models['huge']):
        commands = robot.commands.count
        robot.commands.wait(since=commands + 4)  # limited ones: the checker looks at them


def test_sigterm_and_sigkill(campaign, robot, ros_domain, models):
    commands = robot.commands.count
    assert campaign.policy.end(signal.SIGTERM) == 0
    robot.commands.wait(is_hold, commands - 1)
    hold_after(robot, commands - 1)
    assert 'Traceback' not in campaign.policy.output

    arguments = ('-p', f'model.path:={models["good"]}', '-p', 'autostart:=true')
    for number in (signal.SIGKILL, None):
        status = robot.status.count
        campaign.policy = NodeProcess(POLICY, ros_domain, *arguments)
        robot.wait_for_state(PolicyStatus.RUNNING, since=status)
        robot.commands.wait(since=robot.commands.count)
        if number is not None:
            campaign.policy.end(number)
            # Nobody is left to say anything: the trajectory itself ends at rest.
            assert not any(robot.commands.newest.points[-1].velocities)
            time.sleep(1.7)
            robot.wait_until_at_rest()


def test_the_checker_has_seen_the_campaign(campaign):
    checker = campaign.robot.checker
    assert checker.commands > 50 and checker.points > 300
    assert not checker.faults
