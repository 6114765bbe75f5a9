"""From one command to the next: what is sent along, forgotten, stretched, estimated."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from efficientvla_ros.control.config import ControlConfig
from efficientvla_ros.control.pipeline import ChunkController
from efficientvla_ros.control.reasons import HoldReason, Intervention
from efficientvla_ros.simulation.arm import HOME_POSITIONS
from efficientvla_ros.types import ActionChunk

HOME = np.array(HOME_POSITIONS[:6])
STAMP = 5_000_000_000
MS = 1_000_000
SMOOTH = ControlConfig(max_joint_acceleration=20.0)


def chunk_of(dx: float = 0.01, stamp_ns: int = STAMP, steps: int = 8) -> ActionChunk:
    actions = np.zeros((steps, 7))
    actions[:, 0], actions[:, 6] = dx, 1.0
    return ActionChunk(actions, 0.2, stamp_ns, 'pick', 1)


def controller_of(kinematics, config: ControlConfig = SMOOTH) -> ChunkController:
    return ChunkController(kinematics, config, 'gripper')


def test_what_is_under_way_until_the_switch_over_is_sent_along(kinematics):
    controller = controller_of(kinematics)
    first = controller.command(chunk_of(), HOME, STAMP).command
    now_ns = STAMP + 595 * MS
    second = controller.command(chunk_of(-0.01, STAMP + 500 * MS), HOME, now_ns).command
    times_ms = second.times * 1e3 + 500
    # The old waypoint at 600 ms lies before the switch-over at 615 ms.
    np.testing.assert_allclose(times_ms[:2], [600, 615])
    np.testing.assert_allclose(
        second.positions[0], first.positions[np.isclose(first.times, 0.6)][0]
    )
    assert second.stamp_ns == STAMP + 500 * MS


def test_the_first_command_starts_from_rest_where_the_arm_was_measured(kinematics):
    command = controller_of(kinematics).command(chunk_of(), HOME, STAMP).command
    assert command.times[0] == pytest.approx(0.02)
    np.testing.assert_allclose(command.positions[0, :6], HOME)
    np.testing.assert_array_equal(command.velocities[0], 0.0)


def test_the_lead_grows_with_the_time_that_sending_takes(kinematics):
    controller = controller_of(kinematics)
    for tick in range(6):
        stamp_ns = STAMP + tick * 600 * MS
        result = controller.command(chunk_of(0.0, stamp_ns), HOME, stamp_ns + 80 * MS)
        controller.sent(stamp_ns + 110 * MS)
    assert result.command.times[0] == pytest.approx(0.08 + 0.02 + 0.03)
    assert controller.latency.count == 4
    assert controller.latency.to_command(0.95) == pytest.approx(0.08)
    assert controller.latency.to_send() == pytest.approx(0.03)


def test_steps_due_before_the_command_can_act_are_dropped(kinematics):
    slow, quick = controller_of(kinematics), controller_of(kinematics)
    for tick in range(4):
        stamp_ns = STAMP + tick * 600 * MS
        for controller, delay in ((slow, 150), (quick, 0)):
            controller.counters.clear()
            controller.command(chunk_of(0.0, stamp_ns), HOME, stamp_ns + 80 * MS)
            controller.sent(stamp_ns + (80 + delay) * MS)
    assert slow.counters['step_dropped'] == 1  # 80 + 150 + 20 ms is after the first step
    assert quick.counters['step_dropped'] == 0


@pytest.mark.parametrize('config', [SMOOTH, ControlConfig()])
def test_slow_motion_goes_the_same_way_in_more_time(kinematics, config):
    full = controller_of(kinematics, config).command(chunk_of(), HOME, STAMP).command
    config = replace(config, speed_scale=0.5)
    slow = controller_of(kinematics, config).command(chunk_of(), HOME, STAMP).command
    assert slow.times[-1] == pytest.approx(2 * full.times[-1])
    np.testing.assert_allclose(slow.positions[-1], full.positions[-1], atol=1e-4)
    for time, row in zip(full.times[3:], full.positions[3:], strict=True):
        index = int(np.argmin(np.abs(slow.times - 2 * time)))
        if abs(slow.times[index] - 2 * time) < 1e-9:
            np.testing.assert_allclose(slow.positions[index], row, atol=2e-3)


def test_slow_motion_scales_the_velocity_limit(kinematics):
    config = replace(SMOOTH, speed_scale=0.1, max_joint_velocity=1.0)
    command = controller_of(kinematics, config).command(chunk_of(0.06), HOME, STAMP).command
    assert np.abs(command.velocities).max() <= 0.1 + 1e-9


def test_a_new_instruction_forgets_plans_but_not_the_motion(kinematics):
    config = ControlConfig(execution='temporal_ensemble', max_joint_acceleration=20.0)
    later = chunk_of(-0.01, STAMP + 300 * MS)
    ends = []
    for forgetting in (False, True):
        controller = controller_of(kinematics, config)
        controller.command(chunk_of(), HOME, STAMP)
        if forgetting:
            controller.forget_plans()
        command = controller.command(later, HOME, STAMP + 400 * MS).command
        assert np.abs(command.velocities[0, :6]).max() > 0.01  # goes on from the motion
        ends.append(kinematics.fk(command.positions[-1, :6])[0, 3])
    alone = kinematics.fk(HOME)[0, 3] - 0.08
    assert ends[1] == pytest.approx(alone, abs=1e-3)
    # At 1.6 s after the first stamp both plans are averaged, later only the second is left.
    assert ends[0] == pytest.approx(alone, abs=1e-3)


@pytest.mark.parametrize('interruption', ['forget_plans', 'stop', 'reset'])
def test_an_interruption_clears_what_an_ensemble_remembers(kinematics, interruption):
    config = ControlConfig(execution='temporal_ensemble', ensemble_decay=5.0)
    controller = controller_of(kinematics, config)
    controller.command(chunk_of(0.02), HOME, STAMP)
    if interruption == 'stop':
        controller.stop_command(None, STAMP + 100 * MS)
    else:
        getattr(controller, interruption)()
    command = controller.command(chunk_of(0.0, STAMP + 300 * MS), HOME, STAMP + 310 * MS).command
    reached = kinematics.fk(command.positions[3, :6])
    np.testing.assert_allclose(reached, kinematics.fk(HOME), atol=2e-3)


def test_changing_the_mode_while_running_takes_effect_with_the_next_plan(kinematics):
    controller = controller_of(kinematics, ControlConfig(execution='temporal_ensemble'))
    controller.command(chunk_of(0.02), HOME, STAMP)
    controller.config = ControlConfig()
    command = controller.command(chunk_of(0.0, STAMP + 300 * MS), HOME, STAMP + 310 * MS).command
    np.testing.assert_allclose(command.positions[3, :6], HOME, atol=5e-3)


def test_an_arm_that_does_not_follow_is_commanded_from_where_it_is(kinematics):
    controller = controller_of(kinematics)
    controller.command(chunk_of(0.04), HOME, STAMP)
    stamp_ns = STAMP + 1600 * MS
    elsewhere = HOME + 0.3
    command = controller.command(chunk_of(0.0, stamp_ns), elsewhere, stamp_ns + 50 * MS).command
    np.testing.assert_allclose(command.positions[0, :6], elsewhere)
    assert controller.counters[Intervention.TRACKING_LOST.value] == 1


def test_every_limit_that_acts_is_counted_by_name(kinematics):
    config = ControlConfig(max_joint_acceleration=1.0)
    controller = controller_of(kinematics, config)
    result = controller.command(chunk_of(0.03), HOME, STAMP)
    assert result.reason is HoldReason.NONE
    assert controller.counters['joint_acceleration_limited'] > 0
    assert len(result.gripper) == len(result.command.times)
