"""Simulator and policy together: the arm picks up what the instruction names.

    ros2 launch efficientvla_ros demo.launch.py

The limits of the simulated arm are in config/tabletop_policy.yaml; this is no dry run.
With `use_sim_time:=true` the simulator publishes /clock. An empty argument keeps the value of the
parameter files; a `params_file` with a section for each node serves both.
"""

from launch.actions import (
    DeclareLaunchArgument,
    IncludeLaunchDescription,
    OpaqueFunction,
    Shutdown,
)
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription

PACKAGE = 'efficientvla_ros'

ARGUMENTS = [
    DeclareLaunchArgument('namespace', default_value='', description='Namespace of both nodes.'),
    DeclareLaunchArgument(
        'params_file', default_value='', description='YAML file on top of those in config/.'
    ),
    DeclareLaunchArgument(
        'use_sim_time', default_value='', description='Simulated time on /clock (true, false).'
    ),
    DeclareLaunchArgument(
        'autostart',
        default_value='true',
        description='Configure and activate the policy at once (true, false).',
    ),
    DeclareLaunchArgument(
        'log_level', default_value='', description='Log level, e.g. info or debug.'
    ),
]


def _simulator(context):
    def given(name):
        return LaunchConfiguration(name).perform(context) != ''

    parameters = [PathJoinSubstitution([FindPackageShare(PACKAGE), 'config', 'tabletop_sim.yaml'])]
    if given('params_file'):
        parameters.append(LaunchConfiguration('params_file'))
    if given('use_sim_time'):
        # The simulator is the source of the clock that the others take.
        simulated = ParameterValue(LaunchConfiguration('use_sim_time'), value_type=bool)
        parameters.append({'publish_clock': simulated})
    arguments = []
    if given('log_level'):
        arguments = ['--ros-args', '--log-level', LaunchConfiguration('log_level')]
    return [
        Node(
            package=PACKAGE,
            executable='tabletop_sim_node',
            name='tabletop_sim_node',
            namespace=LaunchConfiguration('namespace'),
            parameters=parameters,
            arguments=arguments,
            output='screen',
            on_exit=Shutdown(reason='the simulator ended'),
        )
    ]


def generate_launch_description():
    """Both nodes and their arguments."""
    policy = PathJoinSubstitution([FindPackageShare(PACKAGE), 'launch', 'policy.launch.py'])
    limits = PathJoinSubstitution([FindPackageShare(PACKAGE), 'config', 'tabletop_policy.yaml'])
    names = ('namespace', 'params_file', 'use_sim_time', 'autostart', 'log_level')
    return LaunchDescription(
        [
            *ARGUMENTS,
            OpaqueFunction(function=_simulator),
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(policy),
                launch_arguments={
                    **{name: LaunchConfiguration(name) for name in names},
                    'robot_params_file': limits,
                }.items(),
            ),
        ]
    )
