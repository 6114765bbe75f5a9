"""Actions of SIMPLER's robots against references written step by step."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from efficientvla_ros.control.adaptive_ensemble import AdaptiveEnsemble
from efficientvla_ros.control.simpler import GoogleRobot, WidowX, simpler_robot
from efficientvla_ros.types import InputError

angle = st.floats(-math.pi, math.pi)
openings = st.lists(
    st.one_of(st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.floats(0.0, 1.0)),
    min_size=1,
    max_size=60,
)


def plan(action: list[float], horizon: int = 16) -> np.ndarray:
    """A plan that wants the same action at every step."""
    return np.tile(np.asarray(action, dtype=float), (horizon, 1))


def gripper_plans(values: list[float]) -> np.ndarray:
    """Plans [steps, 16, 7] that all want `values[k]` at step k, so that averaging changes nothing.

    After the last value the last one is kept.
    """
    padded = np.array([*values, *[values[-1]] * 16])
    plans = np.zeros((len(values), 16, 7))
    for step in range(len(values)):
        plans[step, :, 6] = padded[step : step + 16]
    return plans


def sticky_reference(values: list[float]) -> list[float]:
    """The rule of the Google robot's gripper, with a flag and a counter, step by step."""
    previous, on, remembered, counter, out = None, False, 0.0, 0, []
    for current in values:
        if previous is None:
            relative, previous = 0.0, current
        else:
            relative = previous - current
        if abs(relative) > 0.5 and not on:
            on, remembered, previous = True, relative, current
        if on:
            counter += 1
            relative = remembered
        if counter == 10:
            on, remembered, counter = False, 0.0, 0
        out.append(relative)
    return out


def quaternion_about(axis: int, theta: float) -> np.ndarray:
    """Unit quaternion wxyz of a turn about one fixed axis."""
    quaternion = np.zeros(4)
    quaternion[0], quaternion[1 + axis] = math.cos(theta / 2), math.sin(theta / 2)
    return quaternion


