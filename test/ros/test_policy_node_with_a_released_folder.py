"""The policy node on folders in the layouts of the released models.

It plans over DDS; where a folder cannot be used it says so in one line and stays unconfigured.
"""

from __future__ import annotations

import numpy as np
import pytest
from checkpoint_writers import write_cogact, write_openvla
from ros_harness import NodeProcess, Robot, rgb_image
from tokenizer_writer import INSTRUCTION

from efficientvla_ros.msg import PolicyStatus
from efficientvla_ros.types import Observation

pytestmark = pytest.mark.ros


@pytest.fixture(scope='module')
def released(tmp_path_factory):
    """A CogACT folder, without a tokenizer as released, and an OpenVLA folder, which has one."""
    root = tmp_path_factory.mktemp('released')
    write_cogact(root / 'cogact', tokenizer=False)
    write_openvla(root / 'openvla')
    return root


@pytest.fixture
def start(start_policy, make_robot):
    """Starts a node with given parameters of the model, and its robot in the same namespace."""

    def start_both(namespace: str, **model: object):
        arguments = ['-r', f'__ns:=/{namespace}', '-p', 'autostart:=true']
        for name, value in model.items():
            arguments += ['-p', f'model.{name}:={value}']
        process = start_policy(*arguments)
        robot = make_robot(namespace)
        robot.describe()
        robot.instruct(INSTRUCTION)
        return process, robot

    return start_both


@pytest.fixture(scope='module')
def unconfigured(ros_domain, ros_context):
    """A node that waits to be configured and its robot: (process, robot)."""
    process = NodeProcess(
        'efficientvla_ros.ros.policy_node', ros_domain, '-r', '__ns:=/unconfigured'
    )
    robot = Robot(ros_context, 'unconfigured')
    robot.describe()
    robot.instruct(INSTRUCTION)
    try:
        robot.wait_for_state(PolicyStatus.UNCONFIGURED)
        yield process, robot
    finally:
        robot.close()
        process.end()


def expected_actions(**options: object) -> np.ndarray:
    """What the engine makes of the robot's image in this process."""
    from efficientvla_ros.runtime.engine import load_engine

    engine = load_engine(threads=1, **options)
    message = rgb_image()
    image = np.frombuffer(message.data, np.uint8).reshape(message.height, message.width, 3)
    return engine.infer(Observation({'camera': image}, INSTRUCTION, stamp_ns=0))[0].actions


def received_actions(robot: Robot) -> tuple[np.ndarray, float]:
    """Actions and step duration of the first plan that comes over DDS."""
    chunk = robot.chunks.wait(timeout=60.0)
    assert chunk.instruction == INSTRUCTION
    return np.array(chunk.actions).reshape(chunk.horizon, chunk.dimension), chunk.step_duration


def test_a_cogact_folder_plans_sixteen_actions(start, released):
    folder, tokenizer = released / 'cogact', released / 'openvla'
    process, robot = start('cogact', path=folder, tokenizer=tokenizer, unnorm_key='bridge_orig')
    actions, step_duration = received_actions(robot)
    assert actions.shape == (16, 7) and step_duration == pytest.approx(0.2)
    assert set(actions[:, 6]) <= {0.0, 1.0}
    options = {'tokenizer': str(tokenizer), 'unnorm_key': 'bridge_orig'}
    np.testing.assert_allclose(actions, expected_actions(model=str(folder), **options), rtol=1e-6)
    assert 'Traceback' not in process.output


def test_the_file_itself_plans_with_the_time_step_of_the_data_set(start, released):
    file = next((released / 'cogact' / 'checkpoints').glob('*.pt'))
    key = 'fractal20220817_data'
    _, robot = start('file', path=file, tokenizer=released / 'openvla', unnorm_key=key)
    actions, step_duration = received_actions(robot)
    assert actions.shape == (16, 7) and step_duration == pytest.approx(1 / 3)


def test_an_openvla_folder_plans_one_action(start, released):
    folder = released / 'openvla'
    process, robot = start('openvla', path=folder, unnorm_key='bridge_orig')
    actions, _ = received_actions(robot)
    expected = expected_actions(model=str(folder), unnorm_key='bridge_orig')
    assert actions.shape == (1, 7)
    np.testing.assert_allclose(actions, expected, rtol=1e-6)
    assert 'Traceback' not in process.output


def without_head(groups: dict) -> None:
    del groups['action_model']


def with_turned_projector(groups: dict) -> None:
    name = 'projector.0.weight'
    groups['projector'][name] = groups['projector'][name].T.contiguous()


def truncate(folder) -> None:
    file = next((folder / 'checkpoints').glob('*.pt'))
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def drop_statistics(folder) -> None:
    (folder / 'dataset_statistics.json').unlink()


@pytest.mark.parametrize(
    ('change', 'damage', 'complaint'),
    [
        (without_head, None, 'action_model'),
        (with_turned_projector, None, r'projector\.0\.weight'),
        (None, truncate, r'CogACT-Mini\.pt'),
        (None, drop_statistics, r'dataset_statistics\.json'),
    ],
)
def test_a_damaged_folder_is_named_in_one_line_and_the_node_stays_unconfigured(
    unconfigured, tmp_path, change, damage, complaint
):
    write_cogact(tmp_path, keys=('bridge_orig',), change=change)
    if damage is not None:
        damage(tmp_path)
    process, robot = unconfigured
    before = process.mark()
    assert robot.set_parameters(model__path=str(tmp_path))[0].successful
    assert not robot.change('configure')
    assert robot.lifecycle_state() == 'unconfigured'
    process.wait_for_line(f'configure failed: .*{complaint}', before)
    assert len(process.lines(r'\[ERROR\]', before)) == 1
    assert 'Traceback' not in process.output
    assert robot.chunks.count == robot.commands.count == 0


def test_what_a_folder_lacks_can_be_given_and_the_node_configured_then(unconfigured, released):
    process, robot = unconfigured
    robot.set_parameters(model__path=str(released / 'cogact'))
    assert not robot.change('configure')
    process.wait_for_line('configure failed: .*bridge_orig.*fractal20220817_data')
    assert robot.set_parameters(model__unnorm_key='bridge_orig')[0].successful
    assert not robot.change('configure')
    process.wait_for_line(r'configure failed: .*tokenizer\.json')
    assert robot.set_parameters(model__tokenizer=str(released / 'openvla'))[0].successful
    assert robot.change('configure')
    assert robot.change('activate')
    assert received_actions(robot)[0].shape == (16, 7)
