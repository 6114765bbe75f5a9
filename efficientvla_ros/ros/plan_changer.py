"""Makes new execution plans while the robot moves: in a thread of its own, newest wish first."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from efficientvla_ros.ros.parameters.acceleration import acceleration_config, use_plan
from efficientvla_ros.ros.parameters.table import Settings
from efficientvla_ros.types import InputError

if TYPE_CHECKING:
    from efficientvla_ros.acceleration.plan import ExecutionPlan
    from efficientvla_ros.runtime.engine import Engine

STAYS = 'plan stays as it was'
"""How the line begins that says that a plan could not be made."""


class PlanChanger:
    """Prepares the plan that parameters ask for and hands it to the engine.

    Preparing slices weights and may take seconds; ticks go on by the old plan meanwhile, and the
    engine changes over between two of them.
    """

    def __init__(
        self,
        engine: Engine,
        on_plan: Callable[[str, ExecutionPlan], None],
        on_error: Callable[[str], None],
    ) -> None:
        """Starts no thread yet.

        Args:
            engine: takes the plans.
            on_plan: told the name and the plan of every change, in the changer's thread.
            on_error: told in one line why a plan could not be made; the old one stays.
        """
        self._engine = engine
        self._on_plan = on_plan
        self._on_error = on_error
        self._condition = threading.Condition()
        self._wish: Settings | None = None
        self._stopping = False
        self._thread: threading.Thread | None = None

    def check(self, settings: Settings) -> None:
        """Raises InputError if the loaded model cannot run what the parameters ask for."""
        try:
            self._engine.plan_for(acceleration_config(settings, self._engine.config))
        except InputError as error:
            text = str(error)
            prefix = '' if text.startswith('parameters') else 'parameters acceleration.*: '
            raise InputError(prefix + text) from error

    def change(self, settings: Settings) -> None:
        """Has the plan made soon; a wish that still waits is replaced."""
        with self._condition:
            if self._stopping:
                return
            self._wish = settings
            self._condition.notify()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name='plan', daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """Lets the change under way end and ends the thread."""
        with self._condition:
            self._stopping = True
            self._condition.notify()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while (settings := self._next()) is not None:
            try:
                self._on_plan(*use_plan(self._engine, settings))
            except Exception as error:  # out of memory, for example: the old plan goes on
                self._on_error(f'{STAYS}: {" ".join(str(error).split())[:300]}')

    def _next(self) -> Settings | None:
        with self._condition:
            self._condition.wait_for(lambda: self._stopping or self._wish is not None)
            settings, self._wish = self._wish, None
            return None if self._stopping else settings
