"""Twists and poses of the tool from samples of its path."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from efficientvla_ros.control.kinematics import ArmKinematics
from efficientvla_ros.control.rotations import (
    make_pose,
    matrix_from_rotation_vector,
    quaternion_from_matrix,
)
from efficientvla_ros.control.tool_motion import (
    cap_twist,
    nearest_quaternion,
    tool_twist,
    twist_in_tool,
)
from efficientvla_ros.simulation.arm import ARM_JOINTS, HOME_POSITIONS, TCP_FRAME, arm_urdf

HOME = np.array(HOME_POSITIONS[:6])
vectors = st.lists(st.floats(-1.0, 1.0), min_size=3, max_size=3).map(np.array)
twists = st.lists(st.floats(-5.0, 5.0), min_size=6, max_size=6).map(np.array)


@given(vectors, vectors, vectors, vectors, st.floats(0.002, 0.1))
def test_a_twist_carries_the_tool_from_one_pose_to_the_next(turn, place, linear, angular, period):
    start = make_pose(matrix_from_rotation_vector(turn), place)
    rotation = matrix_from_rotation_vector(angular * period) @ start[:3, :3]
    end = make_pose(rotation, place + linear * period)
    twist = tool_twist(start, end, period)
    np.testing.assert_allclose(twist, [*linear, *angular], atol=1e-6)


@given(vectors, twists)
def test_in_the_tool_the_same_motion_has_other_axes(turn, twist):
    rotation = matrix_from_rotation_vector(turn)
    turned = twist_in_tool(twist, rotation)
    np.testing.assert_allclose(rotation @ turned[:3], twist[:3], atol=1e-9)
    np.testing.assert_allclose(rotation @ turned[3:], twist[3:], atol=1e-9)


@given(twists, st.floats(0.01, 2.0), st.floats(0.01, 2.0))
def test_a_capped_twist_keeps_its_direction_and_both_limits(twist, linear, angular):
    capped, changed = cap_twist(twist, linear, angular)
    assert np.linalg.norm(capped[:3]) <= linear * (1.0 + 1e-9)
    assert np.linalg.norm(capped[3:]) <= angular * (1.0 + 1e-9)
    if changed:
        scale = np.linalg.norm(capped) / np.linalg.norm(twist)
        np.testing.assert_allclose(capped, scale * twist, atol=1e-9)
    else:
        np.testing.assert_array_equal(capped, twist)


def test_quaternions_do_not_flip_their_sign_over_a_full_turn():
    previous, flips = None, 0
    for angle in np.linspace(0.0, 4.0 * np.pi, 200):
        raw = quaternion_from_matrix(matrix_from_rotation_vector(np.array([0.0, 0.0, angle])))
        quaternion = nearest_quaternion(raw, previous)
        flips += int(raw[3] * quaternion[3] < 0.0 or (quaternion != raw).any())
        if previous is not None:
            assert np.linalg.norm(quaternion - previous) < 0.05
        previous = quaternion
    assert flips > 0  # the raw ones would have jumped


def test_a_copy_of_the_arm_works_on_its_own():
    arm = ArmKinematics(arm_urdf(), ARM_JOINTS, TCP_FRAME)
    twin, there = arm.copy(), HOME + 0.1
    poses = arm.fk(HOME), twin.fk(there)
    np.testing.assert_array_equal(arm.fk(HOME), poses[0])
    np.testing.assert_array_equal(arm.fk(there), poses[1])
    assert twin.joint_names == arm.joint_names
    assert poses[0] != pytest.approx(poses[1])
