"""An active policy node: what goes in, what comes out, and how it holds the arm.

Every test starts from a node that runs, and each hold must end by itself with its cause.
"""

from __future__ import annotations

import array
import re

import numpy as np
import pytest
from ros_harness import Robot, image_message, is_hold, rgb_image
from sensor_msgs.msg import CompressedImage, Image

from efficientvla_ros.control.kinematics import ArmKinematics
from efficientvla_ros.msg import PolicyStatus
from efficientvla_ros.simulation.arm import ARM_JOINTS, JOINT_NAMES, TCP_FRAME, arm_urdf

pytestmark = pytest.mark.ros


@pytest.fixture
def running(shared_policy):
    """(process, robot) of a node that is commanding the arm."""
    process, robot = shared_policy
    robot.restore()
    return process, robot


def seconds(stamp) -> float:
    return stamp.sec + stamp.nanosec * 1e-9


def times(command) -> list[float]:
    return [seconds(point.time_from_start) for point in command.points]


def commands_until_held(robot: Robot, reason: str, commands: int, status: int) -> list:
    """Waits for the hold, then for a second of silence; returns the commands since then."""
    robot.wait_until_held(reason, status)
    robot.status.wait(since=robot.status.count)  # one more status: a second without a command
    return robot.commands.since(commands)


def test_an_image_in_gives_a_command_for_every_joint_out(running):
    _, robot = running
    command = robot.commands.wait(since=robot.commands.count)
    assert list(command.joint_names) == list(JOINT_NAMES)
    assert command.header.frame_id == 'base_link'
    assert times(command) == sorted(set(times(command)))
    assert times(command)[-1] == pytest.approx(8 * 0.2)
    assert not any(command.points[-1].velocities)
    assert np.isfinite([point.positions for point in command.points]).all()


def test_the_chunk_is_anchored_to_the_tool_pose_at_the_image(running):
    _, robot = running
    chunk = robot.chunks.wait(since=robot.chunks.count)
    command = robot.commands.wait(lambda c: c.header.stamp == chunk.header.stamp)
    assert command.points
    assert (chunk.horizon, chunk.dimension, len(chunk.actions)) == (8, 7, 56)
    assert chunk.instruction == 'pick red can'
    assert chunk.action_space == 'ee_delta_base'
    kinematics = ArmKinematics(arm_urdf(), ARM_JOINTS, TCP_FRAME, 'base_link')
    tool = kinematics.fk(np.array(robot.joint_positions[:6]))
    anchor = chunk.anchor.position
    assert chunk.anchor_valid
    assert [anchor.x, anchor.y, anchor.z] == pytest.approx(tool[:3, 3], abs=1e-6)


@pytest.mark.parametrize(
    ('channels', 'encoding'),
    [(3, 'rgb8'), (3, 'bgr8'), (4, 'rgba8'), (4, 'bgra8'), (1, 'mono8')],
)
def test_common_encodings_with_padded_rows_are_used(running, channels, encoding):
    process, robot = running
    before = process.mark()
    robot.image = image_message(np.zeros((48, 64, channels), np.uint8), encoding, padding=5)
    ticks = robot.status.newest.ticks
    robot.status.wait(lambda s: s.ticks > ticks + 2)
    assert robot.status.newest.state == PolicyStatus.RUNNING
    assert not process.lines('holding', before)


def _wrong_step() -> Image:
    image = rgb_image()
    image.step -= 1
    return image


def _too_little_data() -> Image:
    image = rgb_image()
    image.data = image.data[:-1]
    return image


@pytest.mark.parametrize(
    ('image', 'complaint'),
    [
        (image_message(np.zeros((4, 4, 3), np.uint8), 'infrared12'), '"infrared12".*rgb8, bgr8'),
        (Image(encoding='rgb8'), 'image is 0x0 pixels, expected at least 1x1'),
        (_wrong_step(), 'bytes, expected step x height'),
        (image_message(np.zeros((4, 4, 1), np.uint8), 'rgb8'), 'step is 4 bytes, expected .* 12'),
        (_too_little_data(), 'bytes, expected step x height'),
    ],
    ids=['unknown encoding', 'size 0', 'wrong step', 'step too short', 'too little data'],
)
def test_a_bad_frame_is_named_in_one_line_and_the_arm_is_held(running, image, complaint):
    process, robot = running
    before, commands, status = process.mark(), robot.commands.count, robot.status.count
    rejected = robot.status.newest.images_rejected
    robot.image = image
    sent = commands_until_held(robot, 'bad_image', commands, status)
    assert [is_hold(command) for command in sent].count(True) == 1
    assert is_hold(sent[-1])
    assert robot.status.newest.images_rejected > rejected
    robot.restore()
    # A kind of complaint is repeated every ten seconds at most, also when it comes back.
    process.wait_for_line(f'bad_image: camera "camera": .*{complaint}')
    assert len(process.lines('holding: bad_image', before)) <= 1


