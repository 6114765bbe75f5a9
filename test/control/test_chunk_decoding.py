"""Deltas of a chunk to absolute tool poses."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from efficientvla_ros.control.decode import decode_chunk
from efficientvla_ros.control.gripper import gripper_states
from efficientvla_ros.control.rotations import euler_from_matrix, make_pose, matrix_from_euler
from efficientvla_ros.types import InputError

chunks = arrays(np.float64, (5, 7), elements=st.floats(-1, 1))


@given(chunks, st.lists(st.floats(-1, 1), min_size=6, max_size=6))
def test_the_deltas_are_what_lies_between_one_pose_and_the_next(actions, start):
    anchor = make_pose(matrix_from_euler(*start[3:]), np.array(start[:3]))
    poses, gripper = decode_chunk(actions, anchor)
    before = anchor
    for pose, action in zip(poses, actions):
        np.testing.assert_allclose(pose[:3, 3] - before[:3, 3], action[:3], atol=1e-12)
        turn = pose[:3, :3] @ before[:3, :3].T
        np.testing.assert_allclose(euler_from_matrix(turn), action[3:6], atol=1e-9)
        before = pose
    np.testing.assert_array_equal(gripper, actions[:, 6])


def test_translations_are_in_the_base_frame_however_the_tool_is_turned():
    anchor = make_pose(matrix_from_euler(0.0, math.pi / 2, 0.3), np.zeros(3))
    actions = np.zeros((2, 7))
    actions[:, 0] = 0.1
    poses, _ = decode_chunk(actions, anchor)
    np.testing.assert_allclose(poses[:, :3, 3], [[0.1, 0, 0], [0.2, 0, 0]])
    np.testing.assert_allclose(poses[1, :3, :3], anchor[:3, :3])


def test_rotations_turn_about_the_axes_of_the_base():
    anchor = make_pose(matrix_from_euler(0.0, math.pi / 2, 0.0), np.ones(3))
    actions = np.zeros((1, 7))
    actions[0, 5] = math.pi / 2
    poses, _ = decode_chunk(actions, anchor)
    np.testing.assert_allclose(poses[0] @ [0, 0, 1, 0], [0, 1, 0, 0], atol=1e-12)
    np.testing.assert_allclose(poses[0, :3, 3], 1.0)


@pytest.mark.parametrize('shape', [(0, 7), (8, 6), (7,), (1, 8, 7)])
def test_another_shape_is_refused(shape):
    with pytest.raises(InputError, match=r'expected \(horizon, 7\)'):
        decode_chunk(np.zeros(shape), np.eye(4))


def test_the_gripper_follows_the_threshold_without_hysteresis():
    states = gripper_states(np.array([1.0, 0.6, 0.5, 0.4]), 0.5, 0.0, None)
    assert states.tolist() == [True, True, False, False]


@pytest.mark.parametrize(
    ('was_open', 'expected'),
    [
        (True, [True, True, False, False, True]),
        (False, [False, False, False, False, True]),
        (None, [True, True, False, False, True]),
    ],
)
def test_within_the_hysteresis_band_the_gripper_stays_as_it_was(was_open, expected):
    values = np.array([0.6, 0.4, 0.1, 0.6, 0.9])
    assert gripper_states(values, 0.5, 0.2, was_open).tolist() == expected
