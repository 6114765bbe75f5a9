"""Limits that a real arm needs: what is missing is named, and nothing is needed for a dry run."""

from __future__ import annotations

import math

import numpy as np
import pytest

from efficientvla_ros.control.joint_limits import narrowed, outside
from efficientvla_ros.control.kinematics import ArmKinematics
from efficientvla_ros.ros.parameters.control_settings import control_config
from efficientvla_ros.ros.parameters.policy import TABLE
from efficientvla_ros.ros.parameters.safety import (
    FROM_URDF,
    check_limits_are_set,
    joint_limits,
    missing_limits,
)
from efficientvla_ros.ros.parameters.tabletop_arm import TABLETOP_ARM
from efficientvla_ros.simulation.arm import ARM_JOINTS, TCP_FRAME, arm_urdf
from efficientvla_ros.types import InputError

REQUIRED = [name for name in TABLETOP_ARM if name != 'safety.dry_run']


def test_a_dry_run_is_the_default_and_needs_nothing():
    settings = TABLE.settings()
    assert settings['safety.dry_run'] is True
    check_limits_are_set(settings)
    config = control_config(settings)
    assert config.max_joint_velocity == math.inf
    assert set(config.workspace_max) == {math.inf}


def test_every_missing_limit_is_named_in_one_line():
    with pytest.raises(InputError) as caught:
        check_limits_are_set(TABLE.settings({'safety.dry_run': False}))
    line = str(caught.value)
    assert '\n' not in line
    for name in REQUIRED:
        assert name in line


@pytest.mark.parametrize('name', [n for n in REQUIRED if not n.startswith('gripper')])
def test_one_missing_limit_is_named_alone(name):
    given = {key: value for key, value in TABLETOP_ARM.items() if key != name}
    assert missing_limits(TABLE.settings(given)) == [name]


def test_an_arm_without_a_gripper_needs_no_gripper_values():
    given = {k: v for k, v in TABLETOP_ARM.items() if not k.startswith('gripper')}
    assert missing_limits(TABLE.settings(given)) == ['gripper.open_value', 'gripper.close_value']
    assert missing_limits(TABLE.settings({**given, 'gripper.interface': 'none'})) == []


def test_the_simulated_arm_has_all_limits():
    check_limits_are_set(TABLE.settings(TABLETOP_ARM))


@pytest.fixture(scope='module')
def arm():
    return ArmKinematics(arm_urdf(), ARM_JOINTS, TCP_FRAME)


def test_joint_limits_narrow_those_of_the_description(arm):
    described = arm.lower, arm.upper
    wanted = joint_limits(TABLE.settings())
    assert narrowed(ARM_JOINTS, described, wanted, FROM_URDF)[0].tolist() == arm.lower.tolist()
    lower = [-1000.0] * 6
    lower[1] = -0.5
    wanted = joint_limits(TABLE.settings({'safety.joint_lower': lower}))
    low, high = narrowed(ARM_JOINTS, described, wanted, FROM_URDF)
    assert low[1] == -0.5
    assert np.delete(low, 1).tolist() == np.delete(arm.lower, 1).tolist()
    assert high.tolist() == arm.upper.tolist()


def test_a_joint_limit_beyond_the_description_is_named(arm):
    wanted = joint_limits(TABLE.settings({'safety.joint_upper': [90.0]}))  # degrees
    with pytest.raises(InputError, match=r'"waist", expected a range within \[-3.1, 3.1\]'):
        narrowed(ARM_JOINTS, (arm.lower, arm.upper), wanted, FROM_URDF)


def test_an_arm_clearly_outside_its_limits_is_named(arm):
    q = np.zeros(6)
    q[2] = arm.upper[2] + 0.01  # measurements are not exact
    assert outside(ARM_JOINTS, q, arm.lower, arm.upper) == ''
    q[2] = arm.upper[2] + 0.2
    assert 'joint "elbow"' in outside(ARM_JOINTS, q, arm.lower, arm.upper)
