"""Started programs end with their parent, keep their output, and are stopped if needed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from efficientvla_ros.cli.child_processes import ChildProcess, stop_all
from efficientvla_ros.types import InputError

PATIENCE = 30.0


def python(code: str) -> list[str]:
    return [sys.executable, '-c', code]


def wait_for(condition, what: str):
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.01)
    raise AssertionError(f'waited in vain for {what}')


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.fixture
def start(tmp_path):
    children = []

    def start(code: str, name: str = 'worker') -> ChildProcess:
        log = tmp_path / f'{len(children)}.log'
        children.append(ChildProcess(name, python(code), log))
        return children[-1]

    yield start
    stop_all(children, patience=0.1)


def test_output_is_kept_and_its_tail_is_shown(start):
    child = start(
        'import sys; [print("line", i, flush=True) for i in range(100)]; sys.exit("the end of it")'
    )
    wait_for(lambda: child.returncode is not None, 'the end')
    tail = child.log_tail(3).splitlines()
    assert 'the end of it' in tail
    assert len(tail) == 3
    assert child.log.read_text().count('line') == 100


@pytest.mark.parametrize(
    ('code', 'expected'),
    [
        ('raise SystemExit(3)', 'worker ended (exit code 3)'),
        ('import os; os.kill(os.getpid(), 9)', 'worker ended (SIGKILL)'),
    ],
)
def test_the_way_it_ended_is_named(start, code, expected):
    child = start(code)
    wait_for(lambda: child.returncode is not None, 'the end')
    assert child.how_it_ended() == expected


def test_a_running_program_has_not_ended(start):
    child = start('import time; time.sleep(60)')
    assert child.how_it_ended() == ''
    assert child.returncode is None


def test_stopping_lets_a_program_clean_up(start):
    child = start(
        'import time\n'
        'print("up", flush=True)\n'
        'try:\n    time.sleep(60)\n'
        'except KeyboardInterrupt:\n    print("cleaned up", flush=True)\n'
    )
    wait_for(lambda: 'up' in child.log_tail(), 'the start')
    stop_all([child])
    assert child.returncode == 0
    assert 'cleaned up' in child.log_tail()


def test_a_stubborn_program_is_killed_and_does_not_delay_the_others_twice(start):
    code = (
        'import signal, time\n'
        'signal.signal(signal.SIGINT, signal.SIG_IGN)\n'
        'signal.signal(signal.SIGTERM, signal.SIG_IGN)\n'
        'print("up", flush=True)\ntime.sleep(60)'
    )
    children = [start(code), start(code)]
    for child in children:
        wait_for(lambda child=child: 'up' in child.log_tail(), 'the start')
    begin = time.monotonic()
    stop_all(children, patience=0.3)
    assert time.monotonic() - begin < 10.0
    assert [child.returncode for child in children] == [-signal.SIGKILL] * 2


def test_stopping_what_has_ended_is_harmless(start):
    child = start('pass')
    wait_for(lambda: child.returncode is not None, 'the end')
    stop_all([child])
    stop_all([child])
    assert child.returncode == 0


def test_ctrl_c_in_the_terminal_does_not_reach_it_directly(start):
    child = start('import time; time.sleep(60)')
    assert os.getpgid(child.pid) == child.pid != os.getpgid(0)


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='the kernel does this on Linux')
def test_kill_minus_9_of_the_parent_leaves_no_orphan(tmp_path):
    code = (
        'import sys, time\n'
        'from efficientvla_ros.cli.child_processes import ChildProcess\n'
        'sleep = [sys.executable, "-c", "import time; time.sleep(120)"]\n'
        f'children = [ChildProcess("c", sleep, {str(tmp_path)!r} + f"/{{i}}") for i in (1, 2)]\n'
        'print(*[c.pid for c in children], flush=True)\n'
        'time.sleep(120)\n'
    )
    parent = subprocess.Popen(python(code), stdout=subprocess.PIPE, text=True)
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(pids) == 2
    assert not any(gone(pid) for pid in pids)
    parent.kill()
    parent.wait()
    wait_for(lambda: all(gone(pid) for pid in pids), 'the end of the children')


def test_a_program_that_cannot_be_started_is_named(tmp_path):
    with pytest.raises(InputError, match=r'worker: cannot be started .*/no/such/program'):
        ChildProcess('worker', ['/no/such/program'], tmp_path / 'log')


def test_a_log_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(InputError, match=r'cannot be started .*missing/log'):
        ChildProcess('worker', python('pass'), tmp_path / 'missing' / 'log')
