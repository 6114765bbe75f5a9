"""Rerun logging: off without the package in one line, complete with it, and no tick waits for it.

Most tests put a small stand-in for `rerun` on the node's path, which writes down what it is asked
to do; the last one runs with the real package where that is installed.
"""

from __future__ import annotations

import importlib.util
import json
import os
import time

import pytest
from ros_harness import NodeProcess

from efficientvla_ros.ros.parameters.policy import TABLE
from efficientvla_ros.types import InputError

pytestmark = pytest.mark.ros

STAND_IN = '''
"""A stand-in for rerun-sdk: appends every call to the file that was asked for."""
import json, os, time

class Thing:
    def __init__(self, *values, **options):
        self.kind, self.shape = type(self).__name__, list(getattr(values[0], 'shape', []))
        self.value = values[0] if isinstance(values[0], (list, str)) else None
    def compress(self, jpeg_quality):
        return self

Image, Scalars, Tensor, TextLog = (type(n, (Thing,), {}) for n in
                                   ('Image', 'Scalars', 'Tensor', 'TextLog'))

class RecordingStream:
    def __init__(self, application):
        self.time = None
    def save(self, path):
        self.file = open(path, 'w')
    def spawn(self):
        raise RuntimeError('no viewer\\nhere')
    def set_time(self, timeline, timestamp):
        self.time = timestamp.astype('int64').item()
    def log(self, path, thing):
        time.sleep(float(os.environ.get('STAND_IN_DELAY', '0')))
        entry = {'path': path, 'kind': thing.kind, 'time': self.time, 'value': thing.value,
                 'shape': thing.shape}
        print(json.dumps(entry), file=self.file, flush=True)
    def flush(self, timeout_sec):
        self.file.flush()
    def disconnect(self):
        print(json.dumps({'path': 'end'}), file=self.file)
        self.file.close()
'''


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    folder = tmp_path / 'stand_in'
    folder.mkdir()
    (folder / 'rerun.py').write_text(STAND_IN)
    path = os.pathsep.join([str(folder), os.environ.get('PYTHONPATH', '')])
    monkeypatch.setenv('PYTHONPATH', path)
    return tmp_path / 'run.rrd'


def start(start_policy, checkpoints, namespace: str, target: object) -> NodeProcess:
    return start_policy(
        '-r', f'__ns:=/{namespace}', '-p', f'model.path:={checkpoints["good"]}',
        '-p', 'autostart:=true', '-p', 'control.rate:=5.0', '-p', f'logging.rerun:={target}',
    )  # fmt: skip


def run_a_while(robot, ticks: int = 6):
    robot.describe()
    robot.instruct('pick red can')
    return robot.status.wait(lambda s: s.ticks >= ticks)


def entries(file) -> list[dict]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_images_plans_joints_and_status_are_logged_on_the_clock_of_the_node(
    stand_in, start_policy, make_robot, checkpoints
):
    process, robot = start(start_policy, checkpoints, 'logged', stand_in), make_robot('logged')
    before = time.time_ns()
    status = run_a_while(robot)
    assert process.end() == 0
    logged = entries(stand_in)
    kinds = {(entry['path'], entry.get('kind')) for entry in logged}
    assert {
        ('cameras/camera', 'Image'), ('plan/actions', 'Tensor'),
        ('plan/first_action/gripper', 'Scalars'), ('joints/waist/measured', 'Scalars'),
        ('joints/waist/commanded', 'Scalars'), ('status/rate', 'Scalars'),
        ('status/state', 'TextLog'),
    } <= kinds  # fmt: skip
    assert logged[-1] == {'path': 'end'}
    images = [entry for entry in logged if entry['path'] == 'cameras/camera']
    assert images[0]['shape'] == [120, 160, 3]
    assert status.log_dropped == 0
    assert len(images) >= status.ticks
    assert all(before - 10**9 < entry['time'] < time.time_ns() + 10**9 for entry in logged[:-1])
    positions = [e['value'][0] for e in logged if e['path'] == 'joints/waist/measured']
    assert positions[0] == robot.joint_positions[0]
    times = [e['time'] for e in logged if e['path'] == 'joints/waist/commanded']
    assert times == sorted(set(times))  # plans overlap, what was followed does not


def test_a_slow_log_drops_and_counts_and_no_tick_waits_for_it(
    stand_in, start_policy, make_robot, checkpoints, monkeypatch
):
    monkeypatch.setenv('STAND_IN_DELAY', '0.3')
    process, robot = start(start_policy, checkpoints, 'slow', stand_in), make_robot('slow')
    run_a_while(robot)
    # Sooner or later, on a busy machine too; never, if ticks waited 0.3 s for every entry.
    robot.status.wait(lambda s: s.log_dropped > 0 and s.rate > 3.0 and s.latency_p95 < 0.3)
    assert process.end() == 0


def test_without_the_package_or_the_folder_configure_says_so(
    start_policy, make_robot, checkpoints, monkeypatch, tmp_path
):
    (tmp_path / 'rerun.py').write_text('raise ModuleNotFoundError("no rerun", name="rerun")')
    path = os.pathsep.join([str(tmp_path), os.environ.get('PYTHONPATH', '')])
    monkeypatch.setenv('PYTHONPATH', path)
    process = start(start_policy, checkpoints, 'lacking', 'spawn')
    process.wait_for_line(
        r'configure failed: parameter logging\.rerun: got "spawn", but "rerun" is not installed: '
        r"pip install 'rerun-sdk>=0\.30'"
    )
    (tmp_path / 'rerun.py').write_text(STAND_IN)
    robot = make_robot('lacking')
    for target, complaint in (
        (f'{tmp_path}/no/such.rrd', 'folder ".*/no" does not exist'),
        ('localhost:1', 'cannot be opened: .*refused; expected .* a viewer that runs'),
        ('spawn', 'cannot be opened: RuntimeError: no viewer here; expected pip install'),
    ):
        mark = process.mark()
        assert robot.set_parameters(logging__rerun=target)[0].successful
        assert not robot.change('configure')
        # The node has remembered that its first import failed, as Python does.
        process.wait_for_line('configure failed: parameter logging.rerun', mark)
        assert process.lines(complaint, mark)
    assert robot.set_parameters(logging__rerun='')[0].successful
    assert robot.change('configure')
    assert 'Traceback' not in process.output


@pytest.mark.parametrize('target', ['viewer', 'run.rr', 'host:', ':9876', 'http://host:1'])
def test_a_target_of_no_known_kind_is_refused(target):
    with pytest.raises(InputError, match=r'logging\.rerun: got .*host:port'):
        TABLE.settings({'logging.rerun': target})


@pytest.mark.parametrize(
    'target', ['', 'spawn', '/tmp/a.rrd', 'host:9876', '[::1]:9876', 'rerun+http://host:1/proxy']
)
def test_known_kinds_of_targets_are_taken(target):
    assert TABLE.settings({'logging.rerun': target})['logging.rerun'] == target


@pytest.mark.skipif(importlib.util.find_spec('rerun') is None, reason='rerun-sdk is not installed')
def test_the_real_package_writes_a_recording(start_policy, make_robot, checkpoints, tmp_path):
    file = tmp_path / 'run.rrd'
    process, robot = start(start_policy, checkpoints, 'real', file), make_robot('real')
    run_a_while(robot)
    assert robot.status.newest.log_dropped == 0
    assert process.end() == 0
    assert 'logging.rerun' not in process.output
    content = file.read_bytes()
    assert content.startswith(b'RRF')
    assert len(content) > 20_000
