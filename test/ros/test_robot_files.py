"""The parameter files of real robots can be used as they are, and stay within what is published.

A lab copies one of them, measures its workspace and starts: a misspelt name, a missing limit or a
limit beyond the data sheet would only show on the robot.
"""

from __future__ import annotations

import math
import re

import pytest
import yaml
from ros_harness import ROOT

from efficientvla_ros.cli.parameter_file import read_parameters
from efficientvla_ros.ros.parameters.policy import TABLE
from efficientvla_ros.ros.parameters.safety import joint_limits, missing_limits

FILES = sorted((ROOT / 'config/robots').glob('*.yaml'))
PAGE = (ROOT / 'docs/real_arm.md').read_text(encoding='utf-8')

DEGREES = math.pi / 180.0
# Published for each joint: lower and upper limit, rad, and speed, rad/s. Gripper: m or rad.
WIDOWX = {
    'waist': (-180.0 * DEGREES, 180.0 * DEGREES, 180.0 * DEGREES),
    'shoulder': (-108.0 * DEGREES, 114.0 * DEGREES, 180.0 * DEGREES),
    'elbow': (-123.0 * DEGREES, 92.0 * DEGREES, 180.0 * DEGREES),
    'forearm_roll': (-180.0 * DEGREES, 180.0 * DEGREES, 180.0 * DEGREES),
    'wrist_angle': (-100.0 * DEGREES, 123.0 * DEGREES, 180.0 * DEGREES),
    'wrist_rotate': (-180.0 * DEGREES, 180.0 * DEGREES, 180.0 * DEGREES),
    'left_finger': (0.015, 0.037, 1.0),
}
FR3 = {
    'fr3_joint1': (-2.7437, 2.7437, 2.62),
    'fr3_joint2': (-1.7837, 1.7837, 2.62),
    'fr3_joint3': (-2.9007, 2.9007, 2.62),
    'fr3_joint4': (-3.0421, -0.1518, 2.62),
    'fr3_joint5': (-2.8065, 2.8065, 5.26),
    'fr3_joint6': (0.5445, 4.5169, 4.18),
    'fr3_joint7': (-3.0159, 3.0159, 5.26),
    'fr3_finger_joint1': (0.0, 0.04, 0.2),
}
UR_JOINTS = ('shoulder_pan', 'shoulder_lift', 'elbow', 'wrist_1', 'wrist_2', 'wrist_3')
UR5E = {
    **{f'{name}_joint': (-2.0 * math.pi, 2.0 * math.pi, math.pi) for name in UR_JOINTS},
    'elbow_joint': (-math.pi, math.pi, math.pi),
    'robotiq_85_left_knuckle_joint': (0.0, 0.8, 0.5),
}
PUBLISHED = {'widowx_250s': WIDOWX, 'franka_fr3': FR3, 'franka_fr3_impedance': FR3}
PUBLISHED |= {'ur5e': UR5E, 'ur5e_servo': UR5E}
REACH = {'widowx_250s': 0.65, 'franka_fr3': 0.855, 'franka_fr3_impedance': 0.855}
REACH |= {'ur5e': 0.85, 'ur5e_servo': 0.85}
FROM_URDF = 1000.0


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def path(request):
    return request.param


def test_there_is_a_file_for_every_robot():
    assert {file.stem for file in FILES} == set(PUBLISHED)


def test_every_file_is_for_any_namespace(path):
    tree = yaml.safe_load(path.read_text(encoding='utf-8'))
    assert list(tree) == ['/**'] and list(tree['/**']) == ['ros__parameters']


def test_every_value_is_one_that_the_node_takes(path):
    settings = TABLE.settings(
        read_parameters(path)
    )  # raises for unknown names, ranges, contradictions
    assert settings['safety.dry_run'] is True, 'moving is switched on by hand'
    assert settings['safety.speed_scale'] <= 0.1


def test_nothing_that_a_real_arm_needs_is_missing(path):
    settings = TABLE.settings(read_parameters(path)).replaced({'safety.dry_run': False})
    assert missing_limits(settings) == []


def test_nothing_that_differs_from_robot_to_robot_is_left_to_the_defaults(path):
    groups = ('cameras.names', 'control.base_frame', 'control.tcp_frame', 'control.joints')
    outputs = ('command.interface', 'command.topic', 'gripper.interface', 'gripper.topic')
    assert {*groups, *outputs, 'gripper.joint', 'model.path'} <= set(read_parameters(path))


def test_limits_lie_within_the_published_ones(path):
    settings, published = TABLE.settings(read_parameters(path)), PUBLISHED[path.stem]
    joints = settings['control.joints']
    lower, upper = joint_limits(settings)
    for joint, low, high in zip(joints, lower, upper, strict=True):
        assert low == -FROM_URDF or low >= published[joint][0]
        assert high == FROM_URDF or high <= published[joint][1]
        assert settings['safety.max_joint_velocity'] <= published[joint][2] / 2.0
    fingers = published[settings['gripper.joint']]
    for name in ('gripper.open_value', 'gripper.close_value'):
        assert fingers[0] <= settings[name] <= fingers[1]


def test_the_workspace_is_in_front_of_the_arm_and_within_reach(path):
    settings = TABLE.settings(read_parameters(path))
    low, high = settings['safety.workspace_min'], settings['safety.workspace_max']
    assert low[0] > 0.0, 'not around the base'
    assert low[2] > 0.0, 'above the table'
    assert math.hypot(high[0], max(abs(low[1]), high[1])) < REACH[path.stem]


def test_the_launch_file_has_nothing_of_a_robot():
    text = (ROOT / 'launch/policy.launch.py').read_text(encoding='utf-8')
    assert 'remappings' not in text
    names = {name for robot in PUBLISHED.values() for name in robot}
    assert not [name for name in names if name in text]


def test_the_page_names_every_file(path):
    assert path.name in PAGE


PAGES = ('real_arm', 'frames_and_units', 'troubleshooting', 'security')
PREFIXES = {name.partition('.')[0] for name in TABLE.specs if '.' in name}
OTHERS = {'acceleration.audit', 'acceleration.channels', 'acceleration.tokens'}


@pytest.mark.parametrize('page', PAGES)
def test_pages_name_parameters_that_there_are(page):
    text = (ROOT / f'docs/{page}.md').read_text(encoding='utf-8')
    found = re.findall(rf'\b((?:{"|".join(sorted(PREFIXES))})\.[a-z_]+(?:\.[a-z_]+)*)\b', text)
    files = {name for name in found if name.rpartition('.')[2] in ('py', 'md', 'yaml', 'xml')}
    unknown = set(found) - set(TABLE.specs) - OTHERS - files
    assert not unknown, f'docs/{page}.md: no parameters {sorted(unknown)}'
