"""`efficientvla monitor` attaches to a running node over DDS and leaves the terminal in order."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time

import pytest
from ros_harness import PATIENCE, ROOT

pytestmark = pytest.mark.ros

COMMAND = [sys.executable, '-m', 'efficientvla_ros.cli.main', 'monitor']
HIDDEN, SHOWN = b'\x1b[?25l', b'\x1b[?25h'
ALTERNATE, BACK = b'\x1b[?1049h', b'\x1b[?1049l'


def environment(domain: int) -> dict[str, str]:
    return dict(
        os.environ,
        ROS_DOMAIN_ID=str(domain),
        ROS_AUTOMATIC_DISCOVERY_RANGE='LOCALHOST',
        PYTHONPATH=os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')]),
        PYTHONIOENCODING='utf-8',
        COLUMNS='100',
        LINES='50',
        TERM='xterm',
    )


def monitor(domain: int, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [*COMMAND, *arguments],
        env=environment(domain), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


class Terminal:
    """The monitor in a terminal of its own."""

    def __init__(self, domain: int, *arguments: str) -> None:
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [*COMMAND, *arguments],
            env=environment(domain), stdin=slave, stdout=slave, stderr=slave,
        )  # fmt: skip
        os.close(slave)
        self.output = b''

    def wait_for(self, text: bytes, timeout: float = PATIENCE) -> None:
        deadline = time.monotonic() + timeout
        while text not in self.output:
            assert time.monotonic() < deadline, self.output[-3000:]
            self._read(0.2)

    def _read(self, seconds: float) -> None:
        if select.select([self.master], [], [], seconds)[0]:
            with contextlib.suppress(OSError):  # the other end is closed
                self.output += os.read(self.master, 65536)

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        deadline = time.monotonic() + PATIENCE
        while self.process.poll() is None and time.monotonic() < deadline:
            self._read(0.1)
        self._read(0.1)
        os.close(self.master)
        return self.process.wait(1.0)


def test_a_snapshot_shows_the_running_node(shared_policy, ros_domain):
    result = monitor(ros_domain, '--once')
    assert result.returncode == 0, result.stderr
    for part in ('/policy_node', 'RUNNING', 'pick red can', 'action_head', 'camera: '):
        assert part in result.stdout, result.stdout
    assert '\x1b' not in result.stdout


def test_json_is_one_line_a_status_with_what_the_node_says(shared_policy, ros_domain):
    _, robot = shared_policy
    result = monitor(ros_domain, '--once', '--json', '--node', 'policy_node')
    line = json.loads(result.stdout)
    assert (line['node'], line['silent'], line['state']) == ('/policy_node', False, 'running')
    status = robot.status.newest
    assert abs(line['ticks'] - status.ticks) < 20
    assert line['stage_names'] == list(status.stage_names)
    assert line['layers_total'] == status.layers_total > 0


def test_without_the_node_the_exit_code_is_1_and_the_line_says_who_is_there(
    shared_policy, ros_domain
):
    result = monitor(ros_domain, '--once', '--node', '/other/policy_node', '--timeout', '4')
    assert result.returncode == 1
    assert result.stdout == ''
    wanted = 'no policy node "/other/policy_node" was heard within 4 s'
    assert f'{wanted} in ROS_DOMAIN_ID {ros_domain}' in result.stderr
    assert 'there are: /policy_node' in result.stderr
    assert 'Traceback' not in result.stderr


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_terminal_is_restored_at_the_end(shared_policy, ros_domain, number):
    terminal = Terminal(ros_domain)
    terminal.wait_for(b'RUNNING')
    assert terminal.end(number) == 0
    assert terminal.output.count(ALTERNATE) == terminal.output.count(BACK) == 1
    assert terminal.output.rindex(SHOWN) > terminal.output.rindex(HIDDEN)
    assert b'Traceback' not in terminal.output


def test_silence_and_the_return_of_a_node_are_told(start_policy, ros_domain):
    node = start_policy('-r', '__ns:=/quiet')
    terminal = Terminal(ros_domain, '--node', 'quiet/policy_node')
    terminal.wait_for(b'UNCONFIGURED')
    node.end()
    terminal.wait_for(b'SILENT: no status for')
    terminal.wait_for(b'the node is gone')
    start_policy('-r', '__ns:=/quiet', '-p', 'control.base_frame:=back')
    terminal.output = b''  # the picture is drawn as a whole
    terminal.wait_for(b'UNCONFIGURED')
    while b'SILENT' in terminal.output:
        terminal.output = b''
        terminal.wait_for(b'UNCONFIGURED')
    assert terminal.end(signal.SIGINT) == 0


def test_lines_for_pipes_tell_silence_too(start_policy, ros_domain):
    node = start_policy('-r', '__ns:=/piped')
    process = subprocess.Popen(
        [*COMMAND, '--json', '--node', '/piped/policy_node'],
        env=environment(ros_domain), stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        first = json.loads(process.stdout.readline())
        assert (first['silent'], first['state']) == (False, 'unconfigured')
        node.kill()
        lines = iter(process.stdout.readline, '')
        silent = next(line for line in map(json.loads, lines) if line['silent'])
        assert silent['silence'] >= 3.0
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
