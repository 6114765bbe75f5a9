"""Fixtures of the ROS tests: a context of their own, checkpoints, and a policy node that runs."""

from __future__ import annotations

import shutil

import pytest

pytest.importorskip('rclpy')
pytest.importorskip('efficientvla_ros.msg')

import rclpy
from ros_harness import POLICY, NodeProcess, Robot, active_policy, private_domain

from efficientvla_ros.ros.transport import make_room_for_images

# As a camera driver is told to.
make_room_for_images()


@pytest.fixture(scope='module')
def ros_domain():
    """A domain of the module's own."""
    return private_domain()


@pytest.fixture(scope='module')
def ros_context(ros_domain):
    """An initialised rclpy context in the module's domain."""
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=ros_domain)
    yield context
    rclpy.shutdown(context=context)


@pytest.fixture(scope='session')
def checkpoints(tmp_path_factory):
    """Checkpoint folders: random weights, weights that give NaN, and damaged ones."""
    from efficientvla_ros.models.checkpoint import load_checkpoint, save_checkpoint
    from efficientvla_ros.runtime.load_options import WEIGHTS_FOLDER

    source = WEIGHTS_FOLDER / 'tabletop-pick'
    root = tmp_path_factory.mktemp('checkpoints')
    checkpoint = load_checkpoint(source, random_weights=0)
    folders = {name: root / name for name in ('good', 'nan', 'corrupt', 'empty')}
    import json

    statistics = json.loads((source / 'dataset_statistics.json').read_text())
    save_checkpoint(folders['good'], checkpoint.model, checkpoint.tokenizer, statistics)
    last = list(checkpoint.model.state_dict().values())[-1]
    last.fill_(float('nan'))
    save_checkpoint(folders['nan'], checkpoint.model, checkpoint.tokenizer, statistics)
    shutil.copytree(folders['good'], folders['corrupt'])
    weights = folders['corrupt'] / 'model.safetensors'
    weights.write_bytes(weights.read_bytes()[:1000])
    folders['empty'].mkdir()
    return folders


@pytest.fixture
def start_policy(ros_domain):
    """Starts policy nodes and ends them after the test."""
    started = []

    def start(*ros_arguments: str) -> NodeProcess:
        started.append(NodeProcess(POLICY, ros_domain, *ros_arguments))
        return started[-1]

    yield start
    for process in started:
        process.end()


@pytest.fixture
def make_robot(ros_context):
    """Makes peers of policy nodes."""
    made = []

    def make(namespace: str = '', node: str = 'policy_node') -> Robot:
        made.append(Robot(ros_context, namespace, node))
        return made[-1]

    yield make
    for robot in made:
        robot.close()


@pytest.fixture(scope='module')
def shared_policy(ros_domain, ros_context, checkpoints):
    """One policy node for the tests of a module, configured and active: (process, robot)."""
    with active_policy(ros_domain, ros_context, checkpoints['good']) as pair:
        yield pair
