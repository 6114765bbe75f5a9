"""The policy node alone, for a real arm or any simulator with the standard topics.

    ros2 launch efficientvla_ros policy.launch.py params_file:=my_robot.yaml autostart:=true

An empty argument keeps the value of the parameter files. Nothing here is of one robot: names of
topics and actions are parameters, too (cameras.names, command.topic, gripper.topic). Files for
some robots are in config/robots/.
"""

from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription

PACKAGE = 'efficientvla_ros'

ARGUMENTS = [
    DeclareLaunchArgument('namespace', default_value='', description='Namespace of the node.'),
    DeclareLaunchArgument(
        'params_file', default_value='', description='YAML file on top of config/policy.yaml.'
    ),
    DeclareLaunchArgument(
        'use_sim_time', default_value='', description='Take the time from /clock (true, false).'
    ),
    DeclareLaunchArgument(
        'autostart', default_value='', description='Configure and activate at once (true, false).'
    ),
    DeclareLaunchArgument(
        'log_level', default_value='', description='Log level, e.g. info or debug.'
    ),
]


def _nodes(context):
    def given(name):
        return LaunchConfiguration(name).perform(context) != ''

    parameters = [PathJoinSubstitution([FindPackageShare(PACKAGE), 'config', 'policy.yaml'])]
    # Set by launch files that include this one for a robot of their own.
    robot_file = LaunchConfiguration('robot_params_file', default='')
    if robot_file.perform(context):
        parameters.append(robot_file)
    if given('params_file'):
        parameters.append(LaunchConfiguration('params_file'))
    for name in ('use_sim_time', 'autostart'):
        if given(name):
            parameters.append({name: ParameterValue(LaunchConfiguration(name), value_type=bool)})
    arguments = []
    if given('log_level'):
        arguments = ['--ros-args', '--log-level', LaunchConfiguration('log_level')]
    return [
        Node(
            package=PACKAGE,
            executable='policy_node',
            name='policy_node',
            namespace=LaunchConfiguration('namespace'),
            parameters=parameters,
            arguments=arguments,
            output='screen',
        )
    ]


def generate_launch_description():
    """The policy node and its arguments."""
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=_nodes)])
