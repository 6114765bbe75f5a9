"""Streams of positions, twists and poses made from commands: continuous, on the plan, then silent.

The clock is the test's, the receiver a list; the same plans go to the simulated controller, whose
samples the streams must match.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from efficientvla_ros.control.kinematics import ArmKinematics
from efficientvla_ros.control.rotations import matrix_from_quaternion, matrix_from_rotation_vector
from efficientvla_ros.control.trajectory import waypoint_velocities
from efficientvla_ros.ros.outputs.arm_output import ArmLinks
from efficientvla_ros.ros.outputs.position_output import PositionOutput
from efficientvla_ros.ros.outputs.tool_output import PoseOutput, TwistOutput
from efficientvla_ros.ros.parameters.policy import TABLE
from efficientvla_ros.simulation.arm import ARM_JOINTS, HOME_POSITIONS, TCP_FRAME, arm_urdf
from efficientvla_ros.simulation.trajectory_controller import JointTrajectoryController
from efficientvla_ros.types import JointCommand, JointState

HOME = np.array(HOME_POSITIONS[:6])
SECOND = 1_000_000_000
RATE = 100.0
PERIOD_NS = 10_000_000
ARM = ArmKinematics(arm_urdf(), ARM_JOINTS, TCP_FRAME, 'base_link')


class Bench:
    """One stream, an arm that follows it, and a clock that the test moves."""

    def __init__(self, kind: str, **settings: object) -> None:
        self.now = 1000 * SECOND
        self.heard, self.faults = [], []
        self.joints: JointState | None = JointState(ARM_JOINTS, HOME.copy(), self.now)
        links = ArmLinks(lambda: self.joints, lambda: ARM)
        given = {'command.rate': RATE, 'gripper.interface': 'none', **settings}
        table = TABLE.settings({name.replace('__', '.'): value for name, value in given.items()})
        fault = lambda kind, line: self.faults.append(kind)  # noqa: E731
        self.output = {
            'position': lambda: PositionOutput(self, links, fault),
            'twist': lambda: TwistOutput(self, links, fault, table),
            'pose': lambda: PoseOutput(self, links, fault, table),
        }[kind]()
        self.controller = JointTrajectoryController(ARM_JOINTS)
        self.controller.reset(HOME, self.now)

    def publish(self, message) -> None:
        self.heard.append((self.now, message))

    def send(self, positions, age: float = 0.1, step: float = 0.2) -> JointCommand:
        """A plan made from what was seen `age` seconds ago, first point `step` after now."""
        positions = np.atleast_2d(np.asarray(positions, dtype=float))
        times = age + step * np.arange(1, len(positions) + 1)
        velocities = waypoint_velocities(
            np.append(0.0, times), np.vstack([HOME, positions])
        )[1:]  # fmt: skip
        stamp = self.now - round(age * 1e9)
        command = JointCommand(ARM_JOINTS, stamp, times, positions, velocities)
        self.output.send(command, self.now)
        self.controller.accept(ARM_JOINTS, stamp, times, positions, velocities, self.now)
        return command

    def brake(self, duration: float = 0.2) -> None:
        position, velocity = self.controller.sample(self.now)
        target = (position + 0.5 * duration * velocity)[None]
        command = JointCommand(
            ARM_JOINTS, self.now, np.array([duration]), target, np.zeros_like(target), brakes=True
        )
        self.output.send(command, self.now)
        self.controller.accept(
            ARM_JOINTS, self.now, command.times, target, command.velocities, self.now
        )

    def run(self, seconds: float) -> bool:
        """Ticks for a while; whether the stream went on to the end."""
        more = True
        for _ in range(round(seconds * RATE)):
            more = self.output.tick(self.now)
            self.now += PERIOD_NS
        return more


def plan(*offsets: float) -> np.ndarray:
    return HOME + np.array(offsets)[:, None] * np.array([1.0, 0.5, -0.5, 0.2, 0.7, -1.0])


def positions(bench: Bench) -> np.ndarray:
    return np.array([message.data for _, message in bench.heard])


def twists(bench: Bench) -> np.ndarray:
    found = []
    for _, message in bench.heard:
        linear, angular = message.twist.linear, message.twist.angular
        found.append([linear.x, linear.y, linear.z, angular.x, angular.y, angular.z])
    return np.array(found)


def test_positions_are_those_of_the_trajectory_controller():
    bench, expected = Bench('position'), []
    for offsets in ([0.05, 0.1, 0.15], [0.02, 0.0], [-0.1, -0.1, 0.0, 0.1]):
        bench.send(plan(*offsets))
        for _ in range(27):
            expected.append(bench.controller.sample(bench.now)[0])
            bench.run(1.0 / RATE)
    np.testing.assert_allclose(positions(bench), expected, atol=1e-9)


def test_the_stream_begins_at_the_measured_joints_and_never_jumps():
    bench = Bench('position')
    bench.send(plan(0.1, 0.2, 0.2))
    bench.run(0.3)
    bench.send(plan(-0.1, -0.2))
    bench.run(0.6)
    stream = positions(bench)
    np.testing.assert_allclose(stream[0], HOME, atol=1e-9)
    assert np.abs(np.diff(stream, axis=0)).max() < 0.03
    assert np.abs(np.diff(stream, n=2, axis=0)).max() < 0.005


def test_after_the_end_of_a_plan_the_last_position_is_held():
    bench = Bench('position')
    command = bench.send(plan(0.05, 0.1))
    assert bench.run(3.0)
    np.testing.assert_allclose(positions(bench)[-50:], np.tile(command.positions[-1], (50, 1)))


def test_braking_is_smooth_and_then_the_stream_is_silent():
    bench = Bench('position')
    bench.send(plan(0.05, 0.1, 0.15, 0.2))
    bench.run(0.3)
    bench.brake()
    assert not bench.run(1.0)
    stream = positions(bench)
    assert len(stream) == 30 + 20 + 11  # the plan, the brake, a tenth of a second at rest
    assert np.abs(np.diff(stream, n=2, axis=0)).max() < 0.002
    np.testing.assert_array_equal(stream[-1], stream[-8])


def test_after_silence_a_stream_begins_where_the_arm_is_then():
    bench = Bench('position')
    bench.send(plan(0.1, 0.2))
    bench.run(0.2)
    bench.brake()
    bench.run(1.0)
    bench.joints = JointState(ARM_JOINTS, HOME - 0.4, bench.now)  # moved by somebody else
    bench.heard.clear()
    bench.send(plan(-0.4))
    bench.run(0.1)
    np.testing.assert_allclose(positions(bench)[0], HOME - 0.4, atol=1e-9)


@pytest.mark.parametrize('gap', [0.4, 30.0, -30.0], ids=['stall', 'clock ahead', 'clock back'])
def test_a_clock_that_jumps_delays_the_motion_but_does_not_tear_it(gap):
    bench = Bench('position')
    command = bench.send(plan(0.05, 0.1, 0.15, 0.2))
    bench.run(0.3)
    bench.now += round(gap * 1e9)
    bench.run(2.0)
    stream = positions(bench)
    assert np.abs(np.diff(stream, axis=0)).max() < 0.01
    np.testing.assert_allclose(stream[-1], command.positions[-1])
    assert bench.faults == ['stream_held_up']


def test_without_joint_states_nothing_is_streamed():
    bench = Bench('position')
    bench.joints = None
    bench.send(plan(0.1))
    assert not bench.run(0.1)
    assert bench.heard == []
    assert bench.faults == ['command_dropped']


def test_a_gripper_that_is_not_measured_begins_where_it_is_told_to_go():
    bench = Bench('position')
    names = (*ARM_JOINTS, 'gripper')
    points = np.array([[*HOME, 0.04]])
    command = JointCommand(names, bench.now, np.array([0.2]), points, np.zeros_like(points))
    bench.output.send(command, bench.now)
    bench.run(0.02)
    np.testing.assert_allclose(positions(bench)[0], points[0])


def test_forgetting_ends_the_positions_at_once():
    bench = Bench('position')
    bench.send(plan(0.1, 0.2))
    bench.run(0.1)
    bench.output.forget()
    assert not bench.run(0.1)
    assert len(bench.heard) == 10


@pytest.mark.parametrize('frame', ['base', 'tcp'])
def test_twists_add_up_to_the_path_of_the_tool(frame):
    bench = Bench('twist', command__twist_frame=frame)
    command = bench.send(plan(0.01, 0.02, 0.03), step=0.2)
    bench.run(1.5)
    pose = ARM.fk(HOME)
    for twist in twists(bench):
        axes = pose[:3, :3] if frame == 'tcp' else np.eye(3)
        pose[:3, 3] += axes @ twist[:3] / RATE
        pose[:3, :3] = matrix_from_rotation_vector(axes @ twist[3:] / RATE) @ pose[:3, :3]
    np.testing.assert_allclose(pose, ARM.fk(command.positions[-1]), atol=1e-6)
    frames = {message.header.frame_id for _, message in bench.heard}
    assert frames == {'base_link' if frame == 'base' else TCP_FRAME}


def test_every_twist_has_a_new_stamp():
    bench = Bench('twist')
    bench.send(plan(0.01, 0.02))
    bench.run(0.3)
    stamps = [m.header.stamp.sec * SECOND + m.header.stamp.nanosec for _, m in bench.heard]
    assert stamps == [now for now, _ in bench.heard]
    assert [b - a for a, b in pairwise(stamps)] == [PERIOD_NS] * 29


@pytest.mark.parametrize('ending', ['end', 'brake', 'forget'])
def test_twists_end_with_a_burst_of_zeros_and_silence(ending):
    bench = Bench('twist')
    bench.send(plan(0.01, 0.02, 0.03))
    bench.run(0.3)
    if ending == 'brake':
        bench.brake()
    elif ending == 'forget':
        bench.output.forget()
    assert not bench.run(2.0)
    stream = twists(bench)
    assert not stream[-10:].any()
    assert stream[-11].any()
    if ending != 'forget':
        assert np.abs(np.diff(stream, axis=0)).max() < 0.03


def test_a_brake_does_not_drive_an_arm_on_that_has_fallen_behind():
    bench = Bench('twist')
    bench.send(plan(0.2, 0.4, 0.6))  # too fast for the caps; the arm stays at home
    bench.run(0.5)
    before = np.linalg.norm(twists(bench)[-1][:3])
    bench.brake()
    bench.run(1.0)
    speeds = np.linalg.norm(twists(bench)[50:, :3], axis=1)
    assert (speeds <= before * 1.05 + 1e-9).all()


def test_twists_are_capped_and_counted():
    bench = Bench('twist', command__max_linear_velocity=0.05, command__max_angular_velocity=0.2)
    bench.send(plan(0.2, 0.4))
    bench.run(0.3)
    stream = twists(bench)
    assert np.linalg.norm(stream[:, :3], axis=1).max() <= 0.05 + 1e-9
    assert np.linalg.norm(stream[:, 3:], axis=1).max() <= 0.2 + 1e-9
    assert 'twist_capped' in bench.faults


def test_an_arm_that_falls_behind_is_caught_up_with():
    # Regression: the difference between plan and arm stayed in the stream for ever.
    bench, arm = Bench('twist'), HOME.copy()
    for _ in range(8):
        bench.heard.clear()
        command = bench.send(plan(0.01, 0.02)[:1], step=0.4)
        bench.run(0.4)
        moved = np.sum(twists(bench), axis=0)[:3] / RATE
        wanted = ARM.fk(command.positions[-1])[:3, 3] - ARM.fk(arm)[:3, 3]
        # This arm does half of what it is told.
        arm = arm + 0.5 * (command.positions[-1] - arm)
        bench.joints = JointState(ARM_JOINTS, arm.copy(), bench.now)
    assert np.linalg.norm(wanted) < 1e-3
    np.testing.assert_allclose(moved, wanted, atol=2e-4)


def test_catching_up_is_no_jerk():
    bench = Bench('twist', command__max_angular_velocity=5.0)
    bench.send(plan(0.05, 0.1, 0.15))
    bench.run(0.3)
    bench.joints = JointState(ARM_JOINTS, HOME.copy(), bench.now)  # has not moved at all
    bench.send(plan(0.125, 0.175, 0.225))
    bench.run(1.0)
    after = twists(bench)[28:48]  # the first fifth of a second with the new plan
    assert np.abs(np.diff(after, axis=0)).max() < 0.05
    assert 'twist_capped' not in bench.faults


def test_poses_are_those_of_the_plan_and_their_quaternions_continuous():
    bench = Bench('pose')
    bench.send(HOME + np.array([0, 0, 0, 0, 0, 1.0]) * np.array([[1.0], [2.0], [3.0]]), step=0.5)
    previous = None
    for _ in range(140):
        expected = ARM.fk(bench.controller.sample(bench.now)[0])
        bench.run(1.0 / RATE)
        pose = bench.heard[-1][1].pose
        position, q = pose.position, pose.orientation
        quaternion = np.array([q.x, q.y, q.z, q.w])
        np.testing.assert_allclose([position.x, position.y, position.z], expected[:3, 3])
        np.testing.assert_allclose(matrix_from_quaternion(quaternion), expected[:3, :3], atol=1e-9)
        assert previous is None or quaternion @ previous > 0.99
        previous = quaternion
    assert bench.heard[-1][1].header.frame_id == 'base_link'
    bench.brake()
    assert not bench.run(1.0)
