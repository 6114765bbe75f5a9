"""The simulator's MJCF and the robot's URDF describe the same arm."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from efficientvla_ros.control.kinematics import ArmKinematics
from efficientvla_ros.simulation.arm import (
    ARM_JOINTS,
    FINGER_OPEN,
    HOME_POSITIONS,
    JOINT_NAMES,
    LINKS,
    MIRROR_JOINT,
    TCP_FRAME,
    arm_mjcf,
    arm_urdf,
)
from efficientvla_ros.simulation.backend import mujoco
from efficientvla_ros.simulation.tasks import WORKSPACE_LOWER, WORKSPACE_UPPER


@pytest.fixture(scope='module')
def kinematics():
    return ArmKinematics(arm_urdf(), ARM_JOINTS, TCP_FRAME)


@pytest.fixture(scope='module')
def physics():
    model = mujoco.MjModel.from_xml_string(arm_mjcf())
    return model, mujoco.MjData(model)


@given(fractions=st.lists(st.floats(0.0, 1.0), min_size=6, max_size=6))
@settings(max_examples=100, deadline=None)
def test_forward_kinematics_agree(kinematics, physics, fractions):
    model, data = physics
    q = kinematics.lower + np.array(fractions) * (kinematics.upper - kinematics.lower)
    for name, position in zip(ARM_JOINTS, q):
        data.qpos[model.joint(name).qposadr[0]] = position
    mujoco.mj_kinematics(model, data)
    pose = kinematics.fk(q)
    np.testing.assert_allclose(data.site(TCP_FRAME).xpos, pose[:3, 3], atol=1e-6)
    np.testing.assert_allclose(data.site(TCP_FRAME).xmat.reshape(3, 3), pose[:3, :3], atol=1e-6)


def test_limits_agree(kinematics, physics):
    model, _ = physics
    for index, name in enumerate(ARM_JOINTS):
        low, high = model.joint(name).range
        assert (low, high) == pytest.approx((kinematics.lower[index], kinematics.upper[index]))


def test_masses_and_inertias_agree(physics):
    model, _ = physics
    robot = ElementTree.fromstring(arm_urdf())
    for link in LINKS:
        inertial = robot.find(f"link[@name='{link.name}']/inertial")
        moments = [float(inertial.find('inertia').get(key)) for key in ('ixx', 'iyy', 'izz')]
        body = model.body(link.name)
        assert float(inertial.find('mass').get('value')) == pytest.approx(body.mass[0])
        # MuJoCo sorts the principal moments.
        assert sorted(moments) == pytest.approx(sorted(body.inertia), rel=1e-4)
        assert min(moments) > 0.0


def test_urdf_names_every_joint_and_couples_the_fingers():
    robot = ElementTree.fromstring(arm_urdf())
    joints = {joint.get('name'): joint for joint in robot.findall('joint')}
    assert set(JOINT_NAMES) <= set(joints)
    assert joints[MIRROR_JOINT].find('mimic').get('joint') == JOINT_NAMES[-1]
    assert float(joints['gripper'].find('limit').get('upper')) == FINGER_OPEN


def test_home_points_straight_down(kinematics):
    pose = kinematics.fk(np.array(HOME_POSITIONS[:-1]))
    np.testing.assert_allclose(pose[:3, 3], (0.26, 0.0, 0.20), atol=1e-6)
    np.testing.assert_allclose(pose[:3, 0], (0.0, 0.0, -1.0), atol=1e-6)


@pytest.mark.parametrize('height', [0.028, 0.10, 0.16])
def test_whole_workspace_is_reached_with_the_wrist_down(kinematics, height):
    home = np.array(HOME_POSITIONS[:-1])
    target = kinematics.fk(home)
    margin = np.radians(5.0)
    for x in np.linspace(WORKSPACE_LOWER[0], WORKSPACE_UPPER[0], 5):
        for y in np.linspace(WORKSPACE_LOWER[1], WORKSPACE_UPPER[1], 7):
            target[:3, 3] = x, y, height
            result = kinematics.ik(target, home)
            assert result.converged, (x, y, height)
            assert np.all(result.q > kinematics.lower + margin)
            assert np.all(result.q < kinematics.upper - margin)
