"""The simulation behind the node, without a node: episodes, instructions, time, commands."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip('rclpy')
from sim_harness import GARBAGE, JOINT_NAMES

from efficientvla_ros.ros.simulator.live_tabletop import SLOT_NS, LiveTabletop
from efficientvla_ros.ros.simulator.simulation_messages import trajectory_arrays
from efficientvla_ros.simulation.arm import HOME_POSITIONS
from efficientvla_ros.simulation.tabletop import TabletopSim
from efficientvla_ros.simulation.tasks import MAX_STEPS, OBJECTS
from efficientvla_ros.types import InputError

START = 5_000_000_000
HOME = np.array(HOME_POSITIONS)
ASIDE = HOME + [0.4, 0, 0, 0, 0, 0, 0]
ZEROS = np.zeros((1, 7))


@pytest.fixture(scope='module')
def sim():
    with TabletopSim(32, 32) as sim:
        yield sim


@pytest.fixture
def world(sim):
    return LiveTabletop(sim, 'pick', 100, START)


def run_until_end(world: LiveTabletop):
    for _ in range(2000):
        end = world.advance()
        if end is not None:
            return end
    raise AssertionError('the episode does not end')


def test_time_goes_on_before_during_and_after_episodes(world):
    times = [world.time_ns]
    for _ in range(3):
        world.advance()
        times.append(world.time_ns)
    world.start_episode()
    world.advance()
    times.append(world.time_ns)
    assert np.diff(times) == pytest.approx([SLOT_NS] * 4)


def test_no_episode_runs_before_the_first_start(world):
    assert not world.running
    assert world.advance() is None
    assert 'no episode is running' in world.instruct('pick red can')
    world.start_episode()
    assert world.running
    assert world.index == 0


def test_an_arm_that_does_nothing_times_out_on_the_step_limit(world):
    world.start_episode()
    end = run_until_end(world)
    assert (end.outcome, end.success, end.steps) == ('timeout', False, MAX_STEPS['pick'])
    assert end.duration == pytest.approx(0.2 * MAX_STEPS['pick'])
    assert end.episode.seed == 100
    assert not world.running


def test_episodes_count_up_and_so_do_their_seeds(world):
    for index in range(3):
        cut_short = world.start_episode()
        assert (world.index, world.episode.seed) == (index, 100 + index)
        if index:
            assert (cut_short.index, cut_short.outcome) == (index - 1, 'aborted')
        else:
            assert cut_short is None
        world.advance()


def test_a_new_episode_starts_from_its_own_pose_whatever_was_commanded(world, sim):
    world.start_episode()
    accepted, reason = world.command(JOINT_NAMES, 0, [0.2], [ASIDE], ZEROS)
    assert accepted, reason
    for _ in range(20):
        world.advance()
    assert sim.joint_positions() == pytest.approx(ASIDE, abs=0.02)
    world.start_episode()
    for _ in range(20):
        world.advance()
    assert sim.joint_positions() == pytest.approx(world.episode.start_positions, abs=0.01)


def test_an_instruction_for_another_object_changes_the_target_once(world):
    world.start_episode()
    other = world.episode.distractors[1]
    assert world.instruct(f'pick up the {other}') == ''
    assert world.instruct(f'pick up the {other}') == ''
    assert world.instruction == f'pick up the {other}'
    end = run_until_end(world)
    assert end.changed
    assert end.instruction == f'pick up the {other}'


def test_another_wording_for_the_same_object_is_no_change(world):
    world.start_episode()
    assert world.instruct(f'pick up the {world.episode.target}') == ''
    assert not run_until_end(world).changed


def test_useless_instructions_are_refused_and_change_nothing(world):
    world.start_episode()
    before = world.instruction
    (absent,) = set(OBJECTS) - set(world.episode.objects)
    both = f'pick {world.episode.target} and {world.episode.distractors[0]}'
    for text in ('', 'sing', f'pick {absent}', both, 'x' * 100_000, '\x00\n'):
        refusal = world.instruct(text)
        assert 'ignored' in refusal
        assert len(refusal) < 250
        assert '\n' not in refusal
    assert world.instruction == before
    assert not run_until_end(world).changed


def test_stamps_up_to_the_start_of_the_episode_belong_to_the_one_before(world):
    world.advance()
    world.start_episode()
    start = world.time_ns
    assert world.precedes_episode(start)
    assert not world.precedes_episode(start + 1)
    assert not world.precedes_episode(0), 'a stamp of 0 means now'


def test_after_a_stall_the_arm_stays_where_it_was(world, sim):
    world.start_episode()
    world.command(JOINT_NAMES, 0, [2.0], [ASIDE], None)
    for _ in range(25):
        world.advance()
    before = sim.joint_positions()
    assert before[0] > 0.05
    world.jump_to(world.time_ns + 3_000_000_000)
    for _ in range(25):
        world.advance()
    assert sim.joint_positions() == pytest.approx(before, abs=0.03)
    assert world.time_ns == START + 50 * SLOT_NS + 3_000_000_000


def test_a_stall_does_not_count_as_time_of_the_episode(world):
    world.start_episode()
    world.jump_to(world.time_ns + 60_000_000_000)
    end = run_until_end(world)
    assert end.duration == pytest.approx(0.2 * MAX_STEPS['pick'])


@pytest.mark.parametrize('kind', GARBAGE)
def test_garbage_is_rejected_with_its_reason(world, kind):
    message, expected = GARBAGE[kind]
    world.start_episode()
    try:
        points = trajectory_arrays(message)
    except ValueError as error:
        reason = str(error)
    else:
        accepted, reason = world.command(message.joint_names, 0, *points)
        assert not accepted
    assert expected in reason
    assert '\n' not in reason


def test_unknown_task_is_named(sim):
    with pytest.raises(InputError, match='juggle'):
        LiveTabletop(sim, 'juggle', 0, START)
