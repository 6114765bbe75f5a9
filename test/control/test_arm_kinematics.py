"""Forward and inverse kinematics from a URDF."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from efficientvla_ros.control.kinematics import ArmKinematics, KinematicsError
from efficientvla_ros.control.rotations import make_pose, matrix_from_euler
from efficientvla_ros.simulation.arm import ARM_JOINTS, HOME_POSITIONS, TCP_FRAME, arm_urdf
from efficientvla_ros.types import InputError

HOME = np.array(HOME_POSITIONS[:6])
unit = st.floats(0.0, 1.0)


def link(name: str) -> str:
    return f'<link name="{name}"/>'


def joint(name: str, kind: str, parent: str, child: str, xyz: str, axis: str, limit: str) -> str:
    return (
        f'<joint name="{name}" type="{kind}"><parent link="{parent}"/><child link="{child}"/>'
        f'<origin xyz="{xyz}"/><axis xyz="{axis}"/>{limit}</joint>'
    )


LIMIT = '<limit lower="-1" upper="1" effort="1" velocity="2"/>'
MIXED = (
    '<robot name="mixed">'
    + ''.join(link(name) for name in ('world', 'base', 'a', 'b', 'c', 'tool'))
    + joint('mount', 'fixed', 'world', 'base', '0 0 1', '0 0 1', '')
    + joint('turn', 'continuous', 'base', 'a', '0 0 0', '0 0 1', '')
    + joint('slide', 'prismatic', 'a', 'b', '0.5 0 0', '1 0 0', LIMIT)
    + joint('extra', 'revolute', 'a', 'c', '0 0 0', '0 1 0', LIMIT)
    + joint('flange', 'fixed', 'b', 'tool', '0 0 0.2', '0 0 1', '')
    + '</robot>'
)


@settings(max_examples=80)
@given(st.lists(unit, min_size=6, max_size=6), st.lists(unit, min_size=6, max_size=6))
def test_inverse_kinematics_reaches_the_pose_of_nearby_joint_positions(kinematics, where, noise):
    span = kinematics.upper - kinematics.lower
    goal = kinematics.lower + span * (0.05 + 0.9 * np.array(where))
    start = np.clip(goal + 0.1 * (np.array(noise) - 0.5), kinematics.lower, kinematics.upper)
    result = kinematics.ik(kinematics.fk(goal), start)
    reached = kinematics.fk(result.q)
    distance = np.linalg.norm(reached[:3, 3] - kinematics.fk(goal)[:3, 3])
    # At a singularity the last tenths of a millimetre may need more steps than allowed.
    assert distance < 2e-3
    assert result.position_error == pytest.approx(distance, abs=1e-9)
    assert (result.q >= kinematics.lower).all() and (result.q <= kinematics.upper).all()


@settings(max_examples=60)
@given(st.lists(st.floats(-1, 1), min_size=6, max_size=6))
def test_moves_of_one_step_around_the_home_pose_converge(kinematics, move):
    target = kinematics.fk(HOME)
    target[:3, 3] += 0.04 * np.array(move[:3])
    target[:3, :3] = matrix_from_euler(*(0.2 * np.array(move[3:]))) @ target[:3, :3]
    result = kinematics.ik(target, HOME)
    assert result.converged
    np.testing.assert_allclose(kinematics.fk(result.q), target, atol=2e-3)


@settings(max_examples=60)
@given(st.lists(st.floats(-2, 2), min_size=3, max_size=3))
def test_joint_limits_hold_wherever_the_target_is(kinematics, position):
    result = kinematics.ik(make_pose(np.eye(3), np.array(position)), HOME)
    assert (result.q >= kinematics.lower).all() and (result.q <= kinematics.upper).all()
    assert np.isfinite(result.q).all()


def test_out_of_reach_the_arm_stretches_towards_the_target(kinematics):
    start = kinematics.fk(HOME)
    target = start.copy()
    target[:3, 3] = [3.0, 0.0, 0.2]
    result = kinematics.ik(target, HOME)
    assert not result.converged
    assert result.position_error < np.linalg.norm(target[:3, 3] - start[:3, 3]) - 0.1


def test_with_a_joint_at_its_limit_the_other_joints_still_do_their_best(kinematics):
    random = np.random.default_rng(0)
    errors = []
    for _ in range(200):
        goal = random.uniform(0.8 * kinematics.lower, 0.8 * kinematics.upper)
        joint = random.integers(6)
        goal[joint] = kinematics.upper[joint] if random.random() < 0.5 else kinematics.lower[joint]
        target = kinematics.fk(goal)
        target[:3, 3] += random.normal(0.0, 0.01, 3)
        start = np.clip(goal + random.normal(0.0, 0.1, 6), kinematics.lower, kinematics.upper)
        result = kinematics.ik(target, start)
        errors.append(result.position_error + 0.3 * result.rotation_error)
    # Steps that are merely clipped at the limit end up about twice as far away.
    assert np.mean(errors) < 6e-3


def test_the_solution_stays_at_the_warm_start_when_it_is_already_there(kinematics):
    result = kinematics.ik(kinematics.fk(HOME), HOME)
    np.testing.assert_allclose(result.q, HOME, atol=1e-12)
    assert result.converged


def test_joint_vectors_follow_the_order_of_the_names():
    names = list(reversed(ARM_JOINTS))
    backwards = ArmKinematics(arm_urdf(), names, TCP_FRAME)
    forwards = ArmKinematics(arm_urdf(), ARM_JOINTS, TCP_FRAME)
    q = HOME + 0.1 * np.arange(6)
    np.testing.assert_allclose(backwards.fk(q[::-1]), forwards.fk(q), atol=1e-12)
    np.testing.assert_allclose(backwards.lower, forwards.lower[::-1])
    target = forwards.fk(q)
    np.testing.assert_allclose(backwards.fk(backwards.ik(target, HOME[::-1]).q), target, atol=2e-3)


def test_continuous_and_prismatic_joints_and_a_base_frame():
    arm = ArmKinematics(MIXED, ['slide', 'turn'], 'tool', base_frame='base')
    pose = arm.fk(np.array([0.25, math.pi / 2]))
    np.testing.assert_allclose(pose[:3, 3], [0.0, 0.75, 0.2], atol=1e-12)
    np.testing.assert_allclose(arm.lower, [-1.0, -np.inf])
    np.testing.assert_allclose(arm.velocity_limits, [2.0, np.inf])
    # More than one turn away: a continuous joint has no seam.
    start = np.array([0.0, 2 * math.pi + 1.4])
    result = arm.ik(pose, start)
    assert result.converged
    np.testing.assert_allclose(result.q, [0.25, 2.5 * math.pi], atol=1e-3)


def test_without_a_base_frame_poses_are_in_the_root_link():
    arm = ArmKinematics(MIXED, ['turn', 'slide'], 'tool')
    np.testing.assert_allclose(arm.fk(np.zeros(2))[:3, 3], [0.5, 0.0, 1.2], atol=1e-12)


@pytest.mark.parametrize(
    ('urdf', 'joints', 'tcp', 'base', 'message'),
    [
        (MIXED, ['turn', 'elbow'], 'tool', None, 'joint elbow; it has extra, slide, turn'),
        (MIXED, ['mount'], 'tool', None, 'no moving joint mount'),
        (MIXED, ['turn'], 'hand', None, 'no link "hand"; it has a, b, base, c, tool, world'),
        (MIXED, ['turn'], 'tool', 'floor', 'no link "floor"'),
        (MIXED, ['turn'], 'tool', 'a', 'base frame "a" moves'),
        (MIXED, ['turn', 'turn'], 'tool', None, 'twice'),
        (MIXED, [], 'tool', None, 'at least one'),
        ('', ['turn'], 'tool', None, 'not well-formed XML'),
        ('<robot', ['turn'], 'tool', None, 'not well-formed XML'),
        ('<sdf/>', ['turn'], 'tool', None, 'expected <robot>'),
        (MIXED.replace(link('world'), ''), ['turn'], 'tool', None, 'not a usable URDF'),
        (MIXED.replace('upper="1"', 'upper="-1"'), ['slide'], 'tool', None, 'lower < upper'),
    ],
)  # fmt: skip
def test_an_unusable_description_is_named_in_one_line(urdf, joints, tcp, base, message):
    with pytest.raises(KinematicsError, match=message) as caught:
        ArmKinematics(urdf, joints, tcp, base)
    assert isinstance(caught.value, InputError)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('q', [np.zeros(5), np.full(6, np.nan)])
def test_unusable_joint_positions_are_refused(kinematics, q):
    with pytest.raises(KinematicsError, match='joint positions'):
        kinematics.fk(q)
    with pytest.raises(KinematicsError, match='joint positions'):
        kinematics.ik(np.eye(4), q)


def test_a_target_that_is_not_finite_is_refused(kinematics):
    with pytest.raises(KinematicsError, match='not a finite'):
        kinematics.ik(np.full((4, 4), np.nan), HOME)
