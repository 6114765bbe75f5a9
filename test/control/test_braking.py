"""A stop of several joints that cannot brake together."""

from __future__ import annotations

import numpy as np
import pytest

from efficientvla_ros.control.motion_limits import MotionLimits
from efficientvla_ros.control.stopping import braking
from efficientvla_ros.control.trajectory import Trajectory
from efficientvla_ros.control.under_way import UnderWay

MS = 1_000_000
LIMITS = MotionLimits(np.full(2, -1.0), np.full(2, 1.0), np.full(2, 1.0), np.full(2, 1.1))


@pytest.fixture
def way() -> UnderWay:
    """Joint 0 comes to rest just before its end within 0.19 s, joint 1 goes on at 0.5 rad/s."""
    times = np.array([0, 190, 1000, 1600]) * MS
    positions = np.array([[0.98, -0.5], [0.99805, -0.405], [0.99805, 0.0], [0.99805, 0.15]])
    velocities = np.array([[0.19, 0.5], [0.0, 0.5], [0.0, 0.5], [0.0, 0.0]])
    return UnderWay(Trajectory(times, positions, velocities))


def accelerations(motion: Trajectory) -> np.ndarray:
    times = np.arange(motion.times_ns[0], motion.times_ns[-1], MS)
    return np.diff(motion.sample_all(times)[1], axis=0) / 1e-3


def test_it_goes_on_as_planned_until_it_can_brake_within_all_limits(way):
    stop = braking(way, 0, 0, 0.2, LIMITS, lambda q: True)
    assert len(stop.times_ns) > 2 and not stop.velocities[-1].any()
    assert np.abs(accelerations(stop)).max() <= 1.1
    begin_ns = int(stop.times_ns[-2])
    assert 0 < begin_ns <= 400 * MS
    for time_ns in range(0, begin_ns, 10 * MS):
        for planned, followed in zip(way.sample(time_ns), stop.sample(time_ns), strict=True):
            np.testing.assert_allclose(followed, planned, atol=1e-9)
    assert stop.times_ns[-1] < way.trajectory.times_ns[-1]


def test_it_brakes_at_once_where_it_can(way):
    now_ns = 200 * MS
    stop = braking(way, now_ns, 20 * MS, 0.2, LIMITS, lambda q: True)
    assert stop.times_ns[0] == now_ns and len(stop.times_ns) == 2


def test_what_is_allowed_is_waited_for(way):
    stop = braking(way, 200 * MS, 0, 0.2, LIMITS, lambda q: q[1] > -0.2)
    assert stop.positions[-1][1] > -0.2
    assert np.abs(accelerations(stop)).max() <= 1.1
