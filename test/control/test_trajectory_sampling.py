"""Lines and cubics through waypoints, and the velocities that go with them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from efficientvla_ros.control.trajectory import Trajectory, waypoint_velocities

NS = 1_000_000_000
waypoints = arrays(np.float64, (6, 2), elements=st.floats(-2, 2))
gaps = arrays(np.float64, 6, elements=st.floats(0.05, 0.5))


def cubic(times: np.ndarray, positions: np.ndarray) -> Trajectory:
    times_ns = np.round(times * NS).astype(np.int64)
    return Trajectory(times_ns, positions, waypoint_velocities(times, positions))


@given(waypoints, gaps)
def test_a_trajectory_goes_through_its_waypoints_and_stops_at_the_last(positions, gap):
    trajectory = cubic(np.cumsum(gap), positions)
    for time_ns, position, velocity in zip(trajectory.times_ns, positions, trajectory.velocities):
        at, speed = trajectory.sample(int(time_ns))
        np.testing.assert_allclose(at, position, atol=1e-9)
        np.testing.assert_allclose(speed, velocity, atol=1e-6)
    at, speed = trajectory.sample(int(trajectory.times_ns[-1]) + 5 * NS)
    np.testing.assert_array_equal(at, positions[-1])
    np.testing.assert_array_equal(speed, 0.0)


@given(waypoints, gaps)
def test_no_joint_leaves_the_range_between_two_waypoints(positions, gap):
    trajectory = cubic(np.cumsum(gap), positions)
    for segment in range(5):
        start, end = trajectory.times_ns[segment : segment + 2]
        low = positions[segment : segment + 2].min(axis=0)
        high = positions[segment : segment + 2].max(axis=0)
        for now_ns in np.linspace(start, end, 23).astype(np.int64):
            at, _ = trajectory.sample(int(now_ns))
            assert (at >= low - 1e-9).all() and (at <= high + 1e-9).all()


@given(waypoints, gaps, st.floats(0.01, 0.99))
def test_the_velocity_is_the_derivative_of_the_position(positions, gap, fraction):
    trajectory = cubic(np.cumsum(gap), positions)
    start, end = trajectory.times_ns[[2, 3]]
    now_ns = int(start + fraction * (end - start))
    step = 20_000
    before, _ = trajectory.sample(now_ns - step)
    after, _ = trajectory.sample(now_ns + step)
    _, velocity = trajectory.sample(now_ns)
    np.testing.assert_allclose((after - before) / (2e-9 * step), velocity, atol=2e-3, rtol=1e-3)


def test_without_velocities_waypoints_are_joined_by_straight_lines():
    trajectory = Trajectory(np.array([0, NS, 3 * NS]), np.array([[0.0], [1.0], [-1.0]]))
    at, velocity = trajectory.sample(NS // 4)
    np.testing.assert_allclose([at[0], velocity[0]], [0.25, 1.0])
    at, velocity = trajectory.sample(2 * NS)
    np.testing.assert_allclose([at[0], velocity[0]], [0.0, -1.0])


def test_before_the_first_waypoint_it_is_held():
    trajectory = Trajectory(np.array([NS, 2 * NS]), np.array([[3.0], [4.0]]))
    at, velocity = trajectory.sample(0)
    np.testing.assert_allclose([at[0], velocity[0]], [3.0, 0.0])


def test_velocities_are_central_differences_where_the_motion_is_even():
    times = np.array([0.0, 0.2, 0.4, 0.6])
    velocities = waypoint_velocities(times, np.array([[0.0], [0.1], [0.2], [0.3]]))
    np.testing.assert_allclose(velocities[:, 0], [0.0, 0.5, 0.5, 0.0])


def test_a_joint_that_turns_back_has_zero_velocity_at_the_turning_point():
    times = np.array([0.0, 0.2, 0.4, 0.6])
    velocities = waypoint_velocities(times, np.array([[0.0], [0.1], [0.0], [0.0]]))
    np.testing.assert_array_equal(velocities, 0.0)


@pytest.mark.parametrize('points', [1, 2, 5])
@pytest.mark.parametrize('cubic', [True, False])
def test_many_times_at_once_are_sampled_like_one_by_one(points, cubic):
    rng = np.random.default_rng(points)
    times_ns = 1_000_000_000 + np.cumsum(rng.integers(1, 10**9, points))
    velocities = rng.normal(size=(points, 3)) if cubic else None
    trajectory = Trajectory(times_ns, rng.normal(size=(points, 3)), velocities)
    asked = np.concatenate([rng.integers(0, times_ns[-1] + 10**9, 50), times_ns])
    positions, speeds = trajectory.sample_all(asked)
    for time_ns, position, speed in zip(asked, positions, speeds, strict=True):
        expected, expected_speed = trajectory.sample(int(time_ns))
        np.testing.assert_array_equal(position, expected)
        np.testing.assert_array_equal(speed, expected_speed)
