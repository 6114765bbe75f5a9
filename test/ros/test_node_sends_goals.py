"""The real node with action interfaces: one plan at a time, cancelled when the arm must stop.

Regression guarded: a new goal aborts the one under way in joint_trajectory_controller, so plans
at the rate of inference would never let the arm get anywhere smoothly.
"""

from __future__ import annotations

import os
import re
from itertools import pairwise
from pathlib import Path

import pytest
from interface_build import control_msgs_paths
from ros_harness import POLICY, NodeProcess, Robot, rgb_image
from std_msgs.msg import String

pytestmark = [pytest.mark.ros, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope='module')
def control_msgs():
    """control_msgs on the paths of child processes."""
    patch = pytest.MonkeyPatch()
    for name, folder in control_msgs_paths().items():
        patch.setenv(name, folder, prepend=os.pathsep)
    patch.setenv('PYTHONPATH', str(Path(__file__).parent), prepend=os.pathsep)
    yield
    patch.undo()


def policy(domain: int, model: Path, *arguments: str) -> NodeProcess:
    given = (f'model.path:={model}', 'autostart:=true', *arguments)
    return NodeProcess(POLICY, domain, *(part for a in given for part in ('-p', a)))


class Setup:
    """Action servers, a policy node that commands them, and its camera and user."""

    def __init__(self, servers: NodeProcess, process: NodeProcess, robot: Robot) -> None:
        self.servers, self.process, self.robot = servers, process, robot
        self._behaviour = robot.node.create_publisher(String, 'behaviour', 1)

    def behave(self, word: str) -> None:
        mark = self.servers.mark()
        self._behaviour.publish(String(data=word))
        self.servers.wait_for_line(f'behaviour {word}', mark)

    def counted(self, name: str) -> int:
        """Waits until the node's diagnostics have counted a fault."""
        heard = self.robot.diagnostics
        message = heard.wait(
            lambda m: any(v.key == name for s in m.status for v in s.values), heard.count
        )
        return int(next(v.value for s in message.status for v in s.values if v.key == name))


@pytest.fixture(scope='module')
def setup(control_msgs, ros_domain, ros_context, checkpoints):
    servers = NodeProcess('action_servers', ros_domain)
    servers.wait_for_line('ready')
    process = policy(
        ros_domain,
        checkpoints['good'],
        'command.interface:=follow_joint_trajectory',
        'gripper.interface:=gripper_command',
        'gripper.max_effort:=5.0',
    )
    robot = Robot(ros_context)
    robot.describe()
    robot.instruct('pick red can')
    try:
        process.wait_for_line('model .* is ready', timeout=60.0)
        servers.wait_for_line('arm goal')
        yield Setup(servers, process, robot)
    finally:
        robot.close()
        code = process.end()
        servers.end()
    assert code == 0, process.output
    assert 'Traceback' not in process.output, process.output


def test_the_next_plan_is_sent_when_the_goal_has_ended(setup):
    mark = setup.servers.mark()
    for _ in range(2):
        goal = setup.servers.wait_for_line('arm goal', mark)
        number = int(goal.split()[2])
        setup.servers.wait_for_line(f'arm done {number}', mark)
        setup.servers.wait_for_line(f'arm goal {number + 1}', mark)
        mark = setup.servers.mark()
    story = [line.split()[1:3] for line in setup.servers.lines('arm (goal|done|preempted|cancel)')]
    whole = story[: len(story) // 2 * 2]
    assert [what for what, _ in whole] == ['goal', 'done'] * (len(whole) // 2)
    # Six joints, the first point still to come, at rest in the end.
    _, _, _, joints, first, rest = goal.split()
    assert (joints, rest) == ('6', 'True')
    assert float(first) > 0.0


def test_the_gripper_gets_goals_when_it_changes_only(setup):
    lines = setup.servers.lines('gripper goal')
    assert lines
    values = [line.split()[2] for line in lines]
    assert all(a != b for a, b in pairwise(values))
    assert set(values) <= {'0.045', '0'}
    assert {line.split()[3] for line in lines} == {'5'}


def test_a_hold_cancels_the_goal_and_the_node_goes_on_afterwards(setup):
    robot = setup.robot
    mark, status = setup.servers.mark(), robot.status.count
    setup.servers.wait_for_line('arm goal', mark)
    robot.image = None
    robot.wait_until_held('image_too_old', status)
    setup.servers.wait_for_line('arm cancelled', mark)
    robot.status.wait(since=robot.status.count)
    at_end = setup.servers.mark()
    robot.status.wait(since=robot.status.count)
    assert not setup.servers.lines('arm goal', at_end)
    robot.image = rgb_image()
    setup.servers.wait_for_line('arm goal', at_end)


def test_a_rejected_goal_is_said_in_a_line_and_counted(setup):
    mark = setup.process.mark()
    setup.behave('reject')
    setup.process.wait_for_line(r'"follow_joint_trajectory" rejected the goal', mark)
    assert setup.counted('goal_rejected') >= 1
    setup.behave('accept')
    setup.servers.wait_for_line('arm goal', setup.servers.mark())


def test_an_aborted_goal_is_reported_with_the_name_of_its_error(setup):
    mark = setup.process.mark()
    setup.behave('abort')
    line = setup.process.wait_for_line('aborted the goal', mark)
    assert re.search(r'path_tolerance_violated \(elbow is too far off\)', line)
    assert setup.counted('goal_path_tolerance_violated') >= 1
    setup.behave('accept')


def test_a_new_plan_preempts_where_that_is_asked_for(setup):
    mark = setup.servers.mark()
    assert setup.robot.set_parameters(command__preempt=True)[0].successful
    setup.servers.wait_for_line('arm preempted', mark)
    assert setup.robot.set_parameters(command__preempt=False)[0].successful


def test_deactivate_cancels_and_sends_nothing_more(setup):
    mark = setup.servers.mark()
    setup.servers.wait_for_line('arm goal', mark)
    assert setup.robot.change('deactivate')
    setup.servers.wait_for_line('arm (cancelled|done)', mark)
    at_end = setup.servers.mark()
    for _ in range(2):
        setup.robot.status.wait(since=setup.robot.status.count)
    assert not setup.servers.lines('goal', at_end)
    assert setup.robot.change('activate')
    setup.servers.wait_for_line('arm goal', at_end)


def test_a_server_that_is_gone_is_named_and_the_node_stays(setup):
    mark = setup.process.mark()
    setup.servers.end()
    setup.process.wait_for_line('no_controller: no controller on .*follow_joint_trajectory', mark)
    assert setup.robot.lifecycle_state() == 'active'


def test_a_parallel_gripper_gets_joint_states(control_msgs, ros_domain, checkpoints, make_robot):
    servers = NodeProcess('action_servers', ros_domain)
    process = policy(
        ros_domain,
        checkpoints['good'],
        'gripper.interface:=parallel_gripper_command',
        'gripper.topic:=parallel_gripper',
        'gripper.max_effort:=7.5',
        'gripper.invert:=true',
    )
    robot = make_robot()
    robot.describe()
    robot.instruct('pick red can')
    try:
        line = servers.wait_for_line('parallel goal', timeout=60.0)
        assert re.fullmatch(r'parallel goal gripper (0\.045|0\.0) 7\.5', line)
        assert list(robot.commands.wait().joint_names)[-1] != 'gripper'
        # Fingers that stall hold something; nothing is wrong with that.
        assert not process.lines('did not reach')
    finally:
        process.end()
        servers.end()
