"""The simulated table top as it runs behind a node: clock, controller and episodes, no rclpy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from efficientvla_ros.simulation.arm import JOINT_NAMES
from efficientvla_ros.simulation.execution import advance
from efficientvla_ros.simulation.success import ABORTED, SUCCESS, SuccessMonitor
from efficientvla_ros.simulation.tabletop import TabletopSim
from efficientvla_ros.simulation.tasks import (
    CONTROL_PERIOD,
    MATCHING,
    Episode,
    episode_in_turn,
    parse_goal,
)
from efficientvla_ros.simulation.trajectory_controller import JointTrajectoryController
from efficientvla_ros.types import InputError

SLOT_NS = 20_000_000
"""Simulated time between two looks at clock and messages, ns."""

_NS = 1_000_000_000
_SLOTS_PER_LOOK = round(CONTROL_PERIOD * _NS / SLOT_NS)
_SHOWN_CHARACTERS = 60


@dataclass(frozen=True)
class EpisodeEnd:
    """How an episode ended.

    Attributes:
        index: running number, from 0.
        episode: what it started from.
        instruction: the last valid instruction.
        changed: whether an instruction named another object in mid-run.
        outcome: 'success', 'aborted' or what went wrong, see `simulation.success`.
        lifted_object: the lifted object, '' for none.
        steps: control periods that passed.
        duration: simulated time that passed, s.
    """

    index: int
    episode: Episode
    instruction: str
    changed: bool
    outcome: str
    lifted_object: str
    steps: int
    duration: float

    @property
    def success(self) -> bool:
        """What the last valid instruction asks for was done."""
        return self.outcome == SUCCESS


class LiveTabletop:
    """Advances the simulation in slots and runs one episode after the other.

    Simulated time goes on across episodes, so that stamps do not go back. All calls must come
    from one thread, see `TabletopSim`.
    """

    def __init__(
        self,
        sim: TabletopSim,
        task: str,
        first_seed: int,
        start_ns: int,
        setting: str = MATCHING,
        repeat: int = 1,
    ) -> None:
        """Shows the scene of the first episode, which `start_episode` begins.

        Args:
            sim: the simulation; closed by the caller.
            task: name of the task, or 'all'.
            first_seed: seed of the first scene; every further one adds 1.
            start_ns: simulated time now, ns.
            setting: of the episodes, see `simulation.variation`.
            repeat: how many episodes in a row start from the same scene.

        Raises:
            InputError: there is no such task or setting.
        """
        self._sim = sim
        self._task, self._setting = task, setting
        self._first_seed, self._repeat = first_seed, repeat
        self._controller = JointTrajectoryController(JOINT_NAMES)
        self._slots = 0
        self._monitor: SuccessMonitor | None = None
        self._changed = False
        self.time_ns = start_ns
        self.index = -1
        self.started_ns = start_ns
        self.instruction = ''
        self._set_scene(self._sample(0))

    @property
    def running(self) -> bool:
        """Whether an episode is under way."""
        return self._monitor is not None

    def _sample(self, index: int) -> Episode:
        return episode_in_turn(self._task, self._first_seed, index, self._repeat, self._setting)

    def _set_scene(self, episode: Episode) -> None:
        self.episode = episode
        self._sim.reset(episode)
        self._controller.reset(np.asarray(episode.start_positions, np.float64), self.time_ns)

    def start_episode(self) -> EpisodeEnd | None:
        """Starts the next episode.

        Returns:
            The end of the episode that was cut short by it, or None when none was running.
        """
        cut_short = self._end(ABORTED) if self.running else None
        self.index += 1
        self.started_ns = self.time_ns
        self._set_scene(self._sample(self.index))
        self.instruction = self.episode.instruction
        self._monitor = SuccessMonitor(self.episode)
        self._changed = False
        self._slots = 0
        return cut_short

    def describe(self) -> str:
        """One line about the running episode."""
        return f'episode {self.index} (seed {self.episode.seed}): {self.instruction!r}'

    def advance(self) -> EpisodeEnd | None:
        """Simulates one slot of `SLOT_NS`; returns the end of an episode that ended in it."""
        self.time_ns = advance(self._sim, self._controller, self.time_ns, SLOT_NS)
        if self._monitor is None:
            return None
        self._slots += 1
        if self._slots % _SLOTS_PER_LOOK:
            return None
        outcome = self._monitor.update(self._sim.object_positions(), self._sim.table_state())
        return self._end(outcome) if outcome else None

    def _end(self, outcome: str) -> EpisodeEnd:
        monitor, self._monitor = self._monitor, None
        return EpisodeEnd(
            index=self.index,
            episode=self.episode,
            instruction=self.instruction,
            changed=self._changed,
            outcome=outcome,
            lifted_object=monitor.lifted_object or '',
            steps=monitor.steps,
            duration=(self.time_ns - self.started_ns) / _NS,
        )

    def jump_to(self, time_ns: int) -> None:
        """Sets the clock after a stall; the arm stops where it is instead of catching up."""
        desired, _ = self._controller.sample(self.time_ns)
        self.started_ns += time_ns - self.time_ns
        self.time_ns = time_ns
        self._controller.reset(desired, time_ns)

    def command(
        self,
        names: Sequence[str],
        stamp_ns: int,
        times: np.ndarray,
        positions: np.ndarray,
        velocities: np.ndarray | None,
    ) -> tuple[bool, str]:
        """Gives the arm a trajectory, see `JointTrajectoryController.accept`.

        Returns:
            Whether it was accepted, and one line that says why not.
        """
        return self._controller.accept(names, stamp_ns, times, positions, velocities, self.time_ns)

    def precedes_episode(self, stamp_ns: int) -> bool:
        """Whether a stamp is from before the arm was put to the start of this episode."""
        return 0 < stamp_ns <= self.started_ns  # what is seen of this episode is later

    def instruct(self, text: str) -> str:
        """Takes an instruction; the same one again changes nothing.

        Returns:
            '' when it is in force, else one line that says why it was ignored.
        """
        if text == self.instruction and self.running:
            return ''
        shown = repr(text[:_SHOWN_CHARACTERS]) + ('...' if len(text) > _SHOWN_CHARACTERS else '')
        if self._monitor is None:
            return f'instruction {shown} ignored: no episode is running'
        goal = parse_goal(text)
        if goal is None:
            example = self.episode.goal.instruction()
            return f'instruction {shown} ignored: expected one known task, as in {example!r}'
        if goal != self._monitor.goal:
            try:
                self._monitor.set_goal(goal)
            except InputError as error:
                return f'instruction {shown} ignored: {error}'
            self._changed = True
        self.instruction = text
        return ''
