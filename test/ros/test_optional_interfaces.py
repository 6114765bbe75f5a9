"""Interfaces whose package is missing or too old are named when the node is configured."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType

import pytest
from ros_harness import PolicyStatus, Robot

from efficientvla_ros.ros.outputs.optional_interfaces import control_action
from efficientvla_ros.types import InputError


def test_a_type_that_is_there_is_returned(monkeypatch):
    module = ModuleType('control_msgs.action')
    module.GripperCommand = kind = type('GripperCommand', (), {})
    monkeypatch.setitem(sys.modules, 'control_msgs.action', module)
    monkeypatch.setitem(sys.modules, 'control_msgs', ModuleType('control_msgs'))
    assert control_action('GripperCommand', 'gripper.interface', 'gripper_command') is kind
    with pytest.raises(InputError, match='installed here is too old') as error:
        control_action('ParallelGripperCommand', 'gripper.interface', 'parallel_gripper_command')
    assert 'parameter gripper.interface: got "parallel_gripper_command"' in str(error.value)


def test_a_package_that_lacks_is_named_with_the_way_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, 'control_msgs', None)
    monkeypatch.setitem(sys.modules, 'control_msgs.action', None)
    monkeypatch.setenv('ROS_DISTRO', 'jazzy')
    with pytest.raises(InputError) as error:
        control_action('GripperCommand', 'gripper.interface', 'gripper_command')
    line = str(error.value)
    assert 'parameter gripper.interface: got "gripper_command"' in line
    assert 'install ros-jazzy-control-msgs' in line
    assert '\n' not in line


@pytest.mark.ros
@pytest.mark.skipif(
    importlib.util.find_spec('control_msgs') is not None, reason='control_msgs is installed'
)
def test_the_node_says_at_configure_what_is_missing(start_policy, ros_context):
    process = start_policy('-p', 'command.interface:=follow_joint_trajectory')
    robot = Robot(ros_context)
    try:
        robot.wait_for_state(PolicyStatus.UNCONFIGURED)
        assert not robot.change('configure')
        assert robot.lifecycle_state() == 'unconfigured'
    finally:
        robot.close()
    line = process.wait_for_line('configure failed')
    assert 'parameter command.interface: got "follow_joint_trajectory"' in line
    assert 'control_msgs cannot be imported' in line
    assert len(process.lines(r'\[ERROR\]')) == 1
    assert 'Traceback' not in process.output
