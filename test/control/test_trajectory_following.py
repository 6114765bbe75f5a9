"""Trajectories that replace one another: no jump, and what joint_trajectory_controller would do.

The reference below solves every segment's cubic from its boundary conditions, independently of
the code under test.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from efficientvla_ros.control.trajectory import waypoint_velocities
from efficientvla_ros.control.trajectory_follower import TrajectoryFollower

NS = 1_000_000_000
JOINTS = 2
angles = st.lists(st.floats(-2.0, 2.0), min_size=JOINTS, max_size=JOINTS)


@st.composite
def messages(draw) -> list[tuple[int, np.ndarray, np.ndarray, np.ndarray]]:
    """(arrival ns, times ns, positions, velocities) of plans, some with points already past."""
    result, now = [], NS
    for _ in range(draw(st.integers(1, 5))):
        now += draw(st.integers(1_000_000, 900_000_000))
        count = draw(st.integers(1, 4))
        gaps = draw(st.lists(st.integers(20_000_000, 400_000_000), min_size=count, max_size=count))
        times = now - draw(st.integers(0, 300_000_000)) + np.cumsum(gaps)
        if times[-1] <= now:
            continue
        positions = np.array(draw(st.lists(angles, min_size=count, max_size=count)))
        velocities = waypoint_velocities(times / NS, positions)
        result.append((now, times, positions, velocities))
    return result


def cubic(t0, p0, v0, t1, p1, v1, t):
    """Position and velocity at t of the cubic with these ends; scalars per joint."""
    h, u = t1 - t0, t - t0
    ends = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [1, h, h**2, h**3], [0, 1, 2 * h, 3 * h**2]])
    a = np.linalg.solve(ends, np.stack([p0, v0, p1, v1]))
    return a[0] + u * (a[1] + u * (a[2] + u * a[3])), a[1] + u * (2 * a[2] + 3 * u * a[3])


def reference(plans, start, now):
    """State at a time in ns by following all plans that had arrived by then."""
    knots = [(0.0, np.array(start), np.zeros(JOINTS))]
    for arrival, times, positions, velocities in plans:
        if arrival > now:
            break
        state = at(knots, arrival)
        knots = [(arrival / NS, *state)]
        knots += [(t / NS, p, v) for t, p, v in zip(times, positions, velocities) if t > arrival]
    return at(knots, now)


def at(knots, now):
    t = now / NS
    for left, right in pairwise(knots):
        if left[0] <= t < right[0]:
            return cubic(*left, *right, t)
    return (knots[0] if t < knots[0][0] else knots[-1])[1], np.zeros(JOINTS)


@settings(max_examples=60, deadline=None)
@given(messages(), angles)
def test_what_is_sampled_is_what_the_controller_would_do(plans, start):
    follower, pending = TrajectoryFollower(np.array(start), 0), list(plans)
    last = plans[-1][1][-1] if plans else NS
    for now in range(NS, int(last) + NS // 5, 17_000_003):
        while pending and pending[0][0] <= now:
            arrival, *plan = pending.pop(0)
            assert follower.follow(*plan, arrival) == ''
        position, velocity = follower.sample(now)
        expected = reference(plans, start, now)
        np.testing.assert_allclose(position, expected[0], atol=1e-6)
        np.testing.assert_allclose(velocity, expected[1], atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(messages(), angles)
def test_position_and_velocity_do_not_jump_when_a_plan_replaces_another(plans, start):
    follower = TrajectoryFollower(np.array(start), 0)
    for arrival, *plan in plans:
        before = follower.sample(arrival)
        follower.follow(*plan, arrival)
        after = follower.sample(arrival)
        np.testing.assert_allclose(after[0], before[0], atol=1e-9)
        np.testing.assert_allclose(after[1], before[1], atol=1e-9)


def test_a_plan_that_is_all_past_changes_nothing():
    follower = TrajectoryFollower(np.zeros(1), 0)
    follower.follow(np.array([NS]), np.ones((1, 1)), np.zeros((1, 1)), 0)
    reason = follower.follow(np.array([NS // 4]), -np.ones((1, 1)), np.zeros((1, 1)), NS // 2)
    assert reason == 'all 1 points are in the past, the last by 0.250 s'
    assert follower.end_ns == NS
    assert follower.sample(NS)[0] == 1.0


def test_a_delayed_trajectory_goes_on_where_it_was():
    follower = TrajectoryFollower(np.zeros(1), 0)
    follower.follow(np.array([NS]), np.ones((1, 1)), np.zeros((1, 1)), 0)
    before = follower.sample(NS // 2)
    follower.delay(3 * NS)
    after = follower.sample(NS // 2 + 3 * NS)
    assert (before[0], before[1]) == (after[0], after[1])
    assert follower.end_ns == 4 * NS


def test_the_way_can_begin_elsewhere_with_the_same_velocity():
    follower = TrajectoryFollower(np.zeros(1), 0)
    follower.follow(np.array([NS]), np.ones((1, 1)), np.zeros((1, 1)), 0)
    velocity = follower.sample(NS // 2)[1]
    elsewhere = np.array([0.3])
    follower.follow(np.array([NS]), np.ones((1, 1)), np.zeros((1, 1)), NS // 2, elsewhere)
    assert follower.sample(NS // 2) == (elsewhere, velocity)
