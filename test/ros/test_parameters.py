"""The parameter table, the YAML file, the page and the node's descriptors agree."""

from __future__ import annotations

import math

import pytest
import yaml
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from ros_harness import ROOT

from efficientvla_ros.ros.parameter_store import ParameterStore, descriptor
from efficientvla_ros.ros.parameter_table import Changes, Spec
from efficientvla_ros.ros.parameters import TABLE, compressed_flags, generated_files, main
from efficientvla_ros.ros.policy import control_config
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


def flat(tree: dict, prefix: str = '') -> dict:
    values = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            values.update(flat(value, f'{prefix}{name}.'))
        else:
            values[prefix + name] = value
    return values


def test_the_yaml_file_holds_every_default():
    text = (ROOT / 'config/policy.yaml').read_text()
    given = flat(yaml.safe_load(text)['/**']['ros__parameters'])
    assert given == {name: spec.default for name, spec in TABLE.specs.items()}
    assert dict(TABLE.settings(given)) == dict(TABLE.settings())


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
        ('safety.workspace_min', [9.0, 9.0, 9.0]),
        ('gripper.open_value', 0.0),
        ('gripper.joint', 'waist'),
        ('no.such', 1),
    ],
)
def test_values_that_cannot_be_used_are_named(name, value):
    with pytest.raises(InputError, match=name):
        TABLE.settings({name: value})


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
