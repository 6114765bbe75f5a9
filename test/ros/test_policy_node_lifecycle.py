"""Lifecycle of the policy node: transitions that fail leave it usable, the hold command is last.

Regressions guarded: a transition that raised was swallowed by rclpy without a word; a command
that was published after the hold command set the arm in motion again.
"""

from __future__ import annotations

import array
import signal
import time
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from ros_harness import ROOT, NodeProcess, Robot, is_hold, rgb_image
from sensor_msgs.msg import CompressedImage

from efficientvla_ros.msg import PolicyStatus

pytestmark = pytest.mark.ros


@pytest.fixture(scope='module')
def node(ros_domain, ros_context):
    """An unconfigured policy node and a robot: (process, robot)."""
    process = NodeProcess('efficientvla_ros.ros.policy_node', ros_domain)
    robot = Robot(ros_context)
    robot.describe()
    robot.instruct('pick red can')
    try:
        robot.wait_for_state(PolicyStatus.UNCONFIGURED)
        yield process, robot
    finally:
        robot.close()
        process.end()


def imports_torch(process: NodeProcess) -> bool:
    return 'libtorch' in Path(f'/proc/{process.pid}/maps').read_text()


def test_torch_is_not_loaded_before_configure(node):
    process, robot = node
    assert robot.lifecycle_state() == 'unconfigured'
    assert not imports_torch(process)


@pytest.mark.parametrize(
    ('folder', 'complaint'),
    [
        ('missing', 'neither an embedded model .* nor a checkpoint folder .* that exists'),
        ('empty', 'config.json does not exist, expected a checkpoint folder'),
        ('corrupt', 'model.safetensors is not a readable safetensors file'),
    ],
)
def test_weights_that_cannot_be_used_fail_configure_in_one_line(
    node, checkpoints, folder, complaint
):
    process, robot = node
    before = process.mark()
    path = checkpoints.get(folder, '/nowhere/missing')
    assert robot.set_parameters(model__path=str(path))[0].successful
    assert not robot.change('configure')
    assert robot.lifecycle_state() == 'unconfigured'
    errors = process.lines(r'\[ERROR\]', before)
    assert len(errors) == 1
    process.wait_for_line(f'configure failed: .*{complaint}', before)
    assert complaint.split()[-1] in robot.status.newest.last_error


def test_a_transition_that_is_not_possible_is_refused(node):
    _, robot = node
    assert not robot.change('activate')
    assert robot.lifecycle_state() == 'unconfigured'


def test_services_answer_while_the_model_is_loaded(node, checkpoints):
    _, robot = node
    assert robot.set_parameters(model__path=str(checkpoints['good']))[0].successful
    seen, states = [], set()
    thread = Thread(target=lambda: seen.append(robot.change('configure')))
    thread.start()
    while not seen and 'configuring' not in states:
        states.add(robot.lifecycle_state())
    thread.join(60)
    assert seen == [True]
    assert 'configuring' in states
    assert robot.change('cleanup')


def test_the_round_trip_works_twice(node, checkpoints):
    process, robot = node
    robot.set_parameters(model__path=str(checkpoints['good']))
    memory = []
    for _ in range(2):
        assert robot.change('configure')
        robot.wait_for_state(PolicyStatus.IDLE, since=robot.status.count)
        assert robot.change('activate')
        robot.commands.wait(since=robot.commands.count)
        assert robot.change('deactivate')
        commands = robot.commands.count
        robot.wait_for_state(PolicyStatus.IDLE, since=robot.status.count)
        assert is_hold(robot.commands.newest)
        assert robot.change('cleanup')
        robot.wait_for_state(PolicyStatus.UNCONFIGURED, since=robot.status.count)
        assert robot.commands.count == commands  # nothing came after the hold command
        memory.append(robot.status.newest.memory)
    assert memory[1] < memory[0] + 100e6
    assert not process.lines('Traceback')


def test_output_that_is_not_finite_holds_and_gives_up_in_the_end(node, checkpoints):
    process, robot = node
    robot.set_parameters(model__path=str(checkpoints['nan']), safety__max_failures=3)
    commands = robot.commands.count
    assert robot.change('configure')
    assert robot.change('activate')
    status = robot.wait_for_state(PolicyStatus.ERROR, 'too_many_failures')
    process.wait_for_line("non_finite: 56 of 56 values of the model's output are not finite")
    assert status.ticks_failed == 3
    assert robot.commands.count == commands  # the arm was never commanded
    before = robot.status.count
    assert robot.trigger('reset').success  # gives it another chance
    robot.wait_for_state(PolicyStatus.HOLDING, 'non_finite', before)
    assert robot.change('deactivate')
    assert robot.change('cleanup')


def test_sigterm_brings_the_arm_to_rest_and_ends_the_process(
    start_policy, make_robot, checkpoints
):
    for number in (signal.SIGTERM, signal.SIGINT):
        namespace = f'end_{number.name.lower()}'
        process = start_policy(
            '-r', f'__ns:=/{namespace}', '-p', f'model.path:={checkpoints["good"]}',
            '-p', 'autostart:=true',
        )  # fmt: skip
        robot = make_robot(namespace)
        robot.describe()
        robot.instruct('pick red can')
        robot.commands.wait()
        robot.commands.wait(since=robot.commands.count)
        before = robot.commands.count
        assert process.end(number) == 0
        robot.commands.wait(is_hold, before)
        assert is_hold(robot.commands.newest)
        assert 'Traceback' not in process.output


