"""Every parameter of a running node: wrong values are refused by name, right ones act at a tick.

Over the real parameter services. A dump of one node starts another with the same values.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import yaml
from rcl_interfaces.srv import ListParameters
from rclpy.parameter import Parameter
from ros_harness import Robot

from efficientvla_ros.msg import PolicyStatus
from efficientvla_ros.ros.parameters.policy import TABLE
from efficientvla_ros.ros.parameters.table import Changes, Spec
from efficientvla_ros.ros.parameters.tabletop_arm import TABLETOP_ARM
from efficientvla_ros.types import InputError

pytestmark = pytest.mark.ros

OF_A_BUSY_MACHINE = {'image_too_old', 'joint_state_too_old', 'inference_late', 'chunk_expired'}
"""Holds that no change of a parameter brings about."""

# A dry run sends nothing, so that the node would not run on: test_policy_node_dry_run.py.
LIVE = [
    spec
    for spec in TABLE.specs.values()
    if spec.changes is Changes.LIVE and spec.name != 'safety.dry_run'
]
NOW = TABLE.settings(TABLETOP_ARM)
# Where the middle of the range is more than this machine or the model can do.
CHOSEN = {
    'control.rate': 2.5,
    'control.execute_steps': 2,
    'acceleration.layers.keep': 10,
    'acceleration.tokens.keep': 40,
    'acceleration.cache.interval': 2,
    'acceleration.mlp.ratio': 0.25,
    'acceleration.channels.ratio': 0.25,
    'cameras.crop': [0.02, 0.02, 0.96, 0.96],
    'cameras.rotation': [180],
    'safety.joint_lower': [-3.0, -1.8, -2.0, -3.0, -1.7, -3.0],
    'safety.joint_upper': [3.0, 1.9, 1.5, 3.0, 2.0, 3.0],
}


def wrong_value(spec: Spec) -> object:
    if isinstance(spec.default, (list, bool)):
        return 'wrong'
    if isinstance(spec.default, str):
        return 'no such choice' if spec.choices else 3
    return type(spec.default)(spec.high + 1)


def candidates(spec: Spec) -> Iterator[object]:
    """Other values, those that leave the arm moving first."""
    if spec.name in CHOSEN:
        yield CHOSEN[spec.name]
    elif isinstance(spec.default, bool):
        yield not NOW[spec.name]
    elif isinstance(spec.default, str):
        yield from (choice for choice in spec.choices if choice != NOW[spec.name])
    elif isinstance(spec.default, (int, float)):
        for bound in (spec.high, spec.low):
            yield type(spec.default)((NOW[spec.name] + bound) / 2)
    elif isinstance(spec.default[0], float):
        for step in (0.01, -0.01):
            yield [value + step for value in NOW[spec.name]]
    else:
        yield from ([value] for value in spec.choices)


def other_value(spec: Spec) -> object:
    for value in candidates(spec):
        try:
            changed = TABLE.settings({**TABLETOP_ARM, spec.name: value})
        except InputError:
            continue
        if changed[spec.name] != NOW[spec.name]:
            return value
    raise AssertionError(f'{spec.name}: no other value is known to this test')


def set_one(robot: Robot, name: str, value: object):
    return robot.set_parameters(**{name.replace('.', '__'): value})[0]


@pytest.fixture
def running(shared_policy):
    process, robot = shared_policy
    robot.restore()
    return process, robot


@pytest.mark.parametrize(
    'spec',
    [s for s in TABLE.specs.values() if isinstance(s.default, (int, float, list))],
    ids=lambda spec: spec.name,
)
def test_every_number_has_a_range(spec):
    kind = type(spec.default[0]) if isinstance(spec.default, list) else type(spec.default)
    if kind in (int, float):
        assert spec.low is not None and spec.high is not None
        assert spec.low < spec.high


def test_a_wrong_value_of_every_parameter_is_refused_by_name(running):
    _, robot = running
    before = robot.get_parameters(*TABLE.specs)
    wrong = {name.replace('.', '__'): wrong_value(spec) for name, spec in TABLE.specs.items()}
    for name, result in zip(TABLE.specs, robot.set_parameters(**wrong), strict=True):
        assert not result.successful, name
        assert name in result.reason
    assert robot.get_parameters(*TABLE.specs) == before


def test_a_type_that_does_not_fit_is_told_with_what_was_expected(running):
    _, robot = running
    result = set_one(robot, 'safety.max_image_age', 'soon')
    assert result.reason == (
        "parameter safety.max_image_age: got 'soon', expected double, 0.01 to 60"
    )
    assert set_one(robot, 'safety.max_image_age', 1).successful  # a whole number will do
    assert robot.get_parameters('safety.max_image_age')[0].double_value == 1.0
    assert set_one(robot, 'safety.max_image_age', 0.5).successful


def test_an_unknown_name_is_told_with_the_closest_one(running):
    _, robot = running
    result = set_one(robot, 'safety.max_imag_age', 1.0)
    assert not result.successful
    assert result.reason == (
        'parameter "safety.max_imag_age" is unknown, did you mean "safety.max_image_age"?'
    )


def test_parameters_of_configure_and_start_are_refused_while_the_arm_moves(running):
    _, robot = running
    for spec in TABLE.specs.values():
        if spec.changes is Changes.LIVE:
            continue
        result = set_one(robot, spec.name, spec.default)
        assert not result.successful, spec.name
        assert spec.name in result.reason


def test_every_live_parameter_acts_at_the_next_tick_and_none_is_lost(running):
    _, robot = running
    assert set_one(robot, 'control.rate', 2.0).successful
    robot.chunks.wait(since=robot.chunks.count + 1)  # a tick by that rate
    start = robot.status.wait(since=robot.status.count)
    statuses, chunks = robot.status.count, robot.chunks.count
    revision = start.parameter_revision
    changes = 0
    for spec in LIVE:
        back = 2.0 if spec.name == 'control.rate' else NOW[spec.name]
        for value in (other_value(spec), back):
            result = set_one(robot, spec.name, value)
            assert result.successful, f'{spec.name}: {result.reason}'
            changes += 1
        robot.chunks.wait(since=robot.chunks.count)
    last = robot.status.wait(lambda s: s.parameter_revision >= revision + changes)
    assert last.parameter_revision == revision + changes
    seen = robot.status.since(statuses)
    held = {status.hold_reason for status in seen if status.state != PolicyStatus.RUNNING}
    assert held <= OF_A_BUSY_MACHINE
    numbers = [chunk.sequence for chunk in robot.chunks.since(chunks)]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert last.ticks_failed == start.ticks_failed
    assert held or last.ticks_late == start.ticks_late
    assert set_one(robot, 'control.rate', 0.0).successful


def test_a_limit_holds_from_the_next_plan_on(running):
    _, robot = running

    def speed(command) -> float:
        return max(abs(v) for point in command.points for v in point.velocities[:6])

    before = robot.commands.wait(since=robot.commands.count)
    assert speed(before) > 0.02
    assert set_one(robot, 'safety.max_joint_velocity', 0.01).successful
    under_way = robot.commands.count + 1  # the tick that ran when the value came
    command = robot.commands.wait(since=under_way)
    assert speed(command) <= 0.0101
    assert set_one(robot, 'safety.max_joint_velocity', 2.0).successful


def dump(robot: Robot, node: str) -> dict:
    """What `ros2 param dump` writes: every parameter, groups as nested maps."""
    request = ListParameters.Request(depth=ListParameters.Request.DEPTH_RECURSIVE)
    listed = robot.call(ListParameters, f'{robot.policy}/list_parameters', request)
    tree: dict = {}
    for name, message in zip(listed.result.names, robot.get_parameters(*listed.result.names)):
        *groups, leaf = name.split('.')
        branch = tree
        for group in groups:
            branch = branch.setdefault(group, {})
        value = from_message(message)
        branch[leaf] = value if isinstance(value, (bool, int, float, str)) else list(value)
    return {node: {'ros__parameters': tree}}


def from_message(message) -> object:
    parameter = Parameter('p', value=0).to_parameter_msg()
    parameter.value = message
    return Parameter.from_parameter_msg(parameter).value


def test_a_dump_starts_another_node_with_the_same_values(
    start_policy, make_robot, checkpoints, tmp_path
):
    name = '/dumped/policy_node'
    first = start_policy('-r', '__ns:=/dumped', '-p', f'model.path:={checkpoints["good"]}')
    robot = make_robot('dumped')
    robot.wait_for_state(PolicyStatus.UNCONFIGURED)
    assert set_one(robot, 'model.ddim_steps', 5).successful
    for spec in LIVE:
        # What the model cannot do together is its own affair: some of it is enough here.
        if not spec.name.startswith('acceleration.') or spec.name.endswith('.keep'):
            assert set_one(robot, spec.name, other_value(spec)).successful, spec.name
    assert robot.change('configure'), first.output
    written = dump(robot, name)
    assert first.end() == 0
    file = tmp_path / 'dump.yaml'
    file.write_text(yaml.dump(written, default_flow_style=False))
    count = robot.status.count
    second = start_policy('-r', '__ns:=/dumped', '--params-file', str(file))
    robot.wait_for_state(PolicyStatus.UNCONFIGURED, since=count)
    assert robot.change('configure')
    assert dump(robot, name) == written
    parameters = written[name]['ros__parameters']
    assert any(key.startswith('qos_overrides') for key in parameters)
    assert not second.lines('unknown|ERROR')


def test_with_an_unknown_key_the_node_stays_and_refuses_to_be_configured(
    start_policy, make_robot, tmp_path
):
    file = tmp_path / 'typo.yaml'
    file.write_text(
        '/**:\n  ros__parameters:\n    autostart: true\n    safety:\n      max_imag_age: 1.0\n'
    )
    process = start_policy('-r', '__ns:=/typo', '--params-file', str(file))
    line = 'parameter "safety.max_imag_age" is unknown, did you mean "safety.max_image_age"?'
    robot = make_robot('typo')
    status = robot.status.wait(lambda s: s.last_error)
    assert status.state == PolicyStatus.UNCONFIGURED
    assert status.last_error == f'configure failed: {line}'
    assert process.lines(r'ERROR.*max_imag_age')
    assert not robot.change('configure')
    report = robot.diagnostics.wait(lambda d: d.status[0].name == 'typo/policy_node: policy')
    assert report.status[0].level == b'\x02'
    assert process.end() == 0
    assert 'Traceback' not in process.output
