"""`efficientvla demo` as users run it: with an untrained policy, so that it is quick to load."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import cv2
import psutil
import pytest
from ros_harness import PATIENCE, ROOT

pytest.importorskip('av')
pytest.importorskip('matplotlib')
import av

pytestmark = [pytest.mark.ros, pytest.mark.timeout(300)]


class Demo:
    """A running demo; what it prints is kept."""

    def __init__(self, out: Path, *arguments: str, **variables: str) -> None:
        environment = {**os.environ, 'NO_COLOR': '1', 'OMP_NUM_THREADS': '1', **variables}
        environment.pop('ROS_DOMAIN_ID', None)
        environment['PYTHONPATH'] = os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')])
        self.out = out
        self.process = subprocess.Popen(
            [sys.executable, '-m', 'efficientvla_ros.cli.main', 'demo', '--out', str(out)]
            + list(arguments),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []
        self._changed = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self.process.stdout:
            with self._changed:
                self.lines.append(line.rstrip())
                self._changed.notify_all()

    def wait_for(self, text: str, timeout: float = 120.0) -> str:
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                found = [line for line in self.lines if text in line]
                if found:
                    return found[0]
                left = deadline - time.monotonic()
                assert left > 0.0, f'{text!r} does not appear in\n' + '\n'.join(self.lines)
                self._changed.wait(left)

    def nodes(self) -> list[psutil.Process]:
        """The processes that it started."""
        return [
            child
            for child in psutil.Process(self.process.pid).children(recursive=True)
            if 'efficientvla_ros.ros.' in ' '.join(child.cmdline())
        ]


@pytest.fixture
def demo(tmp_path, checkpoints):
    started = []

    def start(*arguments: str, **variables: str) -> Demo:
        model = ('--model', str(checkpoints['good'])) if '--model' not in arguments else ()
        started.append(Demo(tmp_path / 'out', *model, *arguments, **variables))
        return started[-1]

    yield start
    for run in started:
        run.process.kill()
        run.process.wait()


def assert_gone(processes: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=PATIENCE)
    alive = [p for p in alive if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
    assert alive == []


def test_demo_leaves_video_report_and_summary_and_no_process(demo):
    run = demo(
        *('--episodes', '1', '--min-success', '0', '--seed', '77'),
        *('--task', 'all', '--preset', 'cache', '--compare', 'dense'),
    )
    run.wait_for('policy active after')
    nodes = run.nodes()
    assert len(nodes) == 2
    code = run.process.wait(150.0)
    text = '\n'.join(run.lines)
    assert code == 0, text
    assert_gone(nodes)
    assert 'episode 1/2  pick ' in text
    assert 'presets: cache ' in text
    assert ' -> pick ' in text, 'the changed instruction'
    assert 'camera to command: p50 ' in text
    assert '\x1b' not in text, 'escape sequences without a terminal'

    summary = json.loads((run.out / 'summary.json').read_text())
    assert summary['settings']['preset'] == 'cache'
    log = (run.out / 'logs' / 'policy.log').read_text()
    assert 'plan cache: 12 layers, 2 of 10' in log and 'plan dense: ' in log
    rows = summary['rows']
    assert [(row['seed'], row['task'], row['preset']) for row in rows] == [
        (77, 'pick', 'cache'), (77, 'pick', 'dense'),
    ]  # fmt: skip
    assert all(row['instruction_changed'] and row['change_planned'] for row in rows)
    assert rows[0]['instruction'] == rows[1]['instruction']
    assert summary['instruction_changes']['applied'] == 2
    times = [summary['presets'][name]['plan_ms_p50'] for name in ('cache', 'dense')]
    assert min(times) > 0.0 and times[0] != times[1], 'each preset has its own time'
    stages = list(summary['latency_ms']['stages'])
    assert stages == ['preprocess', 'vision', 'language', 'action_head', 'postprocess']
    assert summary['latency_ms']['camera_to_command_p50'] > 0
    assert summary['policy_memory']['end_mb'] < 1500
    assert summary['processes']['simulator node']['cores'] > 0.0

    with av.open(str(run.out / 'demo.mp4')) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ('h264', 'yuv420p')
        seconds = float(stream.duration * stream.time_base)
    assert seconds == pytest.approx(sum(row['duration'] + 1.0 for row in rows), abs=3.0)
    assert cv2.imread(str(run.out / 'report.png')) is not None


@pytest.mark.parametrize(
    ('number', 'code'), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=['Ctrl-C', 'SIGTERM']
)
def test_interrupting_ends_every_process(demo, number, code):
    run = demo('--episodes', '3')
    run.wait_for('policy active after')
    nodes = run.nodes()
    assert len(nodes) == 2
    run.process.send_signal(number)
    assert run.process.wait(PATIENCE) == code
    assert_gone(nodes)
    run.wait_for('interrupted after 0 episodes')
    assert not any('Traceback' in line for line in run.lines)


def test_interrupting_while_the_model_loads_ends_every_process(demo):
    run = demo('--episodes', '3')
    run.wait_for('waiting for')
    nodes = run.nodes()
    run.process.send_signal(signal.SIGINT)
    assert run.process.wait(PATIENCE) == 130
    assert_gone(nodes)


def test_kill_minus_9_leaves_no_orphan(demo):
    run = demo('--episodes', '3')
    run.wait_for('policy active after')
    nodes = run.nodes()
    assert len(nodes) == 2
    run.process.kill()
    assert_gone(nodes)


@pytest.mark.parametrize('name', ['policy_node', 'tabletop_sim_node'])
def test_a_crashed_node_ends_the_demo_with_its_last_words(demo, name):
    run = demo('--episodes', '3')
    run.wait_for('policy active after')
    nodes = run.nodes()
    (victim,) = [node for node in nodes if name in ' '.join(node.cmdline())]
    victim.kill()
    assert run.process.wait(PATIENCE) == 1
    assert_gone(nodes)
    run.wait_for('node ended (SIGKILL); its log is ')
    run.wait_for(f'[{name}]')  # the tail of its log


def test_a_policy_that_gives_up_in_mid_run_ends_the_demo_with_the_reason(demo, checkpoints):
    run = demo('--episodes', '3', '--model', str(checkpoints['nan']))
    assert run.process.wait(120.0) == 1
    assert 'error: the policy reports: ' in run.wait_for('error: ')
    assert len([line for line in run.lines if line.startswith('episode ')]) < 3


def test_damaged_weights_end_the_demo_with_the_reason(demo, checkpoints):
    run = demo('--episodes', '3', '--model', str(checkpoints['corrupt']))
    assert run.process.wait(120.0) == 1
    assert 'model.safetensors' in run.wait_for('error: ')
    assert not any('Traceback' in line for line in run.lines)
