"""From chunks to joint commands: timing, limits, holds, the gripper."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from efficientvla_ros.control.config import ControlConfig
from efficientvla_ros.control.pipeline import ChunkController, hold_command
from efficientvla_ros.control.reasons import HoldReason, Intervention
from efficientvla_ros.control.trajectory import Trajectory
from efficientvla_ros.simulation.arm import HOME_POSITIONS
from efficientvla_ros.types import ActionChunk, JointCommand

HOME = np.array(HOME_POSITIONS[:6])
STAMP = 5_000_000_000
MS = 1_000_000
DOWN = (0.0, 0.0, -0.02, 0.0, 0.0, 0.0, 1.0)
UNLIMITED = {'max_joint_velocity': 100.0}


def chunk_of(*rows, **fields) -> ActionChunk:
    values = {'step_duration': 0.2, 'stamp_ns': STAMP, 'instruction': 'pick', 'sequence': 1}
    return ActionChunk(np.array(rows, dtype=np.float64), **{**values, **fields})


def repeated(row=DOWN, count: int = 8, **fields) -> ActionChunk:
    return chunk_of(*[row] * count, **fields)


def sampled(command: JointCommand, start: np.ndarray, start_ns: int) -> Trajectory:
    """What a trajectory controller makes of a command, starting at rest."""
    times = command.stamp_ns + np.round(command.times * 1e9).astype(np.int64)
    return Trajectory(
        np.concatenate([[start_ns], times]),
        np.vstack([start, command.positions]),
        np.vstack([np.zeros_like(start), command.velocities]),
    )


@pytest.fixture
def controller(kinematics) -> ChunkController:
    return ChunkController(kinematics, gripper_joint='gripper')


def test_every_target_is_reached_at_its_time(kinematics, controller):
    result = controller.command(repeated(), HOME, STAMP)
    assert result.reason is HoldReason.NONE
    command = result.command
    assert command.names == (*kinematics.joint_names, 'gripper')
    assert command.stamp_ns == STAMP
    np.testing.assert_allclose(command.times, 0.2 * np.arange(1, 9))
    start = kinematics.fk(HOME)
    for step, q in enumerate(command.positions):
        expected = start.copy()
        expected[2, 3] -= 0.02 * (step + 1)
        np.testing.assert_allclose(kinematics.fk(q[:6]), expected, atol=2e-3)
    np.testing.assert_allclose(result.anchor, start)


def test_an_anchor_in_the_chunk_wins_over_the_joints(kinematics, controller):
    anchor = kinematics.fk(HOME)
    anchor[0, 3] += 0.03
    result = controller.command(repeated().anchored(anchor), HOME, STAMP)
    reached = kinematics.fk(result.command.positions[-1, :6])
    np.testing.assert_allclose(reached[0, 3], anchor[0, 3], atol=1e-3)


@settings(max_examples=40)
@given(st.integers(0, 1570))
def test_steps_that_are_past_or_about_to_be_are_dropped(kinematics, age_ms):
    controller = ChunkController(kinematics, ControlConfig(min_lead=0.02, **UNLIMITED))
    whole = controller.command(repeated(), HOME, STAMP).command
    controller.reset()
    command = controller.command(repeated(), HOME, STAMP + age_ms * MS).command
    due = [0.2 * (k + 1) for k in range(8) if 200 * (k + 1) > age_ms + 20]
    np.testing.assert_allclose(command.times, due)
    assert command.stamp_ns == STAMP
    assert controller.counters['step_dropped'] == 8 - len(due)
    if controller.counters['joint_velocity_limited']:
        return  # too little time left for the first step: the arm catches up later
    # What is left leads to the same poses as the whole chunk.
    np.testing.assert_allclose(command.positions, whole.positions[-len(due) :], atol=5e-3)


def test_a_chunk_that_is_all_past_is_expired(controller):
    result = controller.command(repeated(), HOME, STAMP + 1700 * MS)
    assert result.command is None
    assert result.reason is HoldReason.CHUNK_EXPIRED
    assert '0.100 s ago' in result.detail
    assert controller.counters['chunk_expired'] == 1


@pytest.mark.parametrize('age_ms', [0, 90, 500, 1500])
def test_every_command_ends_at_rest(controller, age_ms):
    command = controller.command(repeated(), HOME, STAMP + age_ms * MS).command
    np.testing.assert_array_equal(command.velocities[-1], 0.0)


def test_velocities_are_central_differences_of_an_even_motion(kinematics):
    controller = ChunkController(kinematics, ControlConfig(**UNLIMITED))
    command = controller.command(repeated(), HOME, STAMP).command
    middle = command.positions[2:] - command.positions[:-2]
    moving = np.abs(middle).min(axis=0) > 1e-2
    assert moving.any()
    np.testing.assert_allclose(
        command.velocities[1:-1, moving], (middle / 0.4)[:, moving], rtol=1e-6
    )


@settings(max_examples=40)
@given(
    arrays(np.float64, (8, 7), elements=st.floats(-0.3, 0.3)),
    st.integers(0, 800),
    st.floats(0.2, 3.0),
)
def test_no_joint_exceeds_its_velocity_or_range_at_any_time(kinematics, actions, age_ms, limit):
    controller = ChunkController(kinematics, ControlConfig(max_joint_velocity=limit))
    now_ns = STAMP + age_ms * MS
    result = controller.command(chunk_of(*actions), HOME, now_ns)
    if result.command is None:
        assert result.reason is HoldReason.UNREACHABLE
        return
    trajectory = sampled(result.command, HOME, now_ns)
    bound = np.minimum(limit, kinematics.velocity_limits) * (1 + 1e-6) + 1e-9
    for time_ns in range(now_ns, int(trajectory.times_ns[-1]), 7 * MS):
        position, velocity = trajectory.sample(time_ns)
        assert (np.abs(velocity) <= bound).all()
        assert (position >= kinematics.lower - 1e-9).all()
        assert (position <= kinematics.upper + 1e-9).all()


def test_the_next_command_goes_on_from_where_the_last_one_leads(kinematics):
    """A plan that agrees with the one before does not slow the arm down or jerk it."""
    controller = ChunkController(kinematics, ControlConfig(**UNLIMITED))
    first = controller.command(repeated(), HOME, STAMP).command
    running = sampled(first, HOME, STAMP)
    second_stamp = STAMP + 400 * MS
    observed, _ = running.sample(second_stamp)
    now_ns = second_stamp + 100 * MS
    second = controller.command(repeated(stamp_ns=second_stamp), observed, now_ns).command
    due_ns = second.stamp_ns + round(second.times[0] * 1e9)
    expected, expected_velocity = running.sample(due_ns)
    np.testing.assert_allclose(second.positions[0], expected, atol=2e-3)
    np.testing.assert_allclose(second.velocities[0], expected_velocity, atol=0.05)


@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_a_chunk_that_is_not_finite_is_refused_whole(controller, value):
    rows = np.array([DOWN] * 8)
    rows[7, 2] = value
    result = controller.command(chunk_of(*rows), HOME, STAMP)
    assert result.command is None
    assert result.reason is HoldReason.NON_FINITE
    assert '[7, 2]' in result.detail
    assert controller.counters['non_finite'] == 1


@pytest.mark.parametrize(
    ('chunk', 'reason', 'detail'),
    [
        (chunk_of([0.0] * 6), HoldReason.BAD_CHUNK, 'expected (horizon, 7)'),
        (repeated(action_space='joints'), HoldReason.BAD_CHUNK, 'action space is "joints"'),
        (repeated(step_duration=0.0), HoldReason.BAD_CHUNK, 'step duration'),
        (repeated(step_duration=np.nan), HoldReason.BAD_CHUNK, 'step duration'),
        (repeated(anchor=np.full((4, 4), np.nan)), HoldReason.BAD_CHUNK, 'anchor'),
    ],
)
def test_a_chunk_of_another_kind_is_refused(controller, chunk, reason, detail):
    result = controller.command(chunk, HOME, STAMP)
    assert result.command is None
    assert result.reason is reason
    assert detail in result.detail


@pytest.mark.parametrize('joints', [np.zeros(5), np.full(6, np.nan)])
def test_unusable_joint_positions_hold_the_arm(controller, joints):
    result = controller.command(repeated(), joints, STAMP)
    assert result.command is None
    assert result.reason is HoldReason.NO_JOINT_STATE


def test_a_pose_far_out_of_reach_holds_the_arm(kinematics):
    config = ControlConfig(max_step_translation=1.0, workspace_max=(9.0, 9.0, 9.0))
    controller = ChunkController(kinematics, config)
    result = controller.command(repeated((0.9, 0, 0, 0, 0, 0, 1)), HOME, STAMP)
    assert result.command is None
    assert result.reason is HoldReason.UNREACHABLE
    assert 'out of reach' in result.detail


@pytest.mark.parametrize(
    ('row', 'config', 'intervention'),
    [
        ((0.2, 0, 0, 0, 0, 0, 1), {}, Intervention.STEP_TRANSLATION),
        ((0, 0, 0, 0, 0, 1.0, 1), {}, Intervention.STEP_ROTATION),
        ((0, 0, 0.03, 0, 0, 0, 1), {'workspace_max': (1.0, 1.0, 0.25)}, Intervention.WORKSPACE),
        ((0, 0.04, 0, 0, 0, 0, 1), {'max_joint_velocity': 0.1}, Intervention.JOINT_VELOCITY),
    ],
)
def test_every_change_to_a_command_is_counted_by_name(kinematics, row, config, intervention):
    controller = ChunkController(kinematics, ControlConfig(**config))
    assert controller.command(repeated(), HOME, STAMP).command is not None
    quiet = controller.counters[intervention.value]
    controller.reset()
    assert controller.command(repeated(row), HOME, STAMP).command is not None
    assert controller.counters[intervention.value] > quiet
    assert controller.counters['commands'] == 2


def test_settings_can_be_replaced_between_two_commands(kinematics, controller):
    controller.config = replace(controller.config, workspace_min=(-1.0, -1.0, 0.17))
    command = controller.command(repeated(), HOME, STAMP).command
    # Two centimetres are kept from the floor of the box.
    assert kinematics.fk(command.positions[-1, :6])[2, 3] == pytest.approx(0.19, abs=1e-3)


def grip(*values) -> ActionChunk:
    return chunk_of(*[(0, 0, 0, 0, 0, 0, value) for value in values])


def test_the_gripper_moves_within_its_step_and_nowhere_else(controller):
    config = controller.config
    command = controller.command(grip(1, 1, 0, 0, 0), HOME, STAMP).command
    opened, closed = config.gripper_open, config.gripper_closed
    np.testing.assert_allclose(command.positions[:, 6], [opened] * 2 + [closed] * 3)
    np.testing.assert_array_equal(command.velocities[:, 6], 0.0)
    trajectory = sampled(command, np.append(HOME, opened), STAMP)

    def fingers(age_ms):
        return trajectory.sample(STAMP + age_ms * MS)[0][6]

    assert fingers(400) == pytest.approx(opened)
    assert closed < fingers(500) < opened
    assert fingers(600) == pytest.approx(closed)


def test_the_gripper_closes_in_the_first_step_that_is_left(controller):
    result = controller.command(grip(0, 0, 0), HOME, STAMP + 250 * MS)
    assert result.command.times[0] == pytest.approx(0.4)
    assert result.command.positions[0, 6] == controller.config.gripper_closed


def test_without_a_gripper_joint_its_schedule_is_in_the_result(kinematics):
    controller = ChunkController(kinematics)
    result = controller.command(grip(1, 0), HOME, STAMP)
    assert result.command.positions.shape == (2, 6)
    np.testing.assert_allclose(result.gripper, [0.045, 0.0])


def test_hysteresis_remembers_the_state_across_chunks(kinematics):
    config = ControlConfig(gripper_hysteresis=0.2)
    controller = ChunkController(kinematics, config)
    controller.command(grip(1, 0, 0), HOME, STAMP)
    uncertain = replace(grip(0.6, 0.6), stamp_ns=STAMP + 400 * MS)
    result = controller.command(uncertain, HOME, STAMP + 450 * MS)
    np.testing.assert_allclose(result.gripper, config.gripper_closed)
    controller.reset()
    result = controller.command(uncertain, HOME, STAMP + 450 * MS)
    np.testing.assert_allclose(result.gripper, config.gripper_open)


def test_stop_brakes_along_the_motion_and_keeps_the_grip(controller):
    rows = [(*DOWN[:6], 0.0)] * 8
    moving = sampled(
        controller.command(chunk_of(*rows), HOME, STAMP).command, np.append(HOME, 0.0), STAMP
    )
    now_ns = STAMP + 500 * MS
    position, _ = moving.sample(now_ns)
    ahead, _ = moving.sample(now_ns + 100 * MS)
    stop = controller.stop_command(position[:6], now_ns, duration=0.2)
    assert stop.times.tolist() == [0.2]
    np.testing.assert_array_equal(stop.velocities, 0.0)
    np.testing.assert_allclose(stop.positions[0, :6], ahead[:6], atol=1e-6)
    assert stop.positions[0, 6] == controller.config.gripper_closed


def test_stop_knows_the_velocity_that_a_new_command_took_over(kinematics):
    controller = ChunkController(kinematics, ControlConfig(**UNLIMITED))
    running = sampled(controller.command(repeated(), HOME, STAMP).command, HOME, STAMP)
    now_ns = STAMP + 500 * MS
    observed, _ = running.sample(STAMP + 400 * MS)
    controller.command(repeated(stamp_ns=STAMP + 400 * MS), observed, now_ns)
    position, velocity = running.sample(now_ns)
    assert np.abs(velocity).max() > 0.05
    stop = controller.stop_command(None, now_ns, duration=0.2)
    np.testing.assert_allclose(stop.positions[0], position + 0.1 * velocity, atol=1e-3)


def test_stopping_again_does_not_let_the_arm_sag(controller):
    controller.command(repeated(), HOME, STAMP)
    first = controller.stop_command(HOME, STAMP + 500 * MS)
    second = controller.stop_command(first.positions[0, :6] - 0.05, STAMP + 900 * MS)
    np.testing.assert_array_equal(second.positions, first.positions)


def test_there_is_nothing_to_stop_before_the_first_command(controller):
    assert controller.stop_command(HOME, STAMP) is None
    controller.command(repeated(), HOME, STAMP)
    controller.reset()
    assert controller.stop_command(HOME, STAMP) is None


def test_a_hold_is_one_point_at_rest():
    command = hold_command(['a', 'b'], [0.5, -0.5], STAMP, duration=0.3)
    assert command.names == ('a', 'b')
    assert command.stamp_ns == STAMP
    np.testing.assert_allclose(command.times, [0.3])
    np.testing.assert_allclose(command.positions, [[0.5, -0.5]])
    np.testing.assert_array_equal(command.velocities, [[0.0, 0.0]])
