"""Which task, scene and preset an episode of the demo has, and whether its instruction changes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from efficientvla_ros.cli.demo_options import CHANGES
from efficientvla_ros.simulation.goals import MOVE_NEAR
from efficientvla_ros.simulation.placement import free_spots
from efficientvla_ros.simulation.success import SuccessMonitor
from efficientvla_ros.simulation.tasks import Episode, episode_in_turn
from efficientvla_ros.simulation.variation import MATCHING
from efficientvla_ros.types import InputError


@dataclass(frozen=True)
class Slot:
    """One episode of the run before it starts.

    Attributes:
        scene: what it starts from, with task and seed.
        preset: acceleration of the policy during it.
        changes: the instruction is changed in mid-run.
    """

    scene: Episode
    preset: str
    changes: bool


class Schedule:
    """The episodes of a run in order: every scene under each of the presets before the next one.

    Attributes:
        presets: one, or the two that are compared.
        total: number of episodes.
    """

    def __init__(
        self,
        task: str,
        scenes: int,
        first_seed: int,
        presets: tuple[str, ...],
        setting: str = MATCHING,
        changes: int = CHANGES,
    ) -> None:
        """Plans the run.

        Args:
            task: name of the task, or 'all'.
            scenes: number of scenes.
            first_seed: seed of the first one; every further one adds 1.
            presets: each scene is run under all of them.
            setting: look and events of every scene.
            changes: number of scenes whose instruction is changed.

        Raises:
            InputError: there is no such task.
        """
        self.presets = presets
        self.total = scenes * len(presets)
        self._task, self._first_seed, self._setting = task, first_seed, setting
        self._changing = self._changing_scenes(scenes, changes)

    @property
    def comparing(self) -> bool:
        """Whether there is more than one preset."""
        return len(self.presets) > 1

    def slot(self, index: int) -> Slot:
        """Says what episode `index` (from 0) is."""
        scene, turn = divmod(index, len(self.presets))
        return Slot(self._scene(scene), self.presets[turn], scene in self._changing)

    def _scene(self, number: int) -> Episode:
        return episode_in_turn(self._task, self._first_seed, number, setting=self._setting)

    def _changing_scenes(self, scenes: int, changes: int) -> set[int]:
        """Scenes whose instruction is changed, under every preset alike.

        Where a scene does not allow another goal, the next one that does takes its place.
        """
        chosen: set[int] = set()
        for wanted in sorted(change_episodes(scenes, changes)):
            for number in range(wanted, scenes):
                if number not in chosen and can_change(self._scene(number)):
                    chosen.add(number)
                    break
        return chosen


def change_episodes(episodes: int, changes: int = CHANGES) -> set[int]:
    """Episodes (from 0) whose instruction is changed: spread over the run, not the first one."""
    if changes == 0 or episodes <= changes:
        return set(range(min(episodes, changes)))
    rest = episodes - 1
    return {1 + (2 * k + 1) * rest // (2 * changes) for k in range(changes)}


def can_change(scene: Episode) -> bool:
    """Whether the scene has what its `other_goal` names, and room for it."""
    goal = scene.other_goal
    try:
        SuccessMonitor(scene).set_goal(goal)
    except InputError:
        return False
    if goal.task != MOVE_NEAR:
        return True
    points = {name: np.array(place) for name, place in scene.object_positions.items()}
    return bool(len(free_spots(points, goal.target, goal.reference)))


def other_instruction(scene: Episode) -> str:
    """An instruction that names a present object other than the scene's target."""
    return scene.other_goal.instruction(scene.template)
