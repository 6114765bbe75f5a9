"""Faults of simulated time and of the controller: named, and over when they end.

Regressions guarded: a clock that stands still stopped all ticks without a word; after a clock had
jumped, timers waited for the time before the jump.
"""

from __future__ import annotations

import pytest
from fault_harness import SimulatedTime
from ros_harness import rgb_image

from efficientvla_ros.msg import PolicyStatus

pytestmark = [pytest.mark.ros, pytest.mark.timeout(240)]


def test_clock_and_controller(start_policy, ros_context, checkpoints):
    process = start_policy(
        '-r', '__ns:=/simulated', '-p', f'model.path:={checkpoints["good"]}',
        '-p', 'autostart:=true', '-p', 'use_sim_time:=true',
    )  # fmt: skip
    robot = SimulatedTime(ros_context, 'simulated', 100_000_000_000)
    try:
        robot.image = rgb_image()
        robot.describe()
        robot.instruct('pick red can')
        status = robot.status.count
        robot.wait_until_held('no_clock', 0)

        robot.rate = 1.0
        robot.wait_until_held('no_controller', status)
        process.wait_for_line('no controller on /simulated/joint_trajectory')
        status = robot.status.count
        robot.start_controller()
        robot.wait_until_running(status)

        status, robot.rate = robot.status.count, 0.0
        robot.wait_until_held('clock_stopped', status)
        status, robot.rate = robot.status.count, 1.0
        robot.wait_until_running(status)

        for seconds, words in ((-50.0, 'jumped back'), (100.0, 'jumped ahead')):
            mark, status = process.mark(), robot.status.count
            robot.jump(seconds)
            robot.wait_for_state(PolicyStatus.HOLDING, 'clock_jumped', status)
            process.wait_for_line(f'the clock {words} by .*: starting over', mark)
            status = robot.status.count
            robot.wait_until_running(status)
            commands = robot.checker.commands
            robot.status.wait(
                lambda s, n=commands: robot.checker.commands > n + 1, robot.status.count
            )
        assert not robot.checker.faults, robot.checker.faults[:3]
        assert process.end() == 0
        assert 'Traceback' not in process.output
    finally:
        robot.close()
