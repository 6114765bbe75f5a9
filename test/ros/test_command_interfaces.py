"""How arm and gripper are commanded, on a bare node."""

from __future__ import annotations

import time

import numpy as np
import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from efficientvla_ros.ros.conversions import stamp_from_ns
from efficientvla_ros.ros.message_fields import joint_state, stamp_to_ns
from efficientvla_ros.ros.outputs.arm_output import ArmLinks
from efficientvla_ros.ros.outputs.outputs import Outputs
from efficientvla_ros.ros.parameters.policy import TABLE
from efficientvla_ros.simulation.arm import ARM_JOINTS
from efficientvla_ros.types import InputError, JointCommand

ARM = list(ARM_JOINTS)


class Bench:
    """Outputs on one node, a listener on another, spun together."""

    def __init__(self, context, interface: str) -> None:
        self.sender = rclpy.create_node(f'sender_{interface}', context=context)
        self.listener = rclpy.create_node(f'listener_{interface}', context=context)
        self.faults, self.stamps = [], []
        self.outputs = Outputs(
            self.sender,
            TABLE.settings({'gripper.interface': interface}),
            ArmLinks(report=self.faults.append),
        )
        self.heard = {'joint_trajectory': [], 'gripper_command': []}
        kind = Float64MultiArray if interface == 'position' else JointTrajectory
        for topic, message in (('joint_trajectory', JointTrajectory), ('gripper_command', kind)):
            self.listener.create_subscription(message, topic, self.heard[topic].append, 10)
        self.executor = SingleThreadedExecutor(context=context)
        self.executor.add_node(self.listener)

    def send(self, *gripper: float) -> None:
        """A plan of three points from now on; the gripper's value for each, or one for all."""
        names = (*ARM_JOINTS, 'gripper') if gripper else tuple(ARM_JOINTS)
        positions = np.tile([*range(6)], (3, 1)).astype(float)
        if gripper:
            positions = np.column_stack([positions, np.broadcast_to(gripper, 3)])
        self._command(names, np.array([0.2, 2.2, 2.4]), positions)

    def brake(self, gripper: float) -> None:
        positions = np.array([[*range(6), gripper]], dtype=float)
        self._command((*ARM_JOINTS, 'gripper'), np.array([0.2]), positions, brakes=True)

    def _command(self, names, times, positions, brakes=False) -> None:
        stamp = self.sender.get_clock().now().nanoseconds
        self.stamps.append(stamp)
        rest = np.zeros_like(positions)
        self.outputs.send(JointCommand(names, stamp, times, positions, rest, brakes))

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
    assert [stamp_to_ns(message.header.stamp)] == bench.stamps
    assert message.header.frame_id == 'base_link'


@pytest.mark.parametrize('bench', ['trajectory'], indirect=True)
def test_the_gripper_gets_a_trajectory_of_its_own_when_it_changes(bench):
    for number, value in enumerate((0.04, 0.04, 0.0), start=1):
        bench.send(value)
        changes = 1 if value else 2
        bench.spin_until(
            lambda n=number, c=changes: (
                len(bench.heard['joint_trajectory']) == n
                and len(bench.heard['gripper_command']) >= c
            )
        )
    assert list(bench.heard['joint_trajectory'][0].joint_names) == ARM
    opened, closed = bench.heard['gripper_command']
    assert list(opened.joint_names) == ['gripper']
    assert [point.positions[0] for point in opened.points] == [0.04] * 3
    assert [point.positions[0] for point in closed.points] == [0.0] * 3


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


@pytest.mark.parametrize('bench', ['position'], indirect=True)
def test_the_gripper_moves_when_its_step_begins_and_keeps_its_grip_when_the_arm_brakes(bench):
    bench.send(0.04, 0.0, 0.04)
    bench.spin_until(lambda: len(bench.heard['gripper_command']) == 2)
    bench.brake(0.04)
    bench.spin_until(lambda: len(bench.heard['joint_trajectory']) == 2)
    bench.outputs.stop()
    bench.executor.spin_once(timeout_sec=0.5)
    assert [list(m.data) for m in bench.heard['gripper_command']] == [[0.04], [0.0]]


@pytest.mark.parametrize('bench', ['joint_trajectory'], indirect=True)
def test_a_gripper_that_rides_along_keeps_its_grip_and_its_dwell(bench):
    bench.send(0.04, 0.04, 0.04)
    bench.outputs.settings_changed(TABLE.settings({'gripper.min_dwell': 5.0}))
    bench.spin_until(lambda: len(bench.heard['joint_trajectory']) == 1)
    bench.send(0.0, 0.0, 0.0)
    bench.spin_until(lambda: len(bench.heard['joint_trajectory']) == 2)
    bench.brake(0.0)
    bench.spin_until(lambda: len(bench.heard['joint_trajectory']) == 3)
    for message in bench.heard['joint_trajectory']:
        assert {point.positions[6] for point in message.points} == {0.04}


@pytest.mark.parametrize('bench', ['none'], indirect=True)
def test_without_a_gripper_the_arm_alone_is_commanded(bench):
    bench.send()
    bench.spin_until(lambda: bench.heard['joint_trajectory'])
    assert list(bench.heard['joint_trajectory'][0].joint_names) == ARM
    assert bench.faults == []


def test_who_does_not_hear_commands_is_named(ros_context):
    node = rclpy.create_node('alone', context=ros_context)
    outputs = Outputs(node, TABLE.settings({'gripper.interface': 'position'}))
    assert outputs.absent() == 'no controller on /gripper_command, /joint_trajectory'
    node.create_subscription(JointTrajectory, 'joint_trajectory', lambda message: None, 1)
    deadline = time.monotonic() + 10.0
    while outputs.absent() != 'no controller on /gripper_command':
        assert time.monotonic() < deadline, outputs.absent()
        time.sleep(0.02)
    outputs.destroy()
    node.destroy_node()


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


@pytest.mark.parametrize(
    ('velocity', 'expected'),
    [
        ([0.2, 9.0, 0.1], [0.1, 0.2]),
        ([], None),
        ([0.2], None),
        ([0.2, 9.0, float('nan')], None),
        ([0.2, float('nan'), 0.1], [0.1, 0.2]),
    ],
)
def test_velocities_are_taken_where_every_joint_has_one(velocity, expected):
    from sensor_msgs.msg import JointState

    message = JointState(name=['b', 'x', 'a'], position=[2.0, 9.0, 1.0], velocity=velocity)
    found = joint_state(message, ('a', 'b'), 7).velocities
    assert (None if found is None else found.tolist()) == expected


@pytest.mark.parametrize('nanoseconds', [0, 1, 999_999_999, 1_700_000_000_123_456_789])
def test_stamps_survive_the_round_trip(nanoseconds):
    assert stamp_to_ns(stamp_from_ns(nanoseconds)) == nanoseconds
