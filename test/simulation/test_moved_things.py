"""The setting `dynamic`: things move by what the episode says, and never against the hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from efficientvla_ros.control.kinematics import ArmKinematics
from efficientvla_ros.simulation.arm import (
    ARM_JOINTS,
    FINGER_OPEN,
    HOME_POSITIONS,
    TCP_FRAME,
    arm_urdf,
)
from efficientvla_ros.simulation.tabletop import TabletopSim
from efficientvla_ros.simulation.tasks import sample_episode
from efficientvla_ros.simulation.variation import Motion


@pytest.fixture(scope='module')
def sim():
    with TabletopSim(32, 32) as sim:
        yield sim


def _run(sim, episode, seconds: float = 2.5):
    sim.reset(episode)
    before = sim.table_state()
    sim.step(round(seconds / sim.timestep))
    return before, sim.table_state()


@pytest.mark.parametrize('task', ['pick', 'move_near', 'place_plate', 'place_drawer'])
def test_objects_arrive_where_they_are_moved_to_and_stand(sim, task):
    episode = sample_episode(task, 4, setting='dynamic')
    (motion,) = episode.motions
    before, after = _run(sim, episode)
    places = [{**state.objects, 'plate': state.plate} for state in (before, after)]
    moved = places[1][motion.name] - places[0][motion.name]
    np.testing.assert_allclose(moved[:2], motion.displacement, atol=0.004)
    assert abs(moved[2]) < 0.002
    for name in set(episode.objects) - {motion.name}:
        np.testing.assert_allclose(places[1][name], places[0][name], atol=0.002)


def test_the_drawer_slides(sim):
    episode = sample_episode('close_drawer', 4, setting='dynamic')
    before, after = _run(sim, episode)
    slid = after.cabinet.opening - before.cabinet.opening
    assert slid == pytest.approx(episode.motions[0].displacement[0], abs=0.003)
    assert after.drawer_shift == pytest.approx(slid, abs=0.003)


def _start_above_the_handle(episode, height: float):
    kinematics = ArmKinematics(arm_urdf(), ARM_JOINTS, TCP_FRAME)
    home = np.array(HOME_POSITIONS[:-1])
    pose = kinematics.fk(home)
    pose[:3, 3] = [*episode.cabinet.handle[:2], height]
    return replace(episode, start_positions=(*kinematics.ik(pose, home).q, FINGER_OPEN))


@pytest.mark.parametrize(('height', 'moves'), [(0.13, True), (0.04, False)])
def test_the_drawer_slides_under_a_hand_that_is_above_it_but_not_in_one(sim, height, moves):
    episode = sample_episode('close_drawer', 4, setting='dynamic')
    before, after = _run(sim, _start_above_the_handle(episode, height))
    slid = abs(after.cabinet.opening - before.cabinet.opening)
    assert slid > 0.012 if moves else slid < 0.002


def test_nothing_moves_in_the_other_settings(sim):
    before, after = _run(sim, sample_episode('place_drawer', 4))
    assert after.cabinet.opening == pytest.approx(before.cabinet.opening, abs=1e-3)
    for name, place in before.objects.items():
        np.testing.assert_allclose(after.objects[name], place, atol=0.002)


def test_what_is_in_the_hand_is_not_moved(sim):
    episode = sample_episode('place_plate', 4)
    name = episode.target
    fingers = (*episode.start_positions[:-1], 0.012)
    episode = replace(
        episode, held=name, start_positions=fingers, motions=(Motion(name, 0.1, 0.5, (0.0, 0.08)),)
    )
    before, after = _run(sim, episode, 1.0)
    assert before.grips(name) and after.grips(name)
    np.testing.assert_allclose(after.objects[name], before.objects[name], atol=0.006)
