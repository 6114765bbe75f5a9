"""The simulator node from start to end: parameters, clocks, chains of episodes, signals."""

from __future__ import annotations

import signal
from ctypes.util import find_library

import pytest
from ros_harness import NodeProcess
from sim_harness import SIMULATOR, SimPeer, nanoseconds

pytestmark = pytest.mark.ros

SMALL = ('-p', 'camera.width:=64', '-p', 'camera.height:=64')


@pytest.fixture
def launch(ros_domain, ros_context):
    """Starts simulator and peer in a namespace of their own: (process, peer)."""
    made = []

    def start(namespace: str, *arguments: str):
        process = NodeProcess(
            SIMULATOR, ros_domain, *SMALL, '-r', f'__ns:=/{namespace}', *arguments
        )
        made.append((process, SimPeer(ros_context, namespace)))
        return made[-1]

    yield start
    for process, peer in made:
        peer.close()
        process.end()


def test_episodes_follow_each_other_up_to_their_number(launch):
    _, peer = launch(
        'chain',
        *('-p', 'episodes:=2', '-p', 'pause:=0.5', '-p', 'seed:=40'),
        *('-p', 'real_time_factor:=10.0', '-p', 'auto_start:=false'),
    )
    peer.wait_until_connected()
    assert peer.reset().success
    peer.results.wait(lambda m: m.episode == 1, timeout=60.0)
    results = peer.results.since(0)
    assert [m.episode for m in results] == [0, 1]
    assert [m.seed for m in results] == [40, 41]
    assert [m.outcome for m in results] == ['timeout', 'timeout']
    assert [m.steps for m in results] == [60, 60]
    pause = nanoseconds(results[1].header.stamp) - nanoseconds(results[0].header.stamp)
    assert pause * 1e-9 == pytest.approx(12.0 + 0.5, abs=0.1)
    answer = peer.reset()
    assert not answer.success
    assert answer.message == 'all 2 episodes are over'


def test_each_seed_is_run_as_often_as_it_is_to_be_repeated(launch):
    _, peer = launch(
        'twice',
        *('-p', 'repeat:=2', '-p', 'episodes:=4', '-p', 'task:=all', '-p', 'seed:=40'),
        *('-p', 'real_time_factor:=20.0', '-p', 'auto_start:=false', '-p', 'pause:=0.0'),
    )
    peer.wait_until_connected()
    assert peer.reset().success
    peer.results.wait(lambda m: m.episode == 3, timeout=90.0)
    results = peer.results.since(0)
    assert [m.seed for m in results] == [40, 40, 41, 41]
    assert [m.task for m in results] == ['pick', 'pick', 'move_near', 'move_near']
    assert [results[0].instruction, results[2].instruction] == [
        results[1].instruction, results[3].instruction,
    ]  # fmt: skip
    assert not peer.reset().success


def test_first_episode_starts_by_itself_unless_told_otherwise(launch):
    _, peer = launch('alone')
    assert peer.instructions.wait().data.startswith('pick ')


def test_simulated_time_is_published_when_it_is_not_real_time(launch):
    _, peer = launch('fast', '-p', 'real_time_factor:=4.0')
    peer.clocks.wait()
    first, begin = peer.clocks.newest, peer.node.get_clock().now().nanoseconds
    last = peer.clocks.wait(since=peer.clocks.count + 200)
    simulated = nanoseconds(last.clock) - nanoseconds(first.clock)
    real = peer.node.get_clock().now().nanoseconds - begin
    assert nanoseconds(first.clock) < 600e9, 'simulated time starts near zero'
    assert simulated / real == pytest.approx(4.0, rel=0.5)
    stamp = nanoseconds(peer.joints.wait(since=peer.joints.count).header.stamp)
    assert abs(stamp - nanoseconds(peer.clocks.newest.clock)) < 1e9


def test_real_time_is_not_published_as_a_clock(launch):
    _, peer = launch('real')
    peer.joints.wait(since=peer.joints.count + 10)
    names = [name for name, _ in peer.node.get_topic_names_and_types()]
    publishers = peer.node.get_publishers_info_by_topic('/clock')
    assert '/real/joint_states' in names
    assert not [p for p in publishers if p.node_namespace == '/real']


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_signals_end_the_node_in_order(launch, number):
    process, peer = launch('signal')
    peer.images.wait()
    assert process.end(number) == 0
    assert 'Traceback' not in process.output


@pytest.mark.parametrize(
    ('argument', 'expected'),
    [
        ('task:=juggle', 'parameter task: got'),
        ('seed:=-1', 'parameter seed: got -1, expected integer, 0 to'),
        ('repeat:=0', 'parameter repeat: got 0, expected integer, 1 to'),
        ('camera.width:=2.5', 'parameter camera.width: got 2.5'),
        ('camera.rate:=.nan', 'parameter camera.rate: got nan'),
        ('real_time_factor:=0.0', 'parameter real_time_factor: got 0.0'),
    ],
)
def test_unusable_parameters_end_the_node_with_one_line(ros_domain, argument, expected):
    process = NodeProcess(SIMULATOR, ros_domain, '-p', argument)
    assert process.wait() == 1
    lines = process.output.splitlines()
    assert len(lines) == 1
    assert expected in lines[0]


def test_misspelt_parameter_is_named_with_what_was_meant(launch):
    process, _ = launch('typo', '-p', 'real_time_facter:=2.0')
    line = process.wait_for_line('unknown')
    assert 'real_time_facter' in line
    assert 'real_time_factor' in line


@pytest.mark.skipif(find_library('OSMesa') is not None, reason='OSMesa is installed here')
def test_a_machine_that_cannot_render_is_told_what_to_install(ros_domain, monkeypatch):
    monkeypatch.setenv('MUJOCO_GL', 'osmesa')
    process = NodeProcess(SIMULATOR, ros_domain)
    assert process.wait() == 1
    (line,) = process.output.splitlines()
    assert 'install the Debian packages' in line
