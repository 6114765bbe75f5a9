"""No jerk at any instant: boundaries of chunks, late and lost plans, stops, all modes.

Regression guarded: limits that held at the waypoints did not hold between them, nor at the moment
at which one command replaced another.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from motion_bench import HORIZON, MS, Bench, hostile_chunks, smooth_chunks

from efficientvla_ros.control.config import EXECUTIONS, ControlConfig

PERIOD = 600 * MS  # three steps


def settings_of(execution: str, velocity: float, acceleration: float, **fields) -> ControlConfig:
    return ControlConfig(
        execution=execution,
        max_joint_velocity=velocity,
        max_joint_acceleration=acceleration,
        **fields,
    )


@pytest.mark.parametrize('execution', EXECUTIONS)
@pytest.mark.parametrize('chunks', [smooth_chunks, hostile_chunks])
def test_no_limit_is_ever_exceeded_at_latencies_from_20_to_400_ms(kinematics, execution, chunks):
    points = 0
    for seed, (velocity, acceleration) in enumerate([(2.0, 2.0), (1.0, 5.0), (0.4, 1.0)]):
        rng = np.random.default_rng([seed, EXECUTIONS.index(execution)])
        bench = Bench(kinematics, settings_of(execution, velocity, acceleration))
        plans = chunks(rng)
        for _ in range(24):
            begin_ns = bench.now_ns
            if rng.random() < 0.15:  # a plan or more are lost
                bench.run_until(bench.now_ns + int(rng.integers(200, 2500)) * MS)
            if rng.random() < 0.1:
                bench.stop(int(rng.integers(0, 20)))
            if rng.random() < 0.1:  # a new instruction
                bench.controller.forget_plans()
            bench.tick(next(plans), int(rng.integers(20, 401)), int(rng.integers(0, 20)))
            bench.run_until(begin_ns + PERIOD)
        bench.settle()
        bench.check(velocity, acceleration)
        assert np.abs(bench.samples[-1][1]).max() == 0.0
        points += bench.points
    assert points >= 1250  # eight cases: more than 10,000 points in all


@settings(max_examples=30)
@given(
    seed=st.integers(0, 2**32 - 1),
    execution=st.sampled_from(EXECUTIONS),
    latencies=st.lists(st.integers(20, 400), min_size=2, max_size=6),
    transport=st.integers(0, 19),
    velocity=st.floats(0.1, 3.0),
    acceleration=st.floats(0.5, 40.0),
    scale=st.sampled_from([1.0, 0.3]),
)
def test_no_limit_is_ever_exceeded_by_any_chunks(
    kinematics, seed, execution, latencies, transport, velocity, acceleration, scale
):
    rng = np.random.default_rng(seed)
    config = settings_of(execution, velocity, acceleration, speed_scale=scale)
    bench = Bench(kinematics, config)
    plans = hostile_chunks(rng)
    for latency in latencies:
        begin_ns = bench.now_ns
        bench.tick(next(plans), latency, transport)
        bench.run_until(begin_ns + PERIOD)
    bench.stop(transport)
    bench.settle()
    bench.check(velocity, acceleration)
    assert np.abs(bench.samples[-1][1]).max() == 0.0


@settings(max_examples=15)
@given(seed=st.integers(0, 2**32 - 1), velocity=st.floats(0.2, 3.0))
def test_without_an_acceleration_limit_velocity_and_range_hold_all_the_same(
    kinematics, seed, velocity
):
    bench = Bench(kinematics, ControlConfig(max_joint_velocity=velocity))
    plans = hostile_chunks(np.random.default_rng(seed))
    for _ in range(5):
        bench.tick(next(plans), 100)
        bench.run_until(bench.now_ns + 300 * MS)
    bench.check(velocity, 1e6)


def forward(size: float) -> np.ndarray:
    actions = np.zeros((HORIZON, 7))
    actions[:, 1], actions[:, 6] = size, 1.0
    return actions


def speeds(bench: Bench) -> np.ndarray:
    return np.array([np.abs(velocity[:6]).max() for _, velocity in bench.samples])


def test_a_late_plan_means_a_smooth_stop_and_a_smooth_start(kinematics):
    bench = Bench(kinematics, settings_of('replan', 2.0, 4.0))
    bench.tick(forward(0.02), 50)
    bench.run_until(bench.now_ns + 600 * MS)
    cruising = speeds(bench)[-1]
    bench.run_until(bench.now_ns + 2000 * MS)
    assert cruising > 0.1 and speeds(bench)[-1] == 0.0
    bench.tick(forward(-0.02), 400)
    bench.run_until(bench.now_ns + 300 * MS)
    assert speeds(bench)[-300:].max() > 0.1
    bench.check(2.0, 4.0)


def test_a_plan_that_agrees_with_the_one_before_changes_nothing(kinematics):
    bench = Bench(kinematics, settings_of('replan', 2.0, 8.0))
    bench.tick(forward(0.01), 100)
    bench.run_until(bench.now_ns + 500 * MS)
    before = bench.samples[-1][1][:6]
    bench.tick(forward(0.01), 100)
    bench.run_until(bench.now_ns + 100 * MS)
    changes = [np.abs(velocity[:6] - before).max() for _, velocity in bench.samples[-200:]]
    assert max(changes) < 0.15 * np.abs(before).max()


@pytest.mark.parametrize('transport', [0, 7, 19])
def test_it_does_not_matter_when_within_the_lead_a_command_arrives(kinematics, transport):
    ways = []
    for delay in (0, transport):
        bench = Bench(kinematics, settings_of('replan', 1.0, 2.0))
        plans = hostile_chunks(np.random.default_rng(5))
        for _ in range(4):
            begin_ns = bench.now_ns
            bench.tick(next(plans), 150, delay)
            bench.run_until(begin_ns + PERIOD)
        ways.append(np.array([position[:6] for position, _ in bench.samples]))
    np.testing.assert_allclose(ways[0], ways[1], atol=1e-8)


@pytest.mark.parametrize('transport', [0, 10, 19])
def test_a_stop_is_one_point_and_brakes_within_the_limit(kinematics, transport):
    bench = Bench(kinematics, settings_of('replan', 2.0, 3.0))
    bench.tick(forward(0.04), 50)
    bench.run_until(bench.now_ns + 700 * MS)
    velocity = bench.receiver.sample(bench.now_ns)[1][:6]
    assert np.abs(velocity).max() > 0.3
    begin_ns, before = bench.now_ns, bench.points
    bench.stop(transport)
    assert bench.points == before + 1
    bench.run_until(begin_ns + 150 * MS)
    bench.tick(forward(-0.04), 40, transport)  # a plan that comes before the arm rests
    bench.settle()
    bench.check(2.0, 3.0)
    braking = speeds(bench)[(begin_ns - bench.times_ns[0]) // MS :]
    shortest = 1e3 * np.abs(velocity).max() / 3.0
    assert max(190, shortest) <= np.flatnonzero(braking < 5e-3)[0] <= 250 + 1.5 * shortest


def test_a_slower_speed_scale_slows_down_smoothly_while_the_arm_moves(kinematics):
    bench = Bench(kinematics, settings_of('replan', 1.0, 3.0))
    bench.tick(forward(0.05), 50)
    bench.run_until(bench.now_ns + 700 * MS)
    fast = speeds(bench)[-1]
    bench.controller.config = settings_of('replan', 1.0, 3.0, speed_scale=0.2)
    bench.tick(forward(0.05), 50)
    bench.run_until(bench.now_ns + 500 * MS)
    assert speeds(bench)[-1] < 0.3 * fast
    bench.check(1.0, 3.0)
