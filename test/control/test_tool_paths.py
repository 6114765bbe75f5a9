"""Timed tool poses: interpolation, steps in time, mean poses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from efficientvla_ros.control.rotations import (
    make_pose,
    matrix_from_rotation_vector,
    quaternion_from_matrix,
    rotation_angle,
)
from efficientvla_ros.control.tool_path import ToolPath, interpolated, mean_pose

MS = 1_000_000
vectors = st.lists(st.floats(-1.0, 1.0), min_size=3, max_size=3).map(np.array)


def path(count: int = 4) -> ToolPath:
    """One centimetre and 0.1 rad about z a step of 200 ms, from a stamp of 1 s."""
    poses = [
        make_pose(matrix_from_rotation_vector(np.array([0, 0, 0.1 * k])), [0.01 * k, 0, 0])
        for k in range(count + 1)
    ]
    times_ns = 1000 * MS + 200 * MS * np.arange(1, count + 1)
    return ToolPath(1000 * MS, poses[0], times_ns, np.stack(poses[1:]), np.arange(count) % 2.0)


@pytest.mark.parametrize(
    ('time_ms', 'x'), [(900, 0.0), (1000, 0.0), (1100, 0.005), (1200, 0.01), (1750, 0.0375),
                       (1800, 0.04), (9000, 0.04)],
)  # fmt: skip
def test_a_pose_is_interpolated_at_its_time_and_held_outside(time_ms, x):
    pose = path().at(time_ms * MS)
    assert pose[0, 3] == pytest.approx(x)
    assert rotation_angle(pose[:3, :3]) == pytest.approx(10 * x)


def test_a_gripper_value_acts_during_its_step():
    values = [path().gripper_at(time_ms * MS) for time_ms in (1000, 1200, 1201, 1400, 1401, 5000)]
    assert values == [0.0, 0.0, 1.0, 1.0, 0.0, 1.0]


def test_steps_after_a_time_are_those_that_end_after_it():
    assert path().after(1200 * MS).times_ns.tolist() == [1400 * MS, 1600 * MS, 1800 * MS]
    assert len(path().after(1800 * MS).times_ns) == 0


@given(vectors, vectors, st.floats(0.05, 0.95))
def test_the_mean_of_two_poses_lies_on_the_shortest_turn_between_them(a, b, weight):
    first = make_pose(matrix_from_rotation_vector(a), a)
    second = make_pose(matrix_from_rotation_vector(b), b)
    if rotation_angle(first[:3, :3] @ second[:3, :3].T) > 3.0:
        return  # almost opposite: any way round is as short
    mean = mean_pose(np.stack([first, second]), np.array([1 - weight, weight]))
    np.testing.assert_allclose(mean[:3, 3], (1 - weight) * a + weight * b, atol=1e-12)
    parts = [rotation_angle(mean[:3, :3] @ pose[:3, :3].T) for pose in (first, second)]
    whole = rotation_angle(first[:3, :3] @ second[:3, :3].T)
    assert sum(parts) == pytest.approx(whole, abs=1e-6)
    if weight == 0.5:
        np.testing.assert_allclose(mean, interpolated(first, second, 0.5), atol=1e-6)


@given(st.lists(vectors, min_size=2, max_size=6), st.integers(0, 99))
def test_the_mean_rotation_is_that_of_the_quaternions(turns, seed):
    """Markley's mean: the largest eigenvector of the sum of outer products."""
    rotations = [matrix_from_rotation_vector(0.8 * turn) for turn in turns]
    weights = np.random.default_rng(seed).uniform(0.1, 1.0, len(turns))
    quaternions = np.array([quaternion_from_matrix(rotation) for rotation in rotations])
    _, vectors_ = np.linalg.eigh(np.einsum('i,ij,ik->jk', weights, quaternions, quaternions))
    poses = np.stack([make_pose(rotation, np.zeros(3)) for rotation in rotations])
    found = quaternion_from_matrix(mean_pose(poses, weights)[:3, :3])
    assert abs(found @ vectors_[:, -1]) == pytest.approx(1.0, abs=1e-9)


def test_the_mean_is_a_rotation_even_of_opposite_ones():
    turns = [
        np.zeros(3),
        np.array([np.pi, 0, 0]),
        np.array([0, np.pi, 0]),
        np.array([0, 0, np.pi]),
    ]
    poses = np.stack([make_pose(matrix_from_rotation_vector(t), np.zeros(3)) for t in turns])
    rotation = mean_pose(poses, np.ones(4))[:3, :3]
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(rotation) == pytest.approx(1.0)
