"""Policy and simulator as two processes: commands arrive, and a simulator that dies comes back."""

from __future__ import annotations

import pytest
from ros_harness import NodeProcess, Robot, is_hold

from efficientvla_ros.msg import PolicyStatus

pytestmark = [pytest.mark.ros]

SIMULATOR = 'efficientvla_ros.ros.tabletop_sim_node'


@pytest.fixture
def listener(make_robot) -> Robot:
    """A peer that only listens: camera, arm and instruction come from the simulator."""
    robot = make_robot()
    robot.image = robot.joint_positions = None
    return robot


def test_a_killed_simulator_holds_the_policy_and_its_return_resumes(
    start_policy, listener, checkpoints, ros_domain
):
    policy = start_policy('-p', f'model.path:={checkpoints["good"]}', '-p', 'autostart:=true')
    simulator = NodeProcess(SIMULATOR, ros_domain, '-p', 'seed:=7')
    try:
        listener.wait_until_running()
        command = listener.commands.wait()
        assert list(command.joint_names)[-1] == 'gripper'
        before = listener.status.count
        simulator.kill()
        listener.wait_until_held('image_too_old', before)
        assert is_hold(listener.commands.newest)
        simulator = NodeProcess(SIMULATOR, ros_domain, '-p', 'seed:=8')
        before = listener.status.count
        listener.wait_until_running(before)
        commands = listener.commands.count
        listener.commands.wait(since=commands + 2)
        status = listener.status.wait(since=listener.status.count)
        assert status.state == PolicyStatus.RUNNING
        assert 'Traceback' not in policy.output
    finally:
        simulator.end()
