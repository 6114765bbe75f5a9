"""Success predicates: also what is not a success, and why."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from efficientvla_ros.simulation.arm import FINGER_OPEN
from efficientvla_ros.simulation.cabinet import FLOOR, TRAVEL, Cabinet
from efficientvla_ros.simulation.goals import Goal
from efficientvla_ros.simulation.objects import OBJECT_MODELS, PLATE_HEIGHT
from efficientvla_ros.simulation.success import SuccessMonitor
from efficientvla_ros.simulation.table_state import TableState
from efficientvla_ros.simulation.tasks import Episode
from efficientvla_ros.types import InputError

PLACES = {'apple': (0.30, 0.10), 'cube': (0.35, -0.10), 'cup': (0.25, -0.02)}
AWAY = (0.26, 0.0, 0.20)


def _episode(task: str, reference: str = '', **changes) -> Episode:
    target = 'drawer' if task in ('open_drawer', 'close_drawer') else 'apple'
    others = tuple(name for name in PLACES if name not in (target, reference))
    places = dict(PLACES)
    if reference == 'plate':
        places['plate'] = (0.30, 0.0)
    return Episode(task, 0, target, others, places, reference=reference, **changes)


class Table:
    """Looks of a monitor at a table that the test arranges."""

    def __init__(self, episode: Episode):
        self.monitor = SuccessMonitor(episode)
        objects = {
            name: np.array([*place, OBJECT_MODELS[name].rest_height])
            for name, place in PLACES.items()
        }
        plate = np.array([0.30, 0.0, PLATE_HEIGHT / 2]) if episode.reference == 'plate' else None
        self.state = TableState(
            np.array(AWAY), FINGER_OPEN, objects, plate, episode.cabinet, {'apple': 0.0}
        )

    def put(self, name: str, x: float, y: float, lift: float = 0.0) -> None:
        self.state.objects[name] = np.array([x, y, OBJECT_MODELS[name].rest_height + lift])

    def grip(self, name: str) -> None:
        self.state.tcp, self.state.opening = self.state.objects[name].copy(), 0.028

    def let_go(self) -> None:
        self.state.tcp, self.state.opening = np.array(AWAY), FINGER_OPEN

    def look(self, count: int = 1) -> str | None:
        for _ in range(count):
            outcome = self.monitor.update(self.state.objects, self.state)
        return outcome


def test_an_object_on_the_plate_counts_once_the_gripper_has_let_go():
    table = Table(_episode('place_plate', 'plate'))
    table.put('apple', 0.31, 0.01, PLATE_HEIGHT)
    table.grip('apple')
    assert table.look(4) is None
    table.let_go()
    assert table.look() is None
    assert table.look() == 'success'


@pytest.mark.parametrize('place', [(0.30, 0.08), (0.355, 0.0)])
def test_an_object_beside_the_plate_is_in_the_wrong_place(place):
    table = Table(_episode('place_plate', 'plate'))
    table.put('apple', *place, 0.05)
    table.grip('apple')
    table.look()
    table.put('apple', *place, 0.030)
    table.grip('apple')
    table.look()
    table.put('apple', *place)
    table.let_go()
    assert table.look(3) is None
    assert table.look() == 'wrong_place'


def test_a_fall_from_the_gripper_is_dropped():
    table = Table(_episode('place_plate', 'plate'))
    table.put('apple', 0.30, 0.10, 0.10)
    table.grip('apple')
    table.look()
    table.put('apple', 0.30, 0.10)
    table.let_go()
    assert table.look() == 'dropped'


def test_a_toppled_object_is_dropped():
    table = Table(_episode('place_plate', 'plate'))
    table.state.tilts['apple'] = 1.5
    assert table.look() == 'dropped'


@pytest.mark.parametrize('task', ['place_plate', 'open_drawer'])
def test_another_object_lifted_is_the_wrong_one(task):
    cabinet = Cabinet(0.2, 0.2)
    table = Table(_episode(task, 'plate' if task == 'place_plate' else '', cabinet=cabinet))
    table.put('cube', 0.35, -0.10, 0.07)
    assert table.look() is None
    assert table.look() == 'wrong_object'
    assert table.monitor.lifted_object == 'cube'


def test_lifting_the_target_is_no_success_of_placing():
    table = Table(_episode('place_plate', 'plate'))
    table.put('apple', 0.30, 0.10, 0.10)
    table.grip('apple')
    assert table.look(20) is None


def test_what_was_in_the_hand_at_the_start_may_be_set_down():
    table = Table(_episode('place_plate', 'plate', held='cube'))
    table.put('cube', 0.35, -0.10, 0.10)
    assert table.look(5) is None
    table.put('cube', 0.35, -0.10)
    table.look()
    table.put('cube', 0.35, -0.10, 0.10)
    assert table.look(2) == 'wrong_object'


def test_near_the_reference_is_success_near_another_is_not():
    table = Table(_episode('move_near', 'cube'))
    table.put('apple', 0.35, -0.02)
    assert table.look(2) == 'success'
    table = Table(_episode('move_near', 'cube'))
    table.put('apple', 0.30, 0.10, 0.05)
    table.grip('apple')
    table.look()
    table.put('apple', 0.25, 0.06, 0.02)
    table.grip('apple')
    table.look()
    table.put('apple', 0.25, 0.06)
    table.let_go()
    assert table.look(4) == 'wrong_place'


def test_between_two_the_nearer_one_counts():
    table = Table(_episode('move_near', 'cube'))
    table.put('cup', 0.35, 0.06)
    table.put('apple', 0.35, -0.012)  # 4.4 cm of gap to the cube, 1.2 cm to the cup
    assert table.look(3) is None


def test_an_apple_in_the_drawer_is_success_on_its_rim_or_beside_it_is_not():
    cabinet = Cabinet(0.20, 0.17, 0.10)
    table = Table(_episode('place_drawer', 'drawer', cabinet=cabinet))
    table.put('apple', *cabinet.middle, FLOOR)
    assert table.look(2) == 'success'
    for y, lift in ((0.17 - 0.075, 0.0), (0.17, 0.05)):
        table = Table(_episode('place_drawer', 'drawer', cabinet=cabinet))
        table.put('apple', cabinet.middle[0], y, lift)
        assert table.look(3) is None


def _drawer(task: str, openings: list[float]) -> str | None:
    table = Table(_episode(task, cabinet=Cabinet(0.2, 0.17, openings[0])))
    for opening in openings:
        table.state.cabinet = table.state.cabinet.at(opening)
        outcome = table.look()
    return outcome


def test_the_drawer_has_to_be_open_or_closed_for_two_looks():
    assert _drawer('open_drawer', [0.0, 0.05, 0.08, 0.095]) is None
    assert _drawer('open_drawer', [0.0, 0.05, 0.095, 0.095]) == 'success'
    assert _drawer('close_drawer', [0.10, 0.05, 0.02, 0.02, 0.02]) is None
    assert _drawer('close_drawer', [TRAVEL, 0.05, 0.005, 0.0]) == 'success'


def test_the_other_way_is_the_wrong_direction():
    assert _drawer('open_drawer', [0.035, 0.01, 0.0]) == 'wrong_direction'
    assert _drawer('close_drawer', [0.06, 0.08, 0.095]) == 'wrong_direction'
    assert _drawer('open_drawer', [0.0, 0.06, 0.02]) == 'wrong_direction'
    assert _drawer('open_drawer', [0.03, 0.02, 0.04]) is None


@pytest.mark.parametrize(('task', 'sign'), [('open_drawer', -1), ('close_drawer', 1)])
def test_what_a_hand_from_outside_does_to_the_drawer_is_not_the_arms_fault(task, sign):
    table = Table(_episode(task, cabinet=Cabinet(0.2, 0.17, 0.06)))
    for shift in (0.0, 0.02, 0.04):
        table.state.cabinet = table.state.cabinet.at(0.06 + sign * shift)
        table.state.drawer_shift = sign * shift
        assert table.look() is None
    table.state.cabinet = table.state.cabinet.at(0.06 + sign * 0.075)  # 35 mm of its own
    assert table.look() == 'wrong_direction'


def test_goals_change_in_mid_episode_and_absent_things_are_refused():
    table = Table(_episode('place_plate', 'plate'))
    table.monitor.set_target('cube')
    assert table.monitor.goal == Goal('place_plate', 'cube', 'plate')
    table.monitor.set_goal(Goal('move_near', 'cup', 'cube'))
    table.put('cup', 0.28, -0.10)
    assert table.look(2) == 'success'
    table = Table(_episode('place_plate', 'plate'))
    for goal in (Goal('open_drawer'), Goal('pick', 'orange')):
        with pytest.raises(InputError, match='is not on the table, expected one of: apple'):
            table.monitor.set_goal(goal)


def test_time_runs_out():
    table = Table(replace(_episode('place_plate', 'plate'), max_steps=5))
    assert table.look(4) is None and table.look() == 'timeout'
