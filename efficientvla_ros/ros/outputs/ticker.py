"""Calls a function at a rate, from a thread of its own, while it has something to do."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from efficientvla_ros.ros.timing import Window


class Ticker:
    """A thread that ticks after `wake` until a tick says that nothing is left to do.

    Ticks are due at equal distances on the monotonic clock; those that are missed are left out,
    so a stall does not turn into a burst. Not an rclpy timer: those wait for their turn in the
    executor, behind images and services.

    Attributes:
        late: how long after they were due the newest ticks came, s.
        missed: ticks left out so far.
    """

    def __init__(
        self, period: float, tick: Callable[[], bool], failed: Callable[[Exception], None]
    ) -> None:
        """Sets up a ticker that rests; its thread starts with the first `wake`.

        Args:
            period: time between two ticks, s.
            tick: does the work; returns whether there is more to do.
            failed: told what a tick raised; the ticker rests after that.
        """
        self._period = period
        self._tick = tick
        self._failed = failed
        self._condition = threading.Condition()
        self._awake = self._busy = self._ended = False
        self._thread: threading.Thread | None = None
        self.late = Window(2048)
        self.missed = 0

    def wake(self) -> None:
        """Goes on ticking, at once if the ticker rests."""
        with self._condition:
            if self._ended:
                return
            self._awake = True
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name='ticker', daemon=True)
                self._thread.start()
            self._condition.notify_all()

    def rests(self, timeout_s: float) -> bool:
        """Waits until nothing is left to do; False when that takes longer."""
        with self._condition:
            return self._condition.wait_for(lambda: not (self._awake or self._busy), timeout_s)

    def stop(self) -> None:
        """Ends the thread; no tick runs after this."""
        with self._condition:
            self._ended = True
            self._condition.notify_all()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        while self._wait_for_work():
            due = time.monotonic()
            while not self._ended:
                self.late.add(time.monotonic() - due)
                if not self._work():
                    break
                due += self._period
                left = due - time.monotonic()
                if left > 0.0:
                    time.sleep(left)
                else:
                    missed = int(-left / self._period)
                    self.missed += missed
                    due += missed * self._period

    def _wait_for_work(self) -> bool:
        with self._condition:
            self._condition.wait_for(lambda: self._awake or self._ended)
            return not self._ended

    def _work(self) -> bool:
        """Ticks once; False to rest."""
        with self._condition:
            self._awake, self._busy = False, True
        try:
            more = self._tick()
        except Exception as error:
            self._failed(error)
            more = False
        with self._condition:
            # A wake that came during the tick counts: what it announces may not have been seen.
            self._awake = more = more or self._awake
            self._busy = False
            if not more:
                self._condition.notify_all()
        return more