def hamilton(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    w = p[0] * q[0] - p[1:] @ q[1:]
    return np.append(w, p[0] * q[1:] + q[0] * p[1:] + np.cross(p[1:], q[1:]))


@pytest.mark.parametrize('robot', [WidowX, GoogleRobot])
@given(roll=angle, pitch=angle, yaw=angle)
def test_the_rotation_is_that_of_the_fixed_axes_euler_angles(robot, roll, pitch, yaw):
    expected = quaternion_about(0, roll)
    for axis, theta in ((1, pitch), (2, yaw)):
        expected = hamilton(quaternion_about(axis, theta), expected)
    vector = robot().step(plan([0, 0, 0, roll, pitch, yaw, 0])).rot_axangle
    length = np.linalg.norm(vector)
    assert length <= math.pi + 1e-9
    found = np.append(math.cos(length / 2), math.sin(length / 2) * vector / max(length, 1e-300))
    assert abs(found @ expected) == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize('robot', [WidowX, GoogleRobot])
def test_a_turn_about_one_axis_keeps_its_angle(robot):
    vector = robot().step(plan([0, 0, 0, 0, 0, -0.3, 0])).rot_axangle
    np.testing.assert_allclose(vector, [0, 0, -0.3], atol=1e-12)


@pytest.mark.parametrize(('robot', 'window'), [(WidowX, 7), (GoogleRobot, 2)])
def test_translations_are_averaged_over_the_robots_window(robot, window):
    plans = np.random.default_rng(1).normal(scale=0.02, size=(12, 16, 7))
    made, ensemble = robot(), AdaptiveEnsemble(window, alpha=0.1)
    for chunk in plans:
        np.testing.assert_array_equal(made.step(chunk).world_vector, ensemble.step(chunk)[:3])


@given(openings)
def test_widowx_opens_above_one_half_of_the_averaged_value(values):
    robot, ensemble = WidowX(), AdaptiveEnsemble(7)
    for chunk in gripper_plans(values):
        assert robot.step(chunk).gripper.tolist() == [1.0 if ensemble.step(chunk)[6] > 0.5 else -1]


def test_widowx_closes_at_exactly_one_half():
    assert WidowX().step(plan([0, 0, 0, 0, 0, 0, 0.5])).gripper.tolist() == [-1.0]


@given(openings)
def test_the_google_robots_gripper_follows_the_sticky_rule(values):
    robot, ensemble = GoogleRobot(), AdaptiveEnsemble(2)
    plans = gripper_plans(values)
    seen = [robot.step(chunk).gripper[0] for chunk in plans]
    np.testing.assert_array_equal(seen, sticky_reference([ensemble.step(c)[6] for c in plans]))


def test_a_closing_gripper_is_told_so_for_ten_steps_and_then_left_alone():
    robot = GoogleRobot()
    seen = [robot.step(chunk).gripper[0] for chunk in gripper_plans([1.0] * 2 + [0.0] * 14)]
    np.testing.assert_allclose(seen, [0.0] * 2 + [1.0] * 10 + [0.0] * 4, atol=1e-12)


def test_a_change_in_small_steps_is_noticed():
    # The reference point stays until it triggers; SIMPLER's own rule would never see this.
    robot = GoogleRobot()
    values = [1.0, 0.8, 0.6, 0.4, 0.2, 0.2]
    seen = [robot.step(chunk).gripper[0] for chunk in gripper_plans(values)]
    np.testing.assert_allclose(seen, [0.0, 0.2, 0.4, 0.6, 0.6, 0.6], atol=1e-12)


def test_opening_again_while_closing_waits_for_the_end_of_the_ten_steps():
    robot = GoogleRobot()
    values = [1.0] + [0.0] * 3 + [1.0] * 20
    seen = [robot.step(chunk).gripper[0] for chunk in gripper_plans(values)]
    expected = [0.0] + [1.0] * 10 + [-1.0] * 10 + [0.0] * 3
    np.testing.assert_allclose(seen, expected, atol=1e-12)


@pytest.mark.parametrize('robot', [WidowX, GoogleRobot])
def test_a_reset_starts_like_a_new_robot(robot):
    plans = np.random.default_rng(4).uniform(-1, 1, size=(30, 16, 7))
    used, fresh = robot(), robot()
    for chunk in plans[:15]:
        used.step(chunk)
    used.reset()
    for chunk in plans[15:]:
        first, second = used.step(chunk), fresh.step(chunk)
        for name in first.keys():  # noqa: SIM118
            np.testing.assert_array_equal(first[name], second[name])


def test_an_action_reads_like_the_dictionary_that_simpler_wants():
    action = WidowX().step(plan([0.1, 0.2, 0.3, 0, 0, 0, 1]))
    shapes = {name: value.shape for name, value in dict(action).items()}
    assert shapes == {
        'world_vector': (3,), 'rot_axangle': (3,), 'gripper': (1,), 'terminate_episode': (1,),
    }  # fmt: skip
    assert action['terminate_episode'].tolist() == [0.0]
    with pytest.raises(KeyError, match='arm'):
        action['arm']


def test_robots_by_name_bring_their_published_settings():
    robot = simpler_robot('widowx')
    assert (robot.unnorm_key, robot.ensemble_window, robot.control_rate) == ('bridge_orig', 7, 5.0)
    robot = simpler_robot('google_robot')
    found = (robot.unnorm_key, robot.ensemble_window, robot.control_rate)
    assert found == ('fractal20220817_data', 2, 3.0)
    with pytest.raises(InputError, match="'panda' is unknown, expected widowx or google_robot"):
        simpler_robot('panda')


@pytest.mark.parametrize('robot', [WidowX, GoogleRobot])
def test_a_plan_that_is_not_finite_changes_nothing(robot):
    used, untouched = robot(), robot()
    good = np.random.default_rng(2).uniform(-1, 1, size=(2, 16, 7))
    used.step(good[0])
    untouched.step(good[0])
    with pytest.raises(InputError, match='not finite'):
        used.step(plan([0, 0, 0, 0, 0, 0, math.inf]))
    np.testing.assert_array_equal(used.step(good[1]).gripper, untouched.step(good[1]).gripper)
