"""kill -9 of the simulator in mid-run: the policy holds, and goes on with a new simulator."""

from __future__ import annotations

import signal

import numpy as np
import pytest
from ros_harness import LATCHED, NodeProcess
from sim_harness import SIMULATOR, SimPeer
from trajectory_msgs.msg import JointTrajectory

from efficientvla_ros.msg import PolicyStatus
from efficientvla_ros.simulation.arm import HOME_POSITIONS

pytestmark = pytest.mark.ros

CAMERA = ('-p', 'camera.width:=224', '-p', 'camera.height:=224')


@pytest.mark.timeout(240)
def test_policy_survives_a_killed_simulator(ros_domain, ros_context, start_policy, checkpoints):
    simulators = [NodeProcess(SIMULATOR, ros_domain, *CAMERA)]
    policy = start_policy('-p', f'model.path:={checkpoints["good"]}', '-p', 'autostart:=true')
    peer = SimPeer(ros_context)
    status = peer._hear(PolicyStatus, 'policy_node/status', LATCHED)
    commands = peer._hear(JointTrajectory, 'joint_trajectory')
    try:
        status.wait(lambda m: m.state == PolicyStatus.RUNNING, timeout=90.0)
        commands.wait(since=commands.count)
        peer.joints.wait(lambda m: np.abs(np.array(m.position) - HOME_POSITIONS).max() > 0.01)

        seen = status.count
        simulators[0].end(signal.SIGKILL)
        held = status.wait(lambda m: m.state == PolicyStatus.HOLDING, since=seen)
        assert held.hold_reason
        silent = commands.count
        status.wait(since=status.count + 2)
        assert commands.count <= silent + 1, 'still commanding an arm that is gone'
        assert policy.lines('Traceback') == []

        seen = status.count
        joints = peer.joints.count
        simulators.append(NodeProcess(SIMULATOR, ros_domain, *CAMERA))
        status.wait(lambda m: m.state == PolicyStatus.RUNNING, since=seen)
        commands.wait(since=commands.count)
        peer.joints.wait(
            lambda m: np.abs(np.array(m.position) - HOME_POSITIONS).max() > 0.01, since=joints
        )
        assert policy.end() == 0
        assert 'Traceback' not in policy.output
    finally:
        peer.close()
        for simulator in simulators:
            simulator.end()
