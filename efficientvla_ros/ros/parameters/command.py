"""Parameters `command.*` and `gripper.*`; free of ROS."""

from __future__ import annotations

import re
from collections.abc import Mapping

from efficientvla_ros.ros.parameters.table import Changes, Spec, Value
from efficientvla_ros.types import InputError

# One parameter a block reads better than one argument a line.
# fmt: off
SPECS: tuple[Spec, ...] = (
    Spec(
        'command.interface', 'joint_trajectory',
        'How the arm is commanded: JointTrajectory messages, one FollowJointTrajectory goal after '
        'the other, positions (Float64MultiArray) at `command.rate`, TwistStamped or PoseStamped '
        'of the tool at `command.rate`; see commands.md.',
        choices=(
            'joint_trajectory', 'follow_joint_trajectory', 'forward_position', 'twist', 'pose',
        ),
        changes=Changes.NEVER,
    ),
    Spec(
        'command.topic', '',
        'Topic or action that the arm is commanded by; empty: `joint_trajectory`, '
        '`follow_joint_trajectory`, `commands`, `delta_twist_cmds` or `target_frame`, by '
        '`command.interface`.',
        changes=Changes.NEVER,
    ),
    Spec(
        'command.rate', 100.0,
        'Messages per second of `forward_position`, `twist` and `pose`.',
        unit='Hz', low=50.0, high=500.0, changes=Changes.CONFIGURE,
    ),
    Spec(
        'command.preempt', False,
        '`follow_joint_trajectory`: a new plan replaces the goal under way; otherwise the next '
        'plan is made when the goal has ended.',
    ),
    Spec(
        'command.goal_timeout', 2.0,
        '`follow_joint_trajectory`: a goal without a result this long after the end of its '
        'trajectory counts as lost and is cancelled.',
        unit='s', low=0.1, high=60.0,
    ),
    Spec(
        'command.twist_frame', 'base',
        '`twist`: axes of the twist, those of `control.base_frame` or of `control.tcp_frame`; '
        'also its frame_id.',
        choices=('base', 'tcp'), changes=Changes.NEVER,
    ),
    Spec(
        'command.max_linear_velocity', 0.4,
        '`twist`: largest speed of the tool; faster twists are slowed down as a whole.',
        unit='m/s', low=0.001, high=10.0,
    ),
    Spec(
        'command.max_angular_velocity', 0.8,
        '`twist`: largest angular speed of the tool; faster twists are slowed down as a whole.',
        unit='rad/s', low=0.001, high=30.0,
    ),
    Spec(
        'gripper.interface', 'joint_trajectory',
        'How the gripper is commanded: as last joint of what the arm gets (`joint_trajectory`), '
        'or by a JointTrajectory, a Float64MultiArray (`position`), a GripperCommand or '
        'ParallelGripperCommand action of its own, or not at all.',
        choices=(
            'joint_trajectory', 'trajectory', 'position', 'gripper_command',
            'parallel_gripper_command', 'none',
        ),
        changes=Changes.NEVER,
    ),
    Spec(
        'gripper.topic', '',
        'Topic or action that the gripper is commanded by; empty: `gripper_command`.',
        changes=Changes.NEVER,
    ),
    Spec('gripper.joint', 'gripper', 'Joint of the gripper.', changes=Changes.NEVER),
    Spec(
        'gripper.open_value', 0.0,
        'Position of the gripper joint when open; equal to close_value means not set.',
        unit='m or rad', low=-10.0, high=10.0,
    ),
    Spec(
        'gripper.close_value', 0.0, 'Position of the gripper joint when closed.',
        unit='m or rad', low=-10.0, high=10.0,
    ),
    Spec(
        'gripper.threshold', 0.5,
        'The gripper opens when the action (1 open, 0 closed) is above this.',
        low=0.01, high=0.99,
    ),
    Spec(
        'gripper.hysteresis', 0.0,
        'Half width of the band around the threshold in which the gripper stays as it was.',
        low=0.0, high=0.49,
    ),
    Spec(
        'gripper.invert', False,
        'The model means 1 = closed, 0 = open: open and closed are exchanged.',
    ),
    Spec(
        'gripper.min_dwell', 0.0,
        'Shortest time between two changes of the gripper; a change that comes earlier waits.',
        unit='s', low=0.0, high=10.0,
    ),
    Spec(
        'gripper.max_effort', 0.0,
        'Largest effort of a gripper that is commanded by an action; 0 leaves it to its '
        'controller.',
        unit='N or N m', low=0.0, high=10000.0,
    ),
)
# fmt: on


_OF_THE_TOOL = ('twist', 'pose')
_RIDES_ALONG = 'joint_trajectory'
_NAME = re.compile(r'(~/|/)?[A-Za-z_]\w*(/[A-Za-z_]\w*)*')


def check_together(values: Mapping[str, Value]) -> None:
    """Checks what one parameter alone cannot tell."""
    for name in ('command.topic', 'gripper.topic'):
        if values[name] and not _NAME.fullmatch(values[name]):
            raise InputError(f'parameter {name}: got "{values[name]}", expected a ROS name or ""')
    if values['command.interface'] in _OF_THE_TOOL and values['gripper.interface'] == _RIDES_ALONG:
        raise InputError(
            f'parameter gripper.interface: got "{_RIDES_ALONG}", expected another one with '
            f'command.interface "{values["command.interface"]}", which has no joints'
        )
    if values['gripper.open_value'] == values['gripper.close_value'] != 0.0:
        raise InputError(
            f'parameter gripper.open_value: got {values["gripper.open_value"]}, expected a '
            'value other than gripper.close_value'
        )
    if values['gripper.joint'] in values['control.joints']:
        raise InputError(
            f'parameter gripper.joint: got "{values["gripper.joint"]}", expected a joint that '
            'is not in control.joints'
        )
