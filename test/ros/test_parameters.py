"""The parameter table, the YAML file, the page and the node's descriptors agree."""

from __future__ import annotations

import math

import pytest
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from ros_harness import ROOT

from efficientvla_ros.cli.parameter_file import read_parameters
from efficientvla_ros.ros.parameters import mock_robot, tabletop_sim
from efficientvla_ros.ros.parameters.control_settings import control_config
from efficientvla_ros.ros.parameters.generated_files import generated_files, main
from efficientvla_ros.ros.parameters.policy import TABLE, compressed_flags
from efficientvla_ros.ros.parameters.store import ParameterStore, descriptor
from efficientvla_ros.ros.parameters.table import Changes, Spec
from efficientvla_ros.types import InputError


class HumbleNode(Node):
    """A node without post-set callbacks, as on Humble."""

    def __getattribute__(self, name: str):
        if name == 'add_post_set_parameters_callback':
            raise AttributeError(name)
        return super().__getattribute__(name)


@pytest.fixture
def make_node(ros_context):
    nodes = []

    def make(kind: type[Node] = Node, **overrides) -> Node:
        given = [Parameter(name.replace('__', '.'), value=v) for name, v in overrides.items()]
        name = f'parameters_{len(nodes)}'
        nodes.append(kind(name, context=ros_context, parameter_overrides=given))
        return nodes[-1]

    yield make
    for node in nodes:
        node.destroy_node()


@pytest.mark.parametrize('table', [TABLE, mock_robot.TABLE, tabletop_sim.TABLE])
def test_the_yaml_file_holds_every_default(table):
    given = read_parameters(ROOT / table.yaml_file)
    assert given == {name: spec.default for name, spec in table.specs.items()}
    assert dict(table.settings(given)) == dict(table.settings())


def test_yaml_and_page_are_up_to_date():
    for path, text in generated_files(ROOT).items():
        assert path.read_text() == text, f'{path}: run the generator, see its first lines'


def test_the_page_lists_every_parameter():
    page = (ROOT / 'docs/parameters.md').read_text()
    for name in TABLE.specs:
        assert page.count(f'| `{name}` |') == 1


def test_the_generator_says_what_is_out_of_date(tmp_path, capsys):
    assert main(['--check', '--root', str(tmp_path)]) == 1
    assert 'policy.yaml: out of date' in capsys.readouterr().out
    assert main(['--write', '--root', str(tmp_path)]) == 0
    assert main(['--check', '--root', str(tmp_path)]) == 0


@pytest.mark.parametrize('spec', TABLE.specs.values(), ids=lambda spec: spec.name)
def test_every_parameter_is_described_and_its_default_allowed(spec):
    assert spec.text.endswith('.')
    assert spec.checked(spec.default) == spec.default
    if isinstance(spec.default, float):
        assert spec.low is not None and spec.high is not None


def test_descriptors_carry_range_unit_and_read_only():
    age = descriptor(TABLE.specs['safety.max_image_age'])
    assert (age.floating_point_range[0].from_value, age.floating_point_range[0].to_value) == (
        0.01, 60.0,
    )  # fmt: skip
    assert '[s]' in age.description and not age.read_only
    assert descriptor(TABLE.specs['control.joints']).read_only
    steps = descriptor(TABLE.specs['control.execute_steps'])
    assert steps.integer_range[0].to_value == 64


@pytest.mark.parametrize(
    ('name', 'value'),
    [
        ('safety.max_image_age', 0.0),
        ('safety.max_image_age', math.nan),
        ('safety.max_image_age', 'soon'),
        ('safety.max_image_age', True),
        ('control.execute_steps', 1.5),
        ('control.execute_steps', 0),
        ('gripper.interface', 'magnet'),
        ('safety.workspace_min', [0.0, 0.0]),
        ('safety.workspace_min', 'low'),
        ('cameras.names', []),
        ('cameras.names', ['left', 'left']),
        ('cameras.compressed', [True, False]),
        ('safety.joint_lower', [0.0, 0.0]),
        ('gripper.joint', 'waist'),
        ('gripper.topic', 'two words'),
        ('command.topic', '/arm//commands'),
        ('command.rate', 20.0),
        ('acceleration.mlp.ratio', -0.5),
        ('no.such', 1),
    ],
)
def test_values_that_cannot_be_used_are_named(name, value):
    with pytest.raises(InputError, match=name):
        TABLE.settings({name: value})


def test_a_gripper_cannot_ride_along_with_a_pose_or_twist():
    for interface in ('pose', 'twist'):
        values = {'command.interface': interface}
        with pytest.raises(InputError, match=r'parameter gripper\.interface.*another one'):
            TABLE.settings(values)
        TABLE.settings({**values, 'gripper.interface': 'position'})


def test_an_inverted_gripper_exchanges_open_and_closed():
    values = {'gripper.open_value': 0.03, 'gripper.close_value': -0.01}
    plain = control_config(TABLE.settings(values))
    inverted = control_config(TABLE.settings({**values, 'gripper.invert': True}))
    assert (plain.gripper_open, plain.gripper_closed) == (0.03, -0.01)
    assert (inverted.gripper_open, inverted.gripper_closed) == (-0.01, 0.03)


