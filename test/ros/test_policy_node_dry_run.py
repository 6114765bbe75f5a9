"""Nothing moves by default: dry run, limits that a real arm needs, and the stop topic.

Regression guarded: default limits that fit no particular arm never engaged on a real one.
"""

from __future__ import annotations

import pytest
from ros_harness import LATCHED, is_hold
from std_msgs.msg import Bool
from trajectory_msgs.msg import JointTrajectory

from efficientvla_ros.msg import PolicyStatus
from efficientvla_ros.ros.parameters.policy import TABLE
from efficientvla_ros.ros.parameters.tabletop_arm import TABLETOP_ARM

pytestmark = pytest.mark.ros

LIMITS = {name: value for name, value in TABLETOP_ARM.items() if name != 'safety.dry_run'}


def by_keyword(name: str) -> str:
    return name.replace('.', '__')


def test_from_a_dry_run_to_an_arm_that_is_commanded(start_policy, make_robot, checkpoints):
    defaults = [
        argument
        for name in TABLETOP_ARM
        for argument in ('-p', f'{name}:={str(TABLE.specs[name].default).lower()}')
    ]
    process = start_policy(
        '-r', '__ns:=/dry', '-p', f'model.path:={checkpoints["good"]}', '-p', 'autostart:=true',
        *defaults,
    )  # fmt: skip
    robot = make_robot('dry')
    shown = robot.hear(JointTrajectory, 'policy_node/dry_run/joint_trajectory')
    robot.describe()
    robot.instruct('pick red can')

    # By default everything is computed and nothing sent.
    robot.wait_until_held('dry_run', 0)
    process.wait_for_line(r'\[WARN\].*dry run .safety.dry_run is true')
    process.wait_for_line('holding: dry_run: .*dry_run/joint_trajectory')
    command = shown.wait(since=shown.count + 1)
    assert len(command.joint_names) == 7 and len(command.points) > 1
    assert robot.chunks.wait()
    assert robot.status.newest.commands_published == robot.commands.count == 0

    # A real run is refused, in one line with all that is missing, until the limits are set.
    (result,) = robot.set_parameters(safety__dry_run=False)
    assert not result.successful
    for name in LIMITS:
        assert name in result.reason
    for name, value in LIMITS.items():
        (result,) = robot.set_parameters(**{by_keyword(name): value})
        assert result.successful, result.reason
    before = robot.status.count
    (result,) = robot.set_parameters(safety__dry_run=False)
    assert result.successful, result.reason
    robot.wait_until_held('starting', before)
    robot.wait_until_running(before)
    (result,) = robot.set_parameters(safety__max_joint_velocity=0.0)
    assert not result.successful and 'safety.max_joint_velocity' in result.reason

    # Back to the dry run: the hold is the last command.
    robot.commands.wait(since=robot.commands.count)
    before = robot.status.count
    assert robot.set_parameters(safety__dry_run=True)[0].successful
    robot.wait_until_held('dry_run', before)
    last = robot.commands.newest
    assert is_hold(last)
    commands, seen = robot.commands.count, shown.count
    shown.wait(since=seen + 1)
    assert robot.commands.count == commands

    # The same at activate.
    assert robot.change('deactivate')
    wanted = {'safety__dry_run': False, 'safety__max_joint_acceleration': 0.0}
    assert all(result.successful for result in robot.set_parameters(**wanted))
    mark = process.mark()
    assert not robot.change('activate')
    assert robot.lifecycle_state() == 'inactive'
    line = process.wait_for_line('activate failed', mark)
    assert 'parameters safety.max_joint_acceleration: not set' in line

    # A stop button pressed before activate is pressed afterwards.
    assert robot.set_parameters(safety__max_joint_acceleration=20.0)[0].successful
    button = robot.node.create_publisher(Bool, 'stop', LATCHED)
    before = robot.status.count
    button.publish(Bool(data=True))
    robot.wait_for_state(PolicyStatus.STOPPED, 'stopped', before)
    assert robot.change('activate')
    assert robot.status.newest.state == PolicyStatus.STOPPED
    assert not robot.trigger('reset').success
    mark = process.mark()
    button.publish(Bool(data=False))
    process.wait_for_line('the topic stop is false again', mark)
    assert robot.status.newest.state == PolicyStatus.STOPPED
    before = robot.status.count
    assert robot.trigger('reset').success
    robot.wait_until_running(before)
    assert process.end() == 0
    assert 'Traceback' not in process.output
