"""Following a reference within limits: on it where it can be, straight, to rest at its end."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from efficientvla_ros.control.joint_motion import joint_motion
from efficientvla_ros.control.motion_limits import MotionLimits
from efficientvla_ros.control.reasons import Intervention
from efficientvla_ros.control.trajectory import Trajectory

DUE_NS = 200_000_000 * np.arange(1, 9)
WAY = np.array([1.0, 0.6, -0.4, 0.2, 0.05, -0.8])
STILL = np.zeros(6)


def limits(acceleration: float, velocity: float = 2.0, reach: float = 3.0) -> MotionLimits:
    ones = np.ones(6)
    return MotionLimits(-reach * ones, reach * ones, velocity * ones, acceleration * ones)


def even(step: float = 0.08) -> np.ndarray:
    return step * np.outer(np.arange(1, 9), WAY)


def test_a_motion_within_the_limits_is_left_as_it_is():
    motion, counts = joint_motion(STILL, STILL, 0, DUE_NS, even(), limits(10.0))
    np.testing.assert_array_equal(motion.times_ns[1:], DUE_NS)
    np.testing.assert_array_equal(motion.positions[1:], even())
    assert not any(counts.values())


@pytest.mark.parametrize('acceleration', [2.0, 4.0, 6.0])
def test_what_is_behind_is_made_up_for_and_the_end_is_reached_at_rest(acceleration):
    motion, counts = joint_motion(STILL, STILL, 0, DUE_NS, even(), limits(acceleration))
    np.testing.assert_allclose(motion.sample_all(DUE_NS[2:4])[0], even()[2:4], atol=5e-3)
    np.testing.assert_allclose(motion.positions[-1], even()[-1], atol=1e-5)
    np.testing.assert_array_equal(motion.velocities[-1], 0.0)
    assert motion.times_ns[-1] - DUE_NS[-1] <= 100_000_000
    assert counts[Intervention.JOINT_ACCELERATION] > 0
    assert not counts[Intervention.JOINT_VELOCITY]


@pytest.mark.parametrize('acceleration', [2.0, 4.0])
def test_joints_that_are_limited_stay_together_on_their_way(acceleration):
    motion, _ = joint_motion(STILL, STILL, 0, DUE_NS, even(), limits(acceleration))
    along = motion.positions @ WAY / (WAY @ WAY)
    aside = np.abs(motion.positions - np.outer(along, WAY)).max()
    assert aside < 0.03 * np.abs(even()[-1]).max()


@settings(max_examples=60)
@given(
    arrays(np.float64, (8, 6), elements=st.floats(-1.0, 1.0)),
    arrays(np.float64, 6, elements=st.floats(-0.9, 0.9)),
    st.floats(0.5, 30.0),
)
def test_any_waypoints_give_a_motion_within_the_limits(waypoints, velocity, acceleration):
    within = limits(acceleration, 1.0)
    motion, _ = joint_motion(STILL, velocity, 0, DUE_NS, waypoints, within)
    assert within.broken_by(motion) == (False, False, False)
    np.testing.assert_array_equal(motion.velocities[0], velocity)
    np.testing.assert_array_equal(motion.velocities[-1], 0.0)
    assert len(motion.times_ns) < 1100  # the tail ends


def dense(trajectory: Trajectory) -> tuple[np.ndarray, np.ndarray]:
    return trajectory.sample_all(np.arange(0, int(trajectory.times_ns[-1]), 1_000_000))


@settings(max_examples=60)
@given(
    arrays(np.float64, (4, 2), elements=st.floats(-1.0, 1.0)),
    arrays(np.float64, (4, 2), elements=st.floats(-3.0, 3.0)),
)
def test_the_check_of_cubics_sees_what_dense_samples_show(positions, velocities):
    times_ns = np.array([0, 100, 350, 900]) * 1_000_000
    trajectory = Trajectory(times_ns, positions, velocities)
    found, speeds = dense(trajectory)
    found = np.vstack([found, positions])
    ones = np.ones(2)
    low, high = found.min(), found.max()
    fastest = max(np.abs(speeds).max(), np.abs(velocities).max())
    for slack, broken in ((0.01, False), (-0.01, True)):
        near = MotionLimits((low - slack) * ones, (high + slack) * ones, 99 * ones, 1e9 * ones)
        assert near.broken_by(trajectory)[0] is broken
        near = MotionLimits(-9 * ones, 9 * ones, (fastest + slack) * ones, 1e9 * ones)
        assert near.broken_by(trajectory)[1] is broken


def test_a_joint_outside_its_range_comes_back_and_goes_no_further_out():
    start = np.array([3.1, 0, 0, 0, 0, 0])
    velocity = np.array([0.2, 0, 0, 0, 0, 0])
    goal = np.tile([2.9, 0, 0, 0, 0, 0], (8, 1))
    motion, _ = joint_motion(start, velocity, 0, DUE_NS, goal, limits(2.0))
    assert dense(motion)[0][:, 0].max() <= 3.1 + 0.2**2 / 4.0 + 1e-6
    assert motion.positions[-1, 0] == pytest.approx(2.9, abs=1e-5)
