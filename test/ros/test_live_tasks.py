"""Every task and setting behind the simulator node, without a node."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip('rclpy')
from efficientvla_ros.evaluation.closed_loop import make_controller
from efficientvla_ros.ros.parameters.tabletop_sim import TABLE
from efficientvla_ros.ros.simulator.live_tabletop import LiveTabletop
from efficientvla_ros.simulation.expert import plan
from efficientvla_ros.simulation.goals import TASKS, parse_goal
from efficientvla_ros.simulation.tabletop import TabletopSim
from efficientvla_ros.types import ActionChunk, InputError

START = 5_000_000_000
_SLOTS_PER_PLAN = 30


@pytest.fixture(scope='module')
def sim():
    with TabletopSim(32, 32) as sim:
        yield sim


def _run(world: LiveTabletop, sim: TabletopSim):
    """The expert does what the instruction in force says, until the episode ends."""
    controller = make_controller()
    for slot in range(2000):
        if slot % _SLOTS_PER_PLAN == 0:
            actions = plan(sim.table_state(), parse_goal(world.instruction), 8)
            chunk = ActionChunk(actions, 0.2, world.time_ns, '', 0)
            command = controller.command(chunk, sim.joint_positions()[:-1], world.time_ns).command
            accepted, reason = world.command(
                command.names,
                command.stamp_ns,
                command.times,
                command.positions,
                command.velocities,
            )
            assert accepted, reason
        end = world.advance()
        if end is not None:
            return end
    raise AssertionError('the episode does not end')


def test_all_tasks_take_turns_and_succeed(sim):
    world = LiveTabletop(sim, 'all', 10, START)
    ends = []
    for _ in TASKS:
        world.start_episode()
        ends.append(_run(world, sim))
    assert [end.episode.task for end in ends] == list(TASKS)
    assert [end.outcome for end in ends] == ['success'] * len(TASKS)


def test_a_repeated_episode_starts_from_the_same_scene(sim):
    world = LiveTabletop(sim, 'all', 10, START, repeat=2)
    scenes, positions = [], []
    for _ in range(4):
        world.start_episode()
        scenes.append(world.episode)
        positions.append(sim.object_positions())
        for _ in range(10):
            world.advance()
    assert scenes[0] == scenes[1] and scenes[2] == scenes[3]
    assert [(scene.task, scene.seed) for scene in scenes[1:3]] == [('pick', 10), ('move_near', 11)]
    for name, place in positions[0].items():
        assert np.array_equal(place, positions[1][name])


def test_a_setting_is_that_of_every_episode(sim):
    world = LiveTabletop(sim, 'place_plate', 20, START, 'dynamic')
    world.start_episode()
    assert world.episode.setting == 'dynamic' and world.episode.motions
    assert _run(world, sim).success
    with pytest.raises(InputError, match='unknown setting "windy"'):
        LiveTabletop(sim, 'pick', 0, START, 'windy')


def test_instructions_may_ask_for_another_task_that_the_scene_allows(sim):
    world = LiveTabletop(sim, 'open_drawer', 30, START)
    world.start_episode()
    name = world.episode.distractors[0]
    assert 'plate' in world.instruct(f'put {name} on plate')
    assert world.instruct(f'place {name} in drawer') == ''
    end = _run(world, sim)
    assert end.changed and end.success and end.lifted_object == ''
    drawer = sim.table_state().cabinet
    assert drawer.contains(sim.object_positions()[name] * np.array([1, 1, 0.5]))


def test_parameters_offer_every_task_and_setting():
    choices = {name: spec.choices for name, spec in TABLE.specs.items()}
    assert choices['task'] == (*TASKS, 'all')
    assert choices['setting'] == ('matching', 'variants', 'dynamic')
