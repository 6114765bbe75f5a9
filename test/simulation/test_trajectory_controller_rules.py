"""Every rule that the simulated arm's controller shares with joint_trajectory_controller."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from efficientvla_ros.simulation.trajectory_controller import JointTrajectoryController

NS = 1_000_000_000
NOW = 10 * NS
NAMES = ('a', 'b')


@pytest.fixture
def controller() -> JointTrajectoryController:
    return at_rest()


def at_rest(positions=(0.0, 0.0)) -> JointTrajectoryController:
    controller = JointTrajectoryController(NAMES)
    controller.reset(np.array(positions), NOW)
    return controller


def send(controller, times, positions, velocities=None, *, names=NAMES, stamp=NOW, now=NOW):
    velocities = None if velocities is None else np.array(velocities, dtype=float)
    return controller.accept(
        names, stamp, np.array(times, dtype=float), np.array(positions, dtype=float), velocities,
        now,
    )  # fmt: skip


def position(controller, seconds: float) -> np.ndarray:
    return controller.sample(NOW + round(seconds * NS))[0]


def velocity(controller, seconds: float) -> np.ndarray:
    return controller.sample(NOW + round(seconds * NS))[1]


def test_before_any_message_it_holds(controller):
    controller.reset(np.array([0.3, -0.3]))
    np.testing.assert_allclose(position(controller, 99.0), [0.3, -0.3])
    np.testing.assert_array_equal(velocity(controller, 99.0), 0.0)


def test_positions_alone_are_joined_by_straight_lines(controller):
    assert send(controller, [1, 2], [[1, 2], [3, 2]]) == (True, '')
    np.testing.assert_allclose(position(controller, 0.5), [0.5, 1.0])
    np.testing.assert_allclose(velocity(controller, 0.5), [1.0, 2.0])
    np.testing.assert_allclose(position(controller, 1.25), [1.5, 2.0])


def test_with_velocities_the_motion_is_cubic(controller):
    send(controller, [1], [[1, 0]], [[0, 0]])
    for u in (0.25, 0.5, 0.75):
        np.testing.assert_allclose(position(controller, u)[0], 3 * u**2 - 2 * u**3)
        np.testing.assert_allclose(velocity(controller, u)[0], 6 * u - 6 * u**2)


def test_after_the_last_point_it_holds_there(controller):
    send(controller, [1], [[1, 2]])
    np.testing.assert_allclose(position(controller, 50.0), [1, 2])
    np.testing.assert_array_equal(velocity(controller, 50.0), 0.0)


def test_stamp_zero_means_now(controller):
    send(controller, [1], [[1, 1]], stamp=0)
    np.testing.assert_allclose(position(controller, 0.5), [0.5, 0.5])


def test_times_count_from_the_stamp(controller):
    send(controller, [1], [[1, 1]], stamp=NOW + NS)
    np.testing.assert_allclose(position(controller, 1.0), [0.5, 0.5])


def test_past_points_are_dropped_and_the_arm_goes_to_the_first_one_left(controller):
    stamp = NOW - 3 * NS // 2
    accepted, _ = send(controller, [0.5, 1.0, 2.0], [[9, 9], [8, 8], [1, 1]], stamp=stamp)
    assert accepted
    np.testing.assert_allclose(position(controller, 0.0), [0, 0])
    np.testing.assert_allclose(position(controller, 0.25), [0.5, 0.5])
    np.testing.assert_allclose(position(controller, 0.5), [1, 1])


def test_a_message_whose_points_are_all_past_is_rejected(controller):
    send(controller, [1], [[1, 1]])
    accepted, reason = send(controller, [0.5, 1.0], [[5, 5], [6, 6]], stamp=NOW - 2 * NS)
    assert not accepted
    assert 'all 2 points are in the past, the last by 1.000 s' in reason
    np.testing.assert_allclose(position(controller, 0.5), [0.5, 0.5])


def test_a_new_message_replaces_the_old_one_from_the_current_desired_state(controller):
    send(controller, [1, 2], [[1, 0], [2, 0]])
    send(controller, [1.0], [[0, 3]], stamp=0, now=NOW + NS // 2)
    np.testing.assert_allclose(position(controller, 0.5), [0.5, 0.0])
    np.testing.assert_allclose(position(controller, 1.0), [0.25, 1.5])
    np.testing.assert_allclose(position(controller, 9.0), [0, 3])


@given(st.floats(0.05, 1.9))
def test_a_replacement_with_velocities_has_no_jump_in_position_or_velocity(seconds):
    controller = at_rest()
    send(controller, [1, 2], [[1, 0.5], [2, -1]], [[0.8, 0.1], [0, 0]])
    before = position(controller, seconds), velocity(controller, seconds)
    now = NOW + round(seconds * NS)
    send(controller, [0.4], [[0, 0]], [[0, 0]], stamp=0, now=now)
    np.testing.assert_allclose(position(controller, seconds), before[0], atol=1e-9)
    np.testing.assert_allclose(velocity(controller, seconds), before[1], atol=1e-6)


def test_columns_may_come_in_any_order(controller):
    send(controller, [1], [[1, 2]], names=('b', 'a'))
    np.testing.assert_allclose(position(controller, 1.0), [2, 1])


def test_a_message_without_points_stops_and_holds(controller):
    send(controller, [1], [[1, 1]])
    accepted, _ = send(controller, [], np.zeros((0, 0)), names=(), now=NOW + NS // 2)
    assert accepted
    np.testing.assert_allclose(position(controller, 5.0), [0.5, 0.5])


def test_a_point_due_now_is_not_past(controller):
    accepted, _ = send(controller, [0], [[1, 1]], stamp=0)
    assert accepted
    np.testing.assert_allclose(position(controller, 0.0), [1, 1])


@pytest.mark.parametrize(
    ('message', 'reason'),
    [
        ({'names': ('a',), 'positions': [[1], [2]]}, "joints ['b'] are missing"),
        ({'names': ('a', 'c')}, "unknown joints ['c']"),
        ({'names': ('a', 'b', 'a'), 'positions': [[1] * 3] * 2}, 'twice'),
        ({'positions': [[1, 2]]}, 'positions have shape (1, 2), expected (2, 2)'),
        ({'positions': [[1], [2]]}, 'positions have shape'),
        ({'velocities': [[0, 0]]}, 'velocities have shape (1, 2), expected (2, 2)'),
        ({'times': [1, 1]}, 'not strictly increasing'),
        ({'times': [2, 1]}, 'not strictly increasing'),
        ({'times': [-1, 1]}, 'not strictly increasing from 0'),
        ({'positions': [[1, 2], [np.nan, 0]]}, 'not finite'),
        ({'times': [1, np.inf]}, 'not finite'),
        ({'velocities': [[0, np.nan], [0, 0]]}, 'not finite'),
        ({'velocities': [[0, 0], [0, 0.1]]}, 'velocities of the last point are not zero'),
    ],
)
def test_a_message_that_breaks_a_rule_changes_nothing(controller, message, reason):
    send(controller, [1], [[1, 1]])
    given_message = {'times': [1, 2], 'positions': [[5, 5], [6, 6]], **message}
    accepted, text = send(controller, **given_message)
    assert not accepted
    assert reason in text
    assert '\n' not in text
    np.testing.assert_allclose(position(controller, 0.5), [0.5, 0.5])