def test_a_silent_camera_holds_the_arm_once_and_its_return_resumes(running):
    process, robot = running
    before, commands, status = process.mark(), robot.commands.count, robot.status.count
    robot.image = None
    sent = commands_until_held(robot, 'image_too_old', commands, status)
    assert is_hold(sent[-1])
    assert [is_hold(command) for command in sent].count(True) == 1
    process.wait_for_line(r'image_too_old: camera "camera": newest image is 0\.\d+ s old', before)
    robot.image = rgb_image()
    robot.wait_until_running(robot.status.count)


def test_the_hold_command_continues_from_the_trajectory_under_way(running):
    _, robot = running
    commands, status = robot.commands.count, robot.status.count
    robot.image = None
    sent = commands_until_held(robot, 'image_too_old', commands - 1, status)
    planned, hold = sent[-2], sent[-1]
    # Where the plan is when the arm has come to rest at half of the braking time's speed.
    at = seconds(hold.header.stamp) - seconds(planned.header.stamp)
    positions = np.array([point.positions for point in planned.points])
    low = positions[:, :6].min(axis=0) - 0.15
    high = positions[:, :6].max(axis=0) + 0.15
    held = np.array(hold.points[-1].positions[:6])
    assert 0.0 < at < 2.0
    assert ((low <= held) & (held <= high)).all()


@pytest.mark.parametrize('positions', [None, [float('nan')] * 7], ids=['silent', 'not finite'])
def test_without_joint_states_the_arm_is_held(running, positions):
    _, robot = running
    commands, status = robot.commands.count, robot.status.count
    robot.joint_positions = positions
    sent = commands_until_held(robot, 'joint_state_too_old', commands, status)
    assert is_hold(sent[-1])
    robot.restore()


def test_a_changed_instruction_replaces_the_plan_at_once(running):
    _, robot = running
    robot.chunks.wait(since=robot.chunks.count)
    chunks = robot.chunks.count
    robot.instruct('pick blue can')
    chunk = robot.chunks.wait(lambda c: c.instruction == 'pick blue can', chunks)
    earlier = [c for c in robot.chunks.since(chunks) if c.sequence < chunk.sequence]
    assert len(earlier) <= 1  # at most the one that was nearly done
    assert robot.commands.wait(lambda c: c.header.stamp == chunk.header.stamp)


def test_a_volatile_publisher_of_instructions_is_heard(running):
    _, robot = running
    robot.instruct('pick green can', volatile=True)
    robot.chunks.wait(lambda c: c.instruction == 'pick green can')


@pytest.mark.parametrize(
    ('instruction', 'complaint'),
    [
        ('', 'instruction is empty'),
        ('   ', 'instruction is empty'),
        ('pick red can ' * 800, 'instruction has 10400 characters, expected at most 256'),
        ('fold the laundry', 'laundry'),
    ],
    ids=['empty', 'blank', '10 kB', 'unknown words'],
)
def test_a_bad_instruction_holds_the_arm_until_a_good_one(running, instruction, complaint):
    process, robot = running
    commands, status = robot.commands.count, robot.status.count
    robot.instruct(instruction)
    sent = commands_until_held(robot, 'bad_instruction', commands, status)
    assert is_hold(sent[-1])
    line = process.wait_for_line(f'bad_instruction: .*{complaint}')
    assert len(line) < 400
    robot.restore()


def test_a_urdf_without_the_joints_is_named_and_replaced(running):
    process, robot = running
    status = robot.status.count
    robot.describe(arm_urdf().replace('"elbow"', '"knee"'))
    robot.wait_until_held('bad_robot_description', status)
    process.wait_for_line('no moving joint elbow; it has .*knee')
    robot.restore()


