"""How arm and gripper are commanded, on a bare node."""

from __future__ import annotations

import numpy as np
import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from efficientvla_ros.ros.conversions import joint_state, stamp_from_ns, stamp_to_ns
from efficientvla_ros.ros.outputs import Outputs
from efficientvla_ros.ros.parameters import TABLE
from efficientvla_ros.simulation.arm import ARM_JOINTS
from efficientvla_ros.types import InputError, JointCommand

ARM = list(ARM_JOINTS)


class Bench:
    """Outputs on one node, a listener on another, spun together."""

    def __init__(self, context, interface: str) -> None:
        self.sender = rclpy.create_node(f'sender_{interface}', context=context)
        self.listener = rclpy.create_node(f'listener_{interface}', context=context)
        self.outputs = Outputs(self.sender, TABLE.settings({'gripper.interface': interface}))
        self.heard = {'joint_trajectory': [], 'gripper_command': []}
        kind = Float64MultiArray if interface == 'position' else JointTrajectory
        for topic, message in (('joint_trajectory', JointTrajectory), ('gripper_command', kind)):
            self.listener.create_subscription(message, topic, self.heard[topic].append, 10)
        self.executor = SingleThreadedExecutor(context=context)
        self.executor.add_node(self.listener)

    def send(self, gripper: float) -> None:
        names = (*ARM_JOINTS, 'gripper')
        positions = np.tile([*range(6), gripper], (3, 1)).astype(float)
        times = np.array([0.2, 0.4, 0.6])
        self.outputs.send(JointCommand(names, 5, times, positions, np.zeros((3, 7))))

    def spin_until(self, condition) -> None:
        for _ in range(200):
            if condition():
                return
            self.executor.spin_once(timeout_sec=0.1)
        raise AssertionError(f'waited in vain, heard {self.heard}')

    def close(self) -> None:
        self.outputs.destroy()
        self.executor.shutdown()
        self.sender.destroy_node()
        self.listener.destroy_node()


@pytest.fixture
def bench(request, ros_context):
    made = Bench(ros_context, request.param)
    count = made.sender.count_subscribers
    made.spin_until(lambda: count('joint_trajectory') and count('gripper_command'))
    yield made
    made.close()


@pytest.mark.parametrize('bench', ['joint_trajectory'], indirect=True)
def test_the_gripper_rides_along_as_a_seventh_joint(bench):
    bench.send(0.04)
    bench.spin_until(lambda: bench.heard['joint_trajectory'])
    (message,) = bench.heard['joint_trajectory']
    assert list(message.joint_names) == [*ARM, 'gripper']
    assert message.points[0].positions[6] == 0.04
    assert stamp_to_ns(message.header.stamp) == 5
    assert message.header.frame_id == 'base_link'


@pytest.mark.parametrize('bench', ['trajectory'], indirect=True)
def test_the_gripper_gets_a_trajectory_of_its_own(bench):
    bench.send(0.04)
    bench.spin_until(lambda: bench.heard['joint_trajectory'] and bench.heard['gripper_command'])
    assert list(bench.heard['joint_trajectory'][0].joint_names) == ARM
    gripper = bench.heard['gripper_command'][0]
    assert list(gripper.joint_names) == ['gripper']
    assert [point.positions[0] for point in gripper.points] == [0.04] * 3


@pytest.mark.parametrize('bench', ['position'], indirect=True)
def test_the_gripper_position_is_sent_when_it_changes(bench):
    for number, value in enumerate((0.04, 0.04, 0.0, 0.0), start=1):
        bench.send(value)
        # One after the other: these topics keep the newest message only.
        changes = 1 if value else 2
        bench.spin_until(
            lambda n=number, c=changes: (
                len(bench.heard['joint_trajectory']) == n
                and len(bench.heard['gripper_command']) >= c
            )
        )
    assert [list(m.data) for m in bench.heard['gripper_command']] == [[0.04], [0.0]]


def test_joints_are_picked_by_name_and_what_is_missing_is_named():
    from sensor_msgs.msg import JointState

    message = JointState(name=['b', 'x', 'a'], position=[2.0, 9.0, 1.0])
    state = joint_state(message, ('a', 'b'), 7)
    assert state.positions.tolist() == [1.0, 2.0]
    with pytest.raises(InputError, match='no joint c, it has b, x, a'):
        joint_state(message, ('a', 'c'), 7)
    message.position = [1.0]
    with pytest.raises(InputError, match='1 positions for 3 joints'):
        joint_state(message, ('a', 'b'), 7)
    message.position = [1.0, 1.0, float('inf')]
    with pytest.raises(InputError, match='not finite'):
        joint_state(message, ('a', 'b'), 7)


@pytest.mark.parametrize('nanoseconds', [0, 1, 999_999_999, 1_700_000_000_123_456_789])
def test_stamps_survive_the_round_trip(nanoseconds):
    assert stamp_to_ns(stamp_from_ns(nanoseconds)) == nanoseconds
