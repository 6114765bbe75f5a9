"""An arm that is stopped on its way rests in the workspace, as it does after every plan."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from motion_bench import Bench

from efficientvla_ros.control.config import ControlConfig
from efficientvla_ros.control.gate import command_fault
from efficientvla_ros.types import ActionChunk


def wander(kinematics, seed: int) -> None:
    """Fast plans across a small workspace, late and rejected ones among them, and a stop after."""
    rng = np.random.default_rng(seed)
    bench = Bench(kinematics, ControlConfig(max_joint_acceleration=6.0))
    home = kinematics.fk(bench.arm)[:3, 3]
    low, high = home - rng.uniform(0.03, 0.15, 3), home + rng.uniform(0.03, 0.15, 3)
    bench.controller.config = ControlConfig(
        workspace_min=tuple(low), workspace_max=tuple(high), max_joint_acceleration=6.0
    )
    for number in range(4):
        observed, stamp_ns = bench.arm, bench.now_ns
        bench.run_until(stamp_ns + int(rng.integers(20, 400)) * 1_000_000)
        way = rng.normal(size=3)
        actions = np.tile((*(0.05 * way / np.linalg.norm(way)), 0, 0, 0, 1), (8, 1))
        before = copy.copy(bench.controller)
        chunk = ActionChunk(actions, 0.2, stamp_ns, 'pick', number)
        command = bench.controller.command(chunk, observed, bench.now_ns).command
        if command is None:
            continue
        if command_fault(command, kinematics, bench.controller.config, observed):
            bench.controller = before  # as the node does with what it does not send
            bench.stop()
        else:
            bench.deliver(command, int(rng.choice([1, 10, 100])))
            bench.controller.sent(bench.now_ns)
        bench.run_until(bench.now_ns + int(rng.integers(0, 1200)) * 1_000_000)
    bench.stop()
    bench.settle()
    rest = kinematics.fk(bench.arm)[:3, 3]
    assert (rest > low - 0.01).all() and (rest < high + 0.01).all(), (rest, low, high)


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1))
def test_a_stop_does_not_lead_out(kinematics, seed):
    wander(kinematics, seed)


@pytest.mark.parametrize('seed', [43, 394, 445, 448])
def test_stops_that_once_led_out(kinematics, seed):
    wander(kinematics, seed)
