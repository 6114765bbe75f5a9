"""When an episode has ended, and how: looked at once per control period."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from efficientvla_ros.simulation.cabinet import TRAVEL
from efficientvla_ros.simulation.goals import DRAWER_TASKS, OPEN_DRAWER, PICK, Goal
from efficientvla_ros.simulation.objects import DRAWER, OBJECT_MODELS, PLATE
from efficientvla_ros.simulation.placement import placed
from efficientvla_ros.simulation.table_state import TableState
from efficientvla_ros.types import InputError

if TYPE_CHECKING:
    from efficientvla_ros.simulation.tasks import Episode

SUCCESS_LIFT = 0.06
SUCCESS_TICKS = 2
DRAWER_OPEN, DRAWER_CLOSED = 0.82 * TRAVEL, 0.11 * TRAVEL
"""Openings from which on, and up to which, the drawer counts as open and closed, m."""

SUCCESS, TIMEOUT, WRONG_OBJECT, DROPPED = 'success', 'timeout', 'wrong_object', 'dropped'
WRONG_PLACE, WRONG_DIRECTION = 'wrong_place', 'wrong_direction'
ABORTED = 'aborted'

_DROP_FROM, _DROP_TO = 0.04, 0.015
_REACH_LOWER, _REACH_UPPER = np.array([0.12, -0.32]), np.array([0.50, 0.32])
_WRONG_WAY = 0.03
_FALL = 0.035
_TOPPLED = np.radians(50.0)
_LEFT_FOR = 4
_LET_GO = 0.012


class SuccessMonitor:
    """Watches the table once per control period and names the outcome.

    An object counts as lifted after `SUCCESS_TICKS` looks in a row with its centre more than
    `SUCCESS_LIFT` above the height at which it stood. Lifting another object than the target
    ends every task, unless the episode started with that object in the hand. What else ends one
    follows from the goal:

    * `pick`: the target is lifted; fell back after it was up.
    * placing: the target lies in its place and the gripper has let go, for two looks; it fell,
      toppled, or lies elsewhere after it was up.
    * drawer: it is open or closed for two looks; the arm moved it the other way by 3 cm.
    """

    def __init__(self, episode: Episode) -> None:
        self.goal: Goal = episode.goal
        self.steps = 0
        self.outcome: str | None = None
        self.lifted_object: str | None = None
        self._episode = episode
        self._ticks_up = dict.fromkeys(episode.objects, 0)
        self._excused = {episode.held}
        self._begin()

    @property
    def target(self) -> str:
        """What is to be acted on: an object, or 'drawer'."""
        return self.goal.target

    def _begin(self) -> None:
        self._highest = 0.0
        self._done = self._left = 0
        self._last_lift: float | None = None
        self._drawer_from: float | None = None

    def set_target(self, target: str) -> None:
        """Changes the object that has to be moved.

        Raises:
            InputError: the object is not on the table, or the task has no other target.
        """
        if target not in self._ticks_up:
            raise InputError(
                f'"{target}" is not on the table, expected one of: {", ".join(self._ticks_up)}'
            )
        self.set_goal(self.goal.with_target(target))

    def set_goal(self, goal: Goal) -> None:
        """Changes what is asked for.

        Raises:
            InputError: the scene does not have what the goal names.
        """
        episode = self._episode
        present = [*self._ticks_up]
        present += [PLATE] if PLATE in episode.object_positions else []
        present += [DRAWER] if episode.cabinet is not None else []
        for name in (goal.target, goal.reference):
            if name and name not in present:
                raise InputError(
                    f'"{name}" is not on the table, expected one of: {", ".join(present)}'
                )
        self.goal = goal
        if episode.task != PICK:
            # What was right to lift so far may be set down first.
            self._excused |= {name for name, ticks in self._ticks_up.items() if ticks}
        self._begin()

    def update(
        self, positions: Mapping[str, np.ndarray], state: TableState | None = None
    ) -> str | None:
        """Looks at the table; returns the outcome, if any.

        Args:
            positions: object name -> centre [3], m, base frame.
            state: tool, gripper and furniture; only `pick` does without.
        """
        if self.outcome is not None:
            return self.outcome
        self.steps += 1
        self.outcome = self._lifted(positions) or self._judge(positions, state)
        if self.outcome is None and self.steps >= self._episode.max_steps:
            self.outcome = TIMEOUT
        return self.outcome

    def _lifted(self, positions: Mapping[str, np.ndarray]) -> str | None:
        for name in self._ticks_up:
            up = positions[name][2] - OBJECT_MODELS[name].rest_height > SUCCESS_LIFT
            self._ticks_up[name] = self._ticks_up[name] + 1 if up else 0
            if not up:
                self._excused.discard(name)
            if self._ticks_up[name] < SUCCESS_TICKS:
                continue
            if self.goal.task == PICK if name == self.target else name not in self._excused:
                self.lifted_object = name
                return SUCCESS if name == self.target else WRONG_OBJECT
        return None

    def _judge(self, positions: Mapping[str, np.ndarray], state: TableState | None) -> str | None:
        if self.goal.task in DRAWER_TASKS:
            return self._judge_drawer(state.cabinet.opening, state.drawer_shift)
        position = positions[self.target]
        if np.any(position[:2] < _REACH_LOWER) or np.any(position[:2] > _REACH_UPPER):
            return DROPPED
        lift = float(position[2]) - OBJECT_MODELS[self.target].rest_height
        self._highest = max(self._highest, lift)
        if self.goal.task == PICK:
            fell = self._highest > _DROP_FROM and lift < _DROP_TO
            return DROPPED if fell else None
        return self._judge_placing(state, lift)

    def _judge_placing(self, state: TableState, lift: float) -> str | None:
        last, self._last_lift = self._last_lift, lift
        if state.tilts.get(self.target, 0.0) > _TOPPLED:
            return DROPPED
        let_go = self._let_go(state)
        done = let_go and placed(state, self.goal)
        self._done = self._done + 1 if done else 0
        if self._done >= SUCCESS_TICKS:
            return SUCCESS
        if let_go and not done and last is not None and last - lift > _FALL:
            return DROPPED
        elsewhere = let_go and not done and self._highest > _DROP_FROM and lift < _DROP_FROM
        self._left = self._left + 1 if elsewhere else 0
        return WRONG_PLACE if self._left >= _LEFT_FOR else None

    def _let_go(self, state: TableState) -> bool:
        apart = state.opening > OBJECT_MODELS[self.target].radius + _LET_GO
        return bool(apart or not state.holds(self.target))

    def _judge_drawer(self, opening: float, shift: float) -> str | None:
        own = opening - shift  # what a hand from outside does is nobody's fault
        if self._drawer_from is None:
            self._drawer_from = own
        opens = self.goal.task == OPEN_DRAWER
        moved = own - self._drawer_from
        # From where it was furthest on its way: what was achieved may not be undone either.
        self._drawer_from = (max if opens else min)(self._drawer_from, own)
        done = opening >= DRAWER_OPEN if opens else opening <= DRAWER_CLOSED
        self._done = self._done + 1 if done else 0
        if self._done >= SUCCESS_TICKS:
            return SUCCESS
        return WRONG_DIRECTION if (-moved if opens else moved) > _WRONG_WAY else None
