"""The one thread that runs inference."""

from __future__ import annotations

import threading
from collections.abc import Callable


class InferenceLoop:
    """Runs ticks in a thread of its own, one at a time, when they are asked for.

    Attributes:
        missed: requests since the start that found another one still waiting.
        starved: requests since the start that found nothing new to work on.
    """

    def __init__(self, tick: Callable[[], bool], on_error: Callable[[Exception], None]) -> None:
        """Sets up a loop that is not running.

        Args:
            tick: does one tick; returns False when there was nothing new to work on, it is then
                called again at the next `offer`.
            on_error: told what a tick raised; the loop goes on.
        """
        self._tick = tick
        self._on_error = on_error
        self._condition = threading.Condition()
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._due = self._asked = False
        self._hungry = False
        self._offers = 0
        self.missed = 0
        self.starved = 0

    def start(self) -> None:
        """Starts the thread."""
        self._stopping = self._due = self._hungry = self._asked = False
        self.missed = self.starved = 0
        self._thread = threading.Thread(target=self._run, name='inference', daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float = 10.0) -> bool:
        """Lets the tick under way end and ends the thread; False when that took too long."""
        with self._condition:
            self._stopping = True
            self._condition.notify_all()
        thread = self._thread
        if thread is None:
            return True
        thread.join(timeout_s)
        if thread.is_alive():
            return False
        self._thread = None
        return True

    def request(self) -> None:
        """Asks for a tick; a request that finds another one still waiting counts as missed."""
        with self._condition:
            if self._due and not self._hungry:
                self.missed += 1
            self._due = self._asked = True
            self._hungry = False
            self._condition.notify_all()

    def offer(self) -> None:
        """Says that there is something new; runs a tick only if one found nothing new before."""
        with self._condition:
            self._offers += 1
            if self._hungry:
                self._hungry = False
                self._condition.notify_all()

    def _run(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(
                    lambda: self._stopping or (self._due and not self._hungry)
                )
                if self._stopping:
                    return
                self._due = False
                asked, self._asked = self._asked, False
                offers = self._offers
            worked = True
            try:
                worked = self._tick()
            except Exception as error:  # a bad input must not end the thread
                self._on_error(error)
            if not worked:
                with self._condition:
                    self.starved += asked  # once a request, however often it is tried again
                    self._due = True
                    self._hungry = offers == self._offers
