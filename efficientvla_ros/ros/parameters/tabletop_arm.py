"""What the policy node has to know of the simulated arm before it may command it; free of ROS."""

from __future__ import annotations

from efficientvla_ros.ros.parameters.table import Value
from efficientvla_ros.simulation.arm import MAX_JOINT_ACCELERATION

YAML_FILE = 'config/tabletop_policy.yaml'

TABLETOP_ARM: dict[str, Value] = {
    'safety.dry_run': False,
    'safety.workspace_min': [0.05, -0.4, 0.0],
    'safety.workspace_max': [0.6, 0.4, 0.5],
    'safety.max_joint_velocity': 2.0,
    'safety.max_joint_acceleration': MAX_JOINT_ACCELERATION,
    'gripper.open_value': 0.045,
    'gripper.close_value': 0.0,
}
"""Parameters of the policy node in the demo and in the tests."""


def render() -> str:
    """Returns the parameter file of the demo."""
    lines = [
        '# Parameters of policy_node for the arm of tabletop_sim_node, on top of policy.yaml.',
        '# Generated from efficientvla_ros/ros/parameters/tabletop_arm.py: change them there.',
        '/**:',
        '  ros__parameters:',
    ]
    group = ''
    for name, value in TABLETOP_ARM.items():
        prefix, _, leaf = name.rpartition('.')
        if prefix != group:
            lines.append(f'    {prefix}:')
            group = prefix
        lines.append(f'      {leaf}: {str(value).lower()}')
    return '\n'.join(lines) + '\n'
