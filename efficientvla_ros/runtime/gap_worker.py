"""A thread that works in the gaps between ticks, and never makes a tick wait.

EcoVLA (arXiv 2602.00780) hides the choice of channels beside inference (its I2O). Here a job runs
in steps. Before each step it waits at a gate until no tick is under way, or, if there was no gap
for it, until the tick is in a stage that reads no channel: vision towers and action head. A CUDA
device has room for that at once; CPU cores do not, so that there a job waits for one gap first.
"""

from __future__ import annotations

import atexit
import queue
import threading
import weakref
from collections.abc import Callable

_RECHECK_S = 0.05


class TickGate:
    """Says whether work between ticks may go on; ticks only ever set flags.

    Attributes:
        ticks: ticks begun.
    """

    def __init__(self, overlaps: bool) -> None:
        """Starts between two ticks.

        Args:
            overlaps: whether work runs beside vision and action head without having missed a gap.
        """
        self._idle, self._readers_gone = threading.Event(), threading.Event()
        self._idle.set()
        self._readers_gone.set()
        self._overlaps = overlaps
        self.ticks = 0

    @property
    def in_tick(self) -> bool:
        """Whether a tick is under way."""
        return not self._idle.is_set()

    def begin(self) -> None:
        """A tick begins."""
        self.ticks += 1
        self._idle.clear()

    def begin_reading(self) -> None:
        """From here on the tick reads channels."""
        self._readers_gone.clear()

    def end_reading(self) -> None:
        """The tick reads no channels any more."""
        self._readers_gone.set()

    def end(self) -> None:
        """The tick is over, however it ended."""
        self._readers_gone.set()
        self._idle.set()

    def wait(self, since: int) -> None:
        """Waits until work may go on.

        Args:
            since: value of `ticks` when the work was asked for; once a later tick has begun,
                a gap has been missed.
        """
        while True:
            missed = self._overlaps or self.ticks > since
            if (self._readers_gone if missed else self._idle).wait(_RECHECK_S):
                return


class GapWorker:
    """Runs jobs one after the other in a thread of its own, which starts with the first job.

    A job that raises ends the thread, and the jobs that wait are dropped. The next job starts
    another thread, once; after a second end nothing runs any more.
    """

    def __init__(self, name: str = 'channel updates') -> None:
        """Starts nothing yet."""
        self._name = name
        self._state = _State()

    @property
    def failures(self) -> int:
        """How often the thread has ended by an error."""
        return self._state.failures

    @property
    def last_error(self) -> str:
        """Why it ended last, in one line."""
        return self._state.last_error

    @property
    def dead(self) -> bool:
        """Whether it ended twice: nothing runs any more."""
        return self._state.dead

    @property
    def busy(self) -> bool:
        """Whether a job runs or waits."""
        return self._state.pending > 0

    def submit(self, job: Callable[[], None]) -> bool:
        """Has a job run; returns False, and drops it, where nothing runs any more."""
        state = self._state
        if not state.add(job):
            return False
        if state.claim_thread():
            _started.add(state)
            threading.Thread(target=_run, args=(state,), name=self._name, daemon=True).start()
            # The thread knows the state alone, and ends once nobody can give it a job.
            weakref.finalize(self, state.jobs.put, None)
        return True

    def wait(self, timeout_s: float) -> bool:
        """Waits until no job runs or waits; False when that took too long."""
        return self._state.done.wait(timeout_s)


class _State:
    def __init__(self) -> None:
        self.jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self.done = threading.Event()
        self.done.set()
        self.pending = self.failures = 0
        self.last_error = ''
        self._running = False
        self._lock = threading.Lock()

    @property
    def dead(self) -> bool:
        return self.failures > 1

    def add(self, job: Callable[[], None]) -> bool:
        with self._lock:
            if self.dead:
                return False
            self.pending += 1
            self.done.clear()
            self.jobs.put(job)
            return True

    def claim_thread(self) -> bool:
        with self._lock:
            claimed, self._running = not self._running, True
            return claimed

    def finished(self) -> None:
        with self._lock:
            self.pending -= 1
            if not self.pending:
                self.done.set()

    def failed(self, error: BaseException) -> None:
        with self._lock:
            while not self.jobs.empty():
                self.jobs.get()
            self.last_error = ' '.join(f'{type(error).__name__}: {error}'.split())[:300]
            self.pending, self._running = 0, False
            self.failures += 1
            self.done.set()


def _run(state: _State) -> None:
    while (job := state.jobs.get()) is not None:
        try:
            job()
        except BaseException as error:  # whatever it is, ticks go on
            state.failed(error)
            return
        finally:
            job = None
        state.finished()


_started: weakref.WeakSet[_State] = weakref.WeakSet()
_AT_EXIT_S = 5.0


@atexit.register
def _let_jobs_end() -> None:
    # A thread that the interpreter stops inside of torch aborts the process.
    for state in list(_started):
        state.done.wait(_AT_EXIT_S)
