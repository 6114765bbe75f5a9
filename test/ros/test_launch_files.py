"""Launch files: the same five arguments everywhere, and an empty one keeps the YAML value.

Where launch_ros is installed they run on it. The wheels do not have it: there a few lines stand
in for the parts of its documented interface that the files use.
"""

from __future__ import annotations

import ast
import importlib.util
import sys
import types
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / 'launch').glob('*.launch.py'))
ARGUMENTS = ['namespace', 'params_file', 'use_sim_time', 'autostart', 'log_level']
HAS_LAUNCH = importlib.util.find_spec('launch_ros') is not None


def names(path: Path) -> str:
    return path.name


@pytest.mark.parametrize('path', FILES, ids=names)
def test_file_compiles_and_has_the_entry_point(path):
    tree = ast.parse(path.read_text(encoding='utf-8'))
    functions = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    assert 'generate_launch_description' in functions
    imported = {
        (node.module or '').split('.')[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
    }
    assert imported <= {'launch', 'launch_ros'}


@pytest.mark.parametrize('path', FILES, ids=names)
def test_configuration_files_that_it_names_exist(path):
    text = path.read_text(encoding='utf-8')
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and str(node.value).endswith(('.yaml', '.launch.py')):
            if ' ' in node.value:
                continue  # a description
            folder = 'config' if node.value.endswith('.yaml') else 'launch'
            assert (ROOT / folder / node.value).is_file(), node.value


class Recorded:
    """An action or substitution that remembers what it was made from."""

    def __init__(self, *arguments: object, **options: object) -> None:
        self.arguments = arguments
        self.options = options


class LaunchConfiguration(Recorded):
    def perform(self, context: dict[str, str]) -> str:
        return context.get(self.arguments[0], self.options.get('default'))


def stand_in(monkeypatch) -> dict[str, type]:
    """Puts recording classes in the place of launch and launch_ros."""
    modules = {
        'launch': ['LaunchDescription'],
        'launch.actions': [
            'DeclareLaunchArgument', 'IncludeLaunchDescription', 'OpaqueFunction', 'Shutdown',
        ],
        'launch.substitutions': ['LaunchConfiguration', 'PathJoinSubstitution'],
        'launch.launch_description_sources': ['PythonLaunchDescriptionSource'],
        'launch_ros': [],
        'launch_ros.actions': ['Node'],
        'launch_ros.parameter_descriptions': ['ParameterValue'],
        'launch_ros.substitutions': ['FindPackageShare'],
    }  # fmt: skip
    classes = {'LaunchConfiguration': LaunchConfiguration}
    for module, members in modules.items():
        made = types.ModuleType(module)
        for member in members:
            kind = classes.setdefault(member, type(member, (Recorded,), {}))
            setattr(made, member, kind)
        monkeypatch.setitem(sys.modules, module, made)
    return classes


def load(path: Path) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location(path.name.replace('.', '_'), path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def launched(path: Path, classes: dict[str, type], **given: str):
    """Declared arguments, nodes and included files of a launch file."""
    actions = load(path).generate_launch_description().arguments[0]
    declared = {
        action.arguments[0]: action.options
        for action in actions
        if isinstance(action, classes['DeclareLaunchArgument'])
    }
    context = {name: options['default_value'] for name, options in declared.items()} | given
    nodes = [
        node
        for action in actions
        if isinstance(action, classes['OpaqueFunction'])
        for node in action.options['function'](context)
    ]
    included = [a for a in actions if isinstance(a, classes['IncludeLaunchDescription'])]
    return declared, nodes, included


@pytest.fixture
def classes(monkeypatch):
    return stand_in(monkeypatch)


@pytest.mark.parametrize('path', FILES, ids=names)
def test_arguments_are_the_same_everywhere_and_described(classes, path):
    declared, _, _ = launched(path, classes)
    assert list(declared) == ARGUMENTS
    assert all(options['description'] for options in declared.values())


@pytest.mark.parametrize('path', FILES, ids=names)
def test_empty_arguments_leave_the_parameter_files_alone(classes, path):
    given = dict.fromkeys(ARGUMENTS, '')
    _, (node,), _ = launched(path, classes, **given)
    assert len(node.options['parameters']) == 1, 'only the file of the package'
    assert node.options['arguments'] == []


@pytest.mark.parametrize('path', FILES, ids=names)
def test_given_arguments_come_after_the_parameter_files(classes, path):
    given = dict(zip(ARGUMENTS, ('arm', 'mine.yaml', 'true', 'true', 'debug')))
    _, (node,), _ = launched(path, classes, **given)
    _, user_file, *overrides = node.options['parameters']
    assert user_file.arguments == ('params_file',)
    assert overrides
    for override in overrides:
        (value,) = override.values()
        assert value.options['value_type'] is bool
    assert node.options['arguments'][:2] == ['--ros-args', '--log-level']
    assert node.options['namespace'].arguments == ('namespace',)


def test_policy_starts_itself_only_when_told_to(classes):
    declared, (node,), _ = launched(ROOT / 'launch/policy.launch.py', classes, autostart='true')
    assert declared['autostart']['default_value'] == ''
    assert [list(p) for p in node.options['parameters'][1:]] == [['autostart']]
    assert node.options['executable'] == node.options['name'] == 'policy_node'


def test_demo_starts_both_and_the_simulator_is_the_clock(classes):
    path = ROOT / 'launch/demo.launch.py'
    declared, (node,), (included,) = launched(path, classes, use_sim_time='true')
    assert declared['autostart']['default_value'] == 'true'
    assert node.options['executable'] == 'tabletop_sim_node'
    assert [list(p) for p in node.options['parameters'][1:]] == [['publish_clock']]
    arguments = dict(included.options['launch_arguments'])
    assert list(arguments) == [*ARGUMENTS, 'robot_params_file']
    assert arguments['robot_params_file'].arguments[0][-1] == 'tabletop_policy.yaml'


def test_the_file_of_a_robot_comes_between_the_defaults_and_the_user(classes):
    given = {'robot_params_file': 'arm.yaml', 'params_file': 'mine.yaml'}
    _, (node,), _ = launched(ROOT / 'launch/policy.launch.py', classes, **given)
    names = [file.arguments[0] for file in node.options['parameters'][1:]]
    assert names == ['robot_params_file', 'params_file']


@pytest.mark.skipif(not HAS_LAUNCH, reason='launch_ros is not installed')
@pytest.mark.parametrize('path', FILES, ids=names)
def test_file_is_understood_by_launch_itself(path):
    from launch.launch_description_sources import PythonLaunchDescriptionSource

    from launch import LaunchContext, LaunchDescription

    description = PythonLaunchDescriptionSource(str(path)).get_launch_description(LaunchContext())
    assert isinstance(description, LaunchDescription)
    assert [a.name for a in description.get_launch_arguments()] == ARGUMENTS
