"""Rotation conventions: static xyz Euler angles, xyzw quaternions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from efficientvla_ros.control import rotations as rot

angle = st.floats(-math.pi, math.pi)
pitch_angle = st.floats(-math.pi / 2 + 1e-3, math.pi / 2 - 1e-3)


def about(axis: int, theta: float) -> np.ndarray:
    """Textbook rotation about one fixed axis, independent of the code under test."""
    matrix = np.eye(3)
    i, j = (axis + 1) % 3, (axis + 2) % 3
    matrix[i, i] = matrix[j, j] = math.cos(theta)
    matrix[j, i], matrix[i, j] = math.sin(theta), -math.sin(theta)
    return matrix


@given(angle, angle, angle)
def test_euler_angles_turn_about_the_fixed_axes_x_then_y_then_z(roll, pitch, yaw):
    expected = about(2, yaw) @ about(1, pitch) @ about(0, roll)
    np.testing.assert_allclose(rot.matrix_from_euler(roll, pitch, yaw), expected, atol=1e-12)


@given(angle, pitch_angle, angle)
def test_euler_angles_come_back_from_the_matrix(roll, pitch, yaw):
    back = rot.euler_from_matrix(rot.matrix_from_euler(roll, pitch, yaw))
    difference = back - [roll, pitch, yaw]
    np.testing.assert_allclose(np.sin(difference / 2), 0.0, atol=1e-9)


@given(angle, st.sampled_from([-math.pi / 2, math.pi / 2]), angle)
def test_at_gimbal_lock_the_angles_still_describe_the_same_rotation(roll, pitch, yaw):
    matrix = rot.matrix_from_euler(roll, pitch, yaw)
    back = rot.matrix_from_euler(*rot.euler_from_matrix(matrix))
    np.testing.assert_allclose(back, matrix, atol=1e-7)


@given(angle, angle, angle)
def test_quaternion_and_matrix_agree(roll, pitch, yaw):
    matrix = rot.matrix_from_euler(roll, pitch, yaw)
    quaternion = rot.quaternion_from_matrix(matrix)
    assert np.linalg.norm(quaternion) == pytest.approx(1.0)
    assert quaternion[3] >= 0.0
    np.testing.assert_allclose(rot.matrix_from_quaternion(quaternion), matrix, atol=1e-12)


@given(st.floats(0.0, math.pi - 1e-6), angle, angle)
def test_rotation_vector_has_the_angle_as_its_length(theta, longitude, latitude):
    axis = np.array([
        math.cos(latitude) * math.cos(longitude),
        math.cos(latitude) * math.sin(longitude),
        math.sin(latitude),
    ])  # fmt: skip
    matrix = rot.matrix_from_rotation_vector(theta * axis)
    np.testing.assert_allclose(rot.rotation_vector_from_matrix(matrix), theta * axis, atol=1e-7)
    assert rot.rotation_angle(matrix) == pytest.approx(theta, abs=1e-7)


def test_a_quarter_turn_about_z_takes_x_to_y():
    quaternion = np.array([0.0, 0.0, math.sqrt(0.5), math.sqrt(0.5)])
    matrix = rot.matrix_from_quaternion(quaternion)
    np.testing.assert_allclose(matrix @ [1, 0, 0], [0, 1, 0], atol=1e-12)
    np.testing.assert_allclose(rot.euler_from_quaternion(quaternion), [0, 0, math.pi / 2])
    np.testing.assert_allclose(rot.quaternion_from_euler(0, 0, math.pi / 2), quaternion)


def test_a_quaternion_need_not_have_unit_length():
    np.testing.assert_allclose(
        rot.matrix_from_quaternion(np.array([0, 0, 3, 3])), about(2, math.pi / 2), atol=1e-12
    )


@pytest.mark.parametrize('bad', [[0, 0, 0, 0], [np.nan, 0, 0, 1]])
def test_a_quaternion_without_direction_is_refused(bad):
    with pytest.raises(ValueError, match='no direction'):
        rot.matrix_from_quaternion(np.array(bad, dtype=float))
