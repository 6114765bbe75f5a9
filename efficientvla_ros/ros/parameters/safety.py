"""Parameters `safety.*`; free of ROS."""

from __future__ import annotations

from collections.abc import Mapping

from efficientvla_ros.ros.parameters.table import Spec, Value
from efficientvla_ros.types import InputError

FROM_URDF = 1000.0
"""A joint limit of this size leaves the one of robot_description in force."""

_UNSET_CORNER = [0.0, 0.0, 0.0]

# One parameter a block reads better than one argument a line.
# fmt: off
SPECS: tuple[Spec, ...] = (
    Spec(
        'safety.dry_run', True,
        'Compute everything, but command nothing: what would be sent is published on '
        '`~/dry_run/joint_trajectory`. With false, limits must be set (docs/policy_node.md).',
    ),
    Spec(
        'safety.max_image_age', 0.5,
        'The arm is held when the newest image of a camera is older than this.',
        unit='s', low=0.01, high=60.0,
    ),
    Spec(
        'safety.max_joint_state_age', 0.5,
        'The arm is held when the newest joint state is older than this.',
        unit='s', low=0.01, high=60.0,
    ),
    Spec(
        'safety.max_joint_velocity', 0.0,
        'Limit of every arm joint, on top of the URDF; 0 means not set. '
        'Required for a real arm.',
        unit='rad/s or m/s', low=0.0, high=100.0,
    ),
    Spec(
        'safety.max_joint_acceleration', 0.0,
        'Largest acceleration of every arm joint, kept at every instant of a trajectory; 0 means '
        'not set. Required for a real arm.',
        unit='rad/s^2 or m/s^2', low=0.0, high=1000.0,
    ),
    Spec(
        'safety.joint_lower', [-FROM_URDF],
        'Lower limits that narrow those of robot_description, one for each of control.joints or '
        'one for all; -1000 keeps the one of robot_description.',
        unit='rad or m', low=-FROM_URDF, high=FROM_URDF,
    ),
    Spec(
        'safety.joint_upper', [FROM_URDF],
        'Upper limits that narrow those of robot_description, one for each of control.joints or '
        'one for all; 1000 keeps the one of robot_description.',
        unit='rad or m', low=-FROM_URDF, high=FROM_URDF,
    ),
    Spec(
        'safety.speed_scale', 1.0,
        'Slow motion along the same path: actions take 1 / speed_scale of their duration, and '
        'joint velocity limits are scaled.',
        low=0.01, high=1.0,
    ),
    Spec(
        'safety.max_step_translation', 0.06,
        'Longest translation of the tool in one action; longer ones are shortened.',
        unit='m', low=0.0001, high=1.0,
    ),
    Spec(
        'safety.max_step_rotation', 0.5,
        'Largest rotation of the tool in one action; larger ones are reduced.',
        unit='rad', low=0.0001, high=3.2,
    ),
    Spec(
        'safety.workspace_min', _UNSET_CORNER,
        'Lower corner of the box that the tool stays in, in the base frame (x, y, z); three '
        'zeros mean not set. Required for a real arm.',
        unit='m', low=-100.0, high=100.0, length=3,
    ),
    Spec(
        'safety.workspace_max', _UNSET_CORNER,
        'Upper corner of the box that the tool stays in, in the base frame (x, y, z); three '
        'zeros mean not set. Required for a real arm.',
        unit='m', low=-100.0, high=100.0, length=3,
    ),
    Spec(
        'safety.max_reach_error', 0.05,
        'The arm is held when the closest pose it can reach is further from the wanted one.',
        unit='m', low=0.001, high=1.0,
    ),
    Spec(
        'safety.max_instruction_length', 256, 'Longest instruction that is accepted.',
        unit='characters', low=1, high=4096,
    ),
    Spec(
        'safety.hold_duration', 0.2,
        'Time in which the arm comes to rest when it is held.',
        unit='s', low=0.01, high=5.0,
    ),
    Spec(
        'safety.max_failures', 10,
        'Inferences in a row without a usable plan (not finite, or an error) after which the '
        'node stays held until `~/reset`.',
        low=1, high=10000,
    ),
)
# fmt: on


def check_together(values: Mapping[str, Value]) -> None:
    """Checks what one parameter alone cannot tell."""
    low, high = values['safety.workspace_min'], values['safety.workspace_max']
    both = _UNSET_CORNER not in (low, high)
    if both and any(a >= b for a, b in zip(low, high, strict=True)):
        raise InputError(
            f'parameter safety.workspace_min: got {low}, expected less than '
            f'safety.workspace_max {high} on every axis'
        )
    _check_joint_limits(values)


def _check_joint_limits(values: Mapping[str, Value]) -> None:
    joints = values['control.joints']
    for name in ('safety.joint_lower', 'safety.joint_upper'):
        if len(values[name]) not in (1, len(joints)):
            raise InputError(
                f'parameter {name}: got {len(values[name])} values, expected 1 or '
                f'{len(joints)}, one for each name in control.joints'
            )
    lower, upper = joint_limits(values)
    for joint, low, high in zip(joints, lower, upper, strict=True):
        if low >= high:
            raise InputError(
                f'parameter safety.joint_lower: got {low:g} for joint "{joint}", expected less '
                f'than safety.joint_upper {high:g}'
            )


def joint_limits(values: Mapping[str, Value]) -> tuple[list[float], list[float]]:
    """Lower and upper limit of every joint in `control.joints`, rad or m."""
    count = len(values['control.joints'])
    lower, upper = values['safety.joint_lower'], values['safety.joint_upper']
    return (
        list(lower) * count if len(lower) == 1 else list(lower),
        list(upper) * count if len(upper) == 1 else list(upper),
    )


def workspace(values: Mapping[str, Value]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Corners of the box that the tool stays in, m; infinite where a corner is not set."""
    low, high = values['safety.workspace_min'], values['safety.workspace_max']
    nowhere = float('inf')
    return (
        (-nowhere,) * 3 if low == _UNSET_CORNER else tuple(low),
        (nowhere,) * 3 if high == _UNSET_CORNER else tuple(high),
    )


def missing_limits(values: Mapping[str, Value]) -> list[str]:
    """Names of the parameters that a real arm needs and that are not set."""
    missing = [
        name
        for name in ('safety.workspace_min', 'safety.workspace_max')
        if values[name] == _UNSET_CORNER
    ]
    missing += [
        name
        for name in ('safety.max_joint_velocity', 'safety.max_joint_acceleration')
        if values[name] == 0.0
    ]
    if values['gripper.interface'] != 'none':
        names = ('gripper.open_value', 'gripper.close_value')
        missing += names if values[names[0]] == values[names[1]] else ()
    return missing


def check_limits_are_set(values: Mapping[str, Value]) -> None:
    """Raises InputError naming every limit that is missing, unless this is a dry run."""
    missing = [] if values['safety.dry_run'] else missing_limits(values)
    if missing:
        raise InputError(
            f'parameters {", ".join(missing)}: not set, expected values for this arm because '
            'safety.dry_run is false'
        )