def test_stop_holds_until_reset(running):
    _, robot = running
    commands, status = robot.commands.count, robot.status.count
    assert robot.trigger('stop').success
    robot.wait_for_state(PolicyStatus.STOPPED, 'stopped', status)
    robot.status.wait(since=robot.status.count)
    sent = robot.commands.since(commands)
    assert is_hold(sent[-1])
    assert [is_hold(command) for command in sent].count(True) == 1
    robot.instruct('pick blue can')
    robot.status.wait(lambda s: s.instruction == 'pick blue can', robot.status.count)
    assert robot.status.newest.state == PolicyStatus.STOPPED
    assert robot.trigger('reset').success
    robot.wait_until_running(robot.status.count)


def test_images_without_a_stamp_count_from_their_arrival(running):
    process, robot = running
    robot.image, robot.stamping = rgb_image(), False
    commands = robot.commands.count
    robot.commands.wait(since=commands + 3)
    assert robot.status.newest.state == PolicyStatus.RUNNING
    assert len(process.lines('camera "camera": no time stamp')) == 1


def test_stamps_that_jump_back_start_over(running):
    process, robot = running
    image = rgb_image()
    image.header.stamp = robot.now()
    image.header.stamp.sec -= 3600
    before, status = process.mark(), robot.status.count
    robot.image, robot.stamping = image, False
    process.wait_for_line('time stamps jumped back', before)
    robot.wait_until_held('image_too_old', status)
    robot.restore()


def test_diagnostics_tell_state_and_latency(running):
    _, robot = running
    message = robot.diagnostics.wait(lambda d: d.status[0].message == 'running', timeout=20)
    status = message.status[0]
    assert status.level == b'\x00'
    assert status.name == 'policy_node: policy'
    inference = next(s for s in message.status if s.name == 'policy_node: inference')
    values = {value.key: value.value for value in inference.values}
    assert float(values['camera to command p50 [ms]']) > 0.0
    assert {'preprocess p50 [ms]', 'vision p99 [ms]'} <= set(values)


def test_status_times_callbacks_and_tells_the_memory(running):
    _, robot = running
    ticks = robot.status.newest.ticks
    status = robot.status.wait(lambda s: s.ticks > ticks + 10)
    assert 0.0 < status.callback_p95 <= status.callback_max
    assert 5e7 < status.memory < 1.5e9


def test_status_counts_and_times_every_stage(running):
    _, robot = running
    status = robot.status.newest
    assert list(status.stage_names) == [
        'preprocess', 'vision', 'language', 'action_head', 'postprocess',
    ]  # fmt: skip
    assert all(0.0 < p50 <= p95 for p50, p95 in zip(status.stage_p50, status.stage_p95))
    assert 0.0 < status.latency_p50 <= status.latency_p95
    assert status.commands_published > 0
    assert status.visual_tokens > 0


def test_a_live_parameter_changes_the_rate(running):
    _, robot = running
    (result,) = robot.set_parameters(control__execute_steps=1)
    assert result.successful
    try:
        robot.status.wait(lambda s: s.rate > 3.5)
    finally:
        robot.set_parameters(control__execute_steps=2)


@pytest.mark.parametrize(
    ('values', 'reason'),
    [
        ({'safety__max_image_age': -1.0}, 'max_image_age'),
        ({'safety__max_image_age': float('nan')}, 'max_image_age'),
        ({'safety__workspace_min': [1.0, 1.0, 1.0]}, 'workspace_m'),
        ({'safety__workspace_min': [0.0]}, '3 values'),
        ({'control__base_frame': 'world'}, 'read-only|read_only|Read-only'),
        ({'model__path': 'other'}, 'deactivate and clean up'),
    ],
)
def test_a_parameter_that_cannot_be_used_is_refused_with_a_reason(running, values, reason):
    _, robot = running
    (result,) = robot.set_parameters(**values)
    assert not result.successful
    assert re.search(reason, result.reason), result.reason


def test_descriptors_come_from_the_table(running):
    _, robot = running
    (description,) = robot.describe_parameters('safety.max_image_age')
    assert '[s]' in description.description
    assert description.floating_point_range[0].to_value == 60.0
    assert not description.read_only


def test_a_compressed_image_on_the_raw_topic_is_not_heard(running):
    # Only the topic that the parameter names is subscribed: no image twice.
    _, robot = running
    status = robot.status.count
    robot.image = CompressedImage(format='jpeg', data=array.array('B', b'not a jpeg'))
    robot.wait_until_held('image_too_old', status)
    robot.restore()