@pytest.mark.parametrize(
    ('name', 'values'),
    [
        (
            'safety.workspace_min',
            {'safety.workspace_min': [9.0] * 3, 'safety.workspace_max': [1.0] * 3},
        ),
        ('gripper.open_value', {'gripper.open_value': 0.02, 'gripper.close_value': 0.02}),
        ('"waist"', {'safety.joint_lower': [1.0], 'safety.joint_upper': [-1.0]}),
    ],
)
def test_values_that_contradict_each_other_are_named(name, values):
    with pytest.raises(InputError, match=name):
        TABLE.settings(values)


def test_whole_numbers_are_accepted_for_doubles():
    assert TABLE.settings({'safety.max_image_age': 1})['safety.max_image_age'] == 1.0


def test_one_flag_serves_all_cameras():
    settings = TABLE.settings({'cameras.names': ['a', 'b'], 'cameras.compressed': [True]})
    assert compressed_flags(settings) == (True, True)


def test_the_limits_reach_the_controller():
    config = control_config(TABLE.settings({'safety.max_joint_velocity': 0.7}))
    assert config.max_joint_velocity == 0.7
    assert config.gripper_open == TABLE.specs['gripper.open_value'].default


def test_values_given_at_start_are_taken_and_unknown_names_listed(make_node):
    node = make_node(safety__max_image_age=2, safety__max_imag_age=1.0, control__joint=['a'])
    store = ParameterStore(node, TABLE)
    assert store.settings['safety.max_image_age'] == 2.0
    assert node.get_parameter('safety.max_image_age').value == 2.0
    assert len(store.unknown) == 2
    assert 'did you mean "control.joints"' in store.unknown[0]


def test_a_bad_value_at_start_is_refused(make_node):
    with pytest.raises(InputError, match=r'gripper\.interface'):
        ParameterStore(make_node(gripper__interface='magnet'), TABLE)


def test_a_change_replaces_the_settings_as_a_whole(make_node):
    node, seen = make_node(), []
    store = ParameterStore(node, TABLE, on_change=seen.append)
    before = store.settings
    result = node.set_parameters([Parameter('safety.max_image_age', value=3.0)])[0]
    assert result.successful
    assert before['safety.max_image_age'] == 0.5  # a tick under way keeps its values
    assert store.settings['safety.max_image_age'] == 3.0
    assert seen == [store.settings]


def test_contradicting_values_are_refused_together_and_change_nothing(make_node):
    node = make_node()
    store = ParameterStore(node, TABLE)
    result = node.set_parameters_atomically(
        [
            Parameter('safety.max_image_age', value=3.0),
            Parameter('safety.workspace_min', value=[5.0, 5.0, 5.0]),
            Parameter('safety.workspace_max', value=[1.0, 1.0, 1.0]),
        ]
    )
    assert not result.successful
    assert 'safety.workspace_min' in result.reason
    assert store.settings['safety.max_image_age'] == 0.5


def test_without_post_set_callbacks_a_change_is_taken_over_after_the_service(make_node):
    # The on-set callback runs before the value is stored.
    node = make_node(kind=HumbleNode)
    store = ParameterStore(node, TABLE)
    node.set_parameters([Parameter('safety.max_image_age', value=3.0)])
    assert store.settings['safety.max_image_age'] == 0.5
    executor = SingleThreadedExecutor(context=node.context)
    executor.add_node(node)
    for _ in range(100):
        executor.spin_once(timeout_sec=0.1)
        if store.settings['safety.max_image_age'] == 3.0:
            break
    executor.shutdown()
    assert store.settings['safety.max_image_age'] == 3.0


def test_parameters_of_configure_are_refused_while_configured(make_node):
    node, configured = make_node(), [False]
    ParameterStore(node, TABLE, configured=lambda: configured[0])
    change = [Parameter('model.threads', value=2)]
    assert node.set_parameters(change)[0].successful
    configured[0] = True
    refused = node.set_parameters(change)[0]
    assert not refused.successful
    assert 'deactivate and clean up' in refused.reason


def test_a_spec_quotes_the_value_and_what_was_expected():
    spec = Spec('a.b', 0.5, 'Text.', low=0.0, high=1.0, changes=Changes.LIVE)
    with pytest.raises(InputError, match=r'parameter a\.b: got 7\.0, expected double, 0 to 1'):
        spec.checked(7.0)


def test_two_ways_to_leave_out_mlp_channels_contradict_each_other_by_name():
    both = {'acceleration.mlp.ratio': 0.25, 'acceleration.channels.ratio': 0.4}
    with pytest.raises(InputError, match=r'channels\.ratio: got 0\.4.*mlp\.ratio 0\.25'):
        TABLE.settings(both)


def test_revisions_count_the_changes_that_were_taken_over(make_node):
    node = make_node()
    store = ParameterStore(node, TABLE)
    for value in (3.0, 3.0, 4.0):  # the second one changes nothing
        node.set_parameters([Parameter('safety.max_image_age', value=value)])
    assert store.settings.revision == 2
