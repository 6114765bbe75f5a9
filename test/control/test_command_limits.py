"""Caps on steps, workspace and joint velocity."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from efficientvla_ros.control.config import ControlConfig
from efficientvla_ros.control.limits import cap_steps, clamp_workspace, limit_velocity
from efficientvla_ros.control.rotations import matrix_from_euler, rotation_angle

chunks = arrays(np.float64, (4, 7), elements=st.floats(-0.5, 0.5))


@given(chunks)
def test_no_step_is_longer_than_its_cap(actions):
    capped, moved, turned = cap_steps(actions, 0.05, 0.2)
    assert (np.linalg.norm(capped[:, :3], axis=1) <= 0.05 + 1e-12).all()
    angles = [rotation_angle(matrix_from_euler(*row[3:6])) for row in capped]
    assert max(angles) <= 0.2 + 1e-9
    before = [rotation_angle(matrix_from_euler(*row[3:6])) for row in actions]
    assert moved == (np.linalg.norm(actions[:, :3], axis=1) > 0.05).sum()
    assert turned == (np.array(before) > 0.2).sum()
    np.testing.assert_array_equal(capped[:, 6], actions[:, 6])


@given(chunks)
def test_a_capped_translation_keeps_its_direction(actions):
    capped, _, _ = cap_steps(actions, 0.05, 9.0)
    np.testing.assert_allclose(np.cross(capped[:, :3], actions[:, :3]), 0.0, atol=1e-12)
    assert (np.sum(capped[:, :3] * actions[:, :3], axis=1) >= 0.0).all()


def test_steps_within_the_caps_are_left_bit_for_bit():
    actions = np.full((3, 7), 0.02)
    capped, moved, turned = cap_steps(actions, 0.05, 0.2)
    np.testing.assert_array_equal(capped, actions)
    assert (moved, turned) == (0, 0)


def poses_at(*positions) -> np.ndarray:
    poses = np.tile(np.eye(4), (len(positions), 1, 1))
    poses[:, :3, 3] = positions
    return poses


def test_positions_are_clamped_to_the_workspace():
    poses, changed = clamp_workspace(
        poses_at([0.1, 0, 0], [0.9, 0, -0.9]), np.eye(4), -0.5 * np.ones(3), 0.5 * np.ones(3)
    )
    np.testing.assert_allclose(poses[:, :3, 3], [[0.1, 0, 0], [0.5, 0, -0.5]])
    assert changed == 1


def test_a_tool_outside_the_workspace_is_not_pulled_in_but_goes_no_further_out():
    poses, _ = clamp_workspace(
        poses_at([0.7, 0, 0], [0.9, 0, 0], [0.6, 0, 0]),
        poses_at([0.8, 0, 0])[0],
        -0.5 * np.ones(3),
        0.5 * np.ones(3),
    )
    np.testing.assert_allclose(poses[:, 0, 3], [0.7, 0.8, 0.6])


@given(arrays(np.float64, (5, 3), elements=st.floats(-3, 3)))
def test_no_move_between_waypoints_needs_more_than_the_velocity_limit(positions):
    times = np.array([0.05, 0.25, 0.45, 0.65, 0.85])
    limit = np.array([1.0, 2.0, 0.5])
    limited, changed = limit_velocity(np.zeros(3), times, positions, limit)
    moves = np.diff(np.vstack([np.zeros(3), limited]), axis=0)
    # Cubics from rest to rest peak at 1.5 times the mean.
    peaks = 1.5 * np.abs(moves) / np.diff([0.0, *times])[:, None]
    assert (peaks <= limit * (1 + 1e-6)).all()
    assert (changed == 0) == np.array_equal(limited, positions)


def test_waypoints_after_a_slow_one_catch_up():
    times = np.arange(1, 5) * 0.2
    positions = np.array([[0.3], [0.3], [0.3], [0.3]])
    limited, changed = limit_velocity(np.zeros(1), times, positions, np.ones(1))
    np.testing.assert_allclose(limited[:, 0], [2 / 15, 4 / 15, 0.3, 0.3])
    assert changed == 2


@pytest.mark.parametrize(
    ('name', 'value'),
    [
        ('execute_steps', 0),
        ('max_joint_velocity', 0.0),
        ('max_step_translation', -0.1),
        ('max_step_rotation', float('nan')),
        ('max_reach_error', 0.0),
        ('gripper_open', float('inf')),
        ('gripper_threshold', 1.5),
        ('gripper_hysteresis', 0.5),
        ('min_lead', -0.1),
        ('execution', 'average'),
        ('blend_steps', 0),
        ('ensemble_window', 0),
        ('ensemble_alpha', float('nan')),
        ('ensemble_decay', -1.0),
        ('speed_scale', 0.0),
        ('max_joint_acceleration', -1.0),
        ('max_joint_acceleration', float('inf')),
        ('workspace_min', (2.0, 0.0, 0.0)),
    ],
)
def test_an_unusable_setting_is_refused_and_quoted(name, value):
    with pytest.raises(ValueError, match=name) as caught:
        ControlConfig(**{name: value})
    assert repr(value) in str(caught.value)