def test_ctrl_c_while_the_model_is_loaded_ends_the_process(start_policy, checkpoints):
    process = start_policy('-p', f'model.path:={checkpoints["good"]}', '-p', 'autostart:=true')
    process.wait_for_line('loading model')
    started = time.monotonic()
    assert process.end() == 0
    assert time.monotonic() - started < 15.0
    assert 'Traceback' not in process.output


def test_two_namespaces_run_side_by_side(start_policy, make_robot, checkpoints):
    robots = {}
    for name in ('left', 'right'):
        process = start_policy(
            '-r', f'__ns:=/{name}', '-p', f'model.path:={checkpoints["good"]}',
            '-p', 'autostart:=true',
        )  # fmt: skip
        robots[name] = (process, make_robot(name))
    for name, (_, robot) in robots.items():
        robot.describe()
        robot.instruct('pick red can' if name == 'left' else 'pick blue can')
    for name, (_, robot) in robots.items():
        robot.wait_until_running()
        colour = 'red' if name == 'left' else 'blue'
        assert robot.chunks.wait().instruction == f'pick {colour} can'
    # A camera that stops concerns its own arm only.
    left, right = robots['left'][1], robots['right'][1]
    before, commands = left.status.count, right.commands.count
    left.image = None
    left.wait_until_held('image_too_old', before)
    right.commands.wait(since=commands + 2)
    assert right.status.newest.state == PolicyStatus.RUNNING


def test_compressed_images_are_used_and_damaged_ones_named(start_policy, make_robot, checkpoints):
    cv2 = pytest.importorskip('cv2')
    process = start_policy(
        '-r', '__ns:=/jpeg', '-p', f'model.path:={checkpoints["good"]}', '-p', 'autostart:=true',
        '-p', 'cameras.compressed:=[true]',
    )  # fmt: skip
    robot = make_robot('jpeg')
    pixels = rgb_image()
    picture = np.frombuffer(pixels.data, np.uint8).reshape(pixels.height, pixels.width, 3)
    _, jpeg = cv2.imencode('.jpg', picture)
    robot.image = CompressedImage(format='jpeg', data=array.array('B', jpeg.tobytes()))
    robot.describe()
    robot.instruct('pick red can')
    robot.commands.wait()
    before = robot.status.count
    robot.image = CompressedImage(format='jpeg', data=array.array('B', b'not a jpeg'))
    robot.wait_until_held('bad_image', before)
    process.wait_for_line(r'10 bytes of compressed image \("jpeg"\) cannot be decoded')


def test_a_wrong_number_of_cameras_is_named(start_policy, checkpoints):
    process = start_policy(
        '-r', '__ns:=/cameras', '-p', f'model.path:={checkpoints["good"]}',
        '-p', 'autostart:=true', '-p', 'cameras.names:=[left, right]',
    )  # fmt: skip
    process.wait_for_line('cameras.names: got 2 cameras .*model tabletop-pick expects 1: camera')


def test_a_parameter_file_with_the_defaults_is_accepted(start_policy, make_robot):
    process = start_policy('-r', '__ns:=/yaml', '--params-file', str(ROOT / 'config/policy.yaml'))
    robot = make_robot('yaml')
    robot.wait_for_state(PolicyStatus.UNCONFIGURED)
    assert not process.lines('WARN|ERROR')


def test_unknown_and_wrong_parameters_are_named_at_start(start_policy, make_robot, tmp_path):
    file = tmp_path / 'typo.yaml'
    file.write_text('/**:\n  ros__parameters:\n    safety:\n      max_imag_age: 1.0\n')
    process = start_policy('-r', '__ns:=/typo', '--params-file', str(file))
    process.wait_for_line('"safety.max_imag_age" is unknown.*did you mean "safety.max_image_age"')
    file.write_text('/**:\n  ros__parameters:\n    safety:\n      max_image_age: soon\n')
    process = start_policy('-r', '__ns:=/none', '--params-file', str(tmp_path / 'none.yaml'))
    assert process.wait() == 1
    assert 'error: ROS cannot be initialised' in process.output
    assert 'Traceback' not in process.output
    process = start_policy('-r', '__ns:=/wrong', '--params-file', str(file))
    assert process.wait() == 1
    assert "parameter safety.max_image_age: got 'soon', expected double" in process.output
    assert 'Traceback' not in process.output


def test_sim_time_without_a_clock_is_named(start_policy, make_robot, checkpoints):
    process = start_policy(
        '-r', '__ns:=/simtime', '-p', f'model.path:={checkpoints["good"]}',
        '-p', 'autostart:=true', '-p', 'use_sim_time:=true',
    )  # fmt: skip
    robot = make_robot('simtime')
    robot.describe()
    robot.instruct('pick red can')
    robot.wait_until_held('no_clock', 0)
    process.wait_for_line('use_sim_time is true, but nothing came on /clock')
