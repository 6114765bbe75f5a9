"""Episodes in process: time, commands, instructions."""

from __future__ import annotations

import numpy as np
import pytest

from efficientvla_ros.control.pipeline import hold_command
from efficientvla_ros.simulation.arm import HOME_POSITIONS, JOINT_NAMES
from efficientvla_ros.simulation.environment import TabletopEnvironment
from efficientvla_ros.simulation.success import TIMEOUT
from efficientvla_ros.simulation.tasks import sample_episode
from efficientvla_ros.types import InputError


@pytest.fixture(scope='module')
def environment():
    with TabletopEnvironment(64, 64) as environment:
        yield environment


def _turn(environment, angle: float):
    """A command that turns the waist within one period."""
    positions = np.array(HOME_POSITIONS)
    positions[0] = angle
    return hold_command(JOINT_NAMES, positions, environment.now_ns)


def test_observation_belongs_to_the_episode(environment):
    observation = environment.reset(11)
    assert observation.instruction == sample_episode('pick', 11).instruction
    assert observation.images['camera'].shape == (64, 64, 3)
    assert observation.stamp_ns == environment.now_ns == observation.joint_state.stamp_ns > 0
    np.testing.assert_allclose(observation.joint_state.positions, HOME_POSITIONS, atol=1e-6)


def test_time_advances_by_control_periods(environment):
    environment.reset(0)
    start = environment.now_ns
    environment.act(_turn(environment, 0.1), periods=2)
    assert environment.now_ns - start == 400_000_000
    assert environment.sim.time == pytest.approx(0.4)
    assert environment.steps == 2
    for _ in range(3):
        environment.act(None, periods=1 / 3)
    assert environment.steps == pytest.approx(3, abs=1)


def test_command_is_executed_by_its_due_time(environment):
    environment.reset(0)
    environment.act(_turn(environment, 0.1))
    environment.act(None, periods=0.25)
    assert environment.sim.joint_positions()[0] == pytest.approx(0.1, abs=2e-3)


def test_arm_does_not_move_before_a_late_command_arrives(environment):
    environment.reset(0)
    command = _turn(environment, 0.1)
    environment.act(None, periods=0.5)
    assert abs(environment.sim.joint_positions()[0]) < 1e-4
    environment.act(command, latency=0.08, periods=0.4)
    assert abs(environment.sim.joint_positions()[0]) < 1e-4


def test_command_from_the_past_is_rejected_by_name(environment):
    environment.reset(0)
    command = _turn(environment, 0.1)
    environment.act(None, periods=2)
    environment.act(command)
    assert 'in the past' in environment.rejected
    assert abs(environment.sim.joint_positions()[0]) < 1e-4


def test_instruction_follows_the_target(environment):
    environment.reset(0)
    other = environment.episode.distractors[0]
    environment.set_target(other)
    assert environment.instruction == environment.observe().instruction == f'pick {other}'
    environment.reset(0)
    assert environment.target == environment.episode.target


def test_idle_episode_times_out_and_stays_ended(environment):
    environment.reset(0)
    assert not environment.act(None, periods=100)
    assert environment.outcome == TIMEOUT and environment.steps == 60
    ended = environment.now_ns
    environment.act(None)
    assert environment.now_ns == ended


def test_impossible_latency_is_refused(environment):
    environment.reset(0)
    with pytest.raises(InputError, match=r'latency is 0.3 s, expected 0 .. 0.2 s'):
        environment.act(None, latency=0.3)
