"""Processes that end with the one that started them, whatever way that one ends."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from efficientvla_ros.types import InputError

TAIL_LINES = 15

_PR_SET_PDEATHSIG = 1
# Loaded here and not between fork and exec, where importing could deadlock.
_LIBC = ctypes.CDLL(None) if sys.platform.startswith('linux') else None


def _prepare(parent: int) -> None:
    """Runs in the child before exec.

    The kernel kills the child as soon as its parent is gone. SIGINT, by which it is asked to
    stop, is heard again: a shell that starts a job in the background has it ignored.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # the parent went before the request was in place
        os._exit(1)


class ChildProcess:
    """One started program in its own process group, with its output in a log file.

    On Linux the kernel kills the program when the thread that started it is gone, so start it
    from the main thread.
    """

    def __init__(
        self, name: str, command: Sequence[str], log: Path, env: Mapping[str, str] | None = None
    ) -> None:
        """Starts the program.

        Args:
            name: how messages call it, e.g. 'policy node'.
            command: program and arguments.
            log: file for its stdout and stderr; replaced.
            env: its environment, or None for this process's own.

        Raises:
            InputError: the log or the program cannot be opened.
        """
        self.name = name
        self.log = Path(log)
        parent = os.getpid()
        try:
            with self.log.open('wb') as output:
                self._process = subprocess.Popen(
                    list(command),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=dict(env) if env is not None else None,
                    start_new_session=True,
                    preexec_fn=lambda: _prepare(parent),
                )
        except OSError as error:
            raise InputError(
                f'{name}: cannot be started ({error.strerror}: {error.filename})'
            ) from error

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Exit code, negative for a signal; None while it runs."""
        return self._process.poll()

    def how_it_ended(self) -> str:
        """E.g. 'policy node ended (exit code 1)'; '' while it runs."""
        code = self.returncode
        if code is None:
            return ''
        if code < 0:
            try:
                reason = signal.Signals(-code).name
            except ValueError:
                reason = f'signal {-code}'
        else:
            reason = f'exit code {code}'
        return f'{self.name} ended ({reason})'

    def log_tail(self, lines: int = TAIL_LINES) -> str:
        """The last lines that the program wrote."""
        try:
            text = self.log.read_text(encoding='utf-8', errors='replace')
        except OSError:
            return ''
        return '\n'.join(text.splitlines()[-lines:])

    def signal(self, number: int) -> None:
        """Sends a signal to the whole process group; a group that is gone is no error."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)


def stop_all(children: Sequence[ChildProcess], patience: float = 5.0) -> None:
    """Ends processes: SIGINT, after `patience` seconds SIGTERM, then SIGKILL.

    SIGINT and SIGTERM let ROS nodes leave the graph properly and release the renderer.
    """
    for number, wait in ((signal.SIGINT, patience), (signal.SIGTERM, 1.0)):
        running = [child for child in children if child.returncode is None]
        for child in running:
            child.signal(number)
        deadline = time.monotonic() + wait
        while any(child.returncode is None for child in running):
            if time.monotonic() > deadline:
                break
            time.sleep(0.02)
    for child in children:
        if child.returncode is None:
            child.signal(signal.SIGKILL)
        child._process.wait()
