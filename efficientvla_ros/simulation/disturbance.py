"""Moves things on the table while the arm acts, as a hand from outside would."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from efficientvla_ros.simulation.cabinet import TRAVEL
from efficientvla_ros.simulation.objects import DRAWER, OBJECT_MODELS, PLATE
from efficientvla_ros.simulation.scene import TIMESTEP
from efficientvla_ros.simulation.variation import Motion
from efficientvla_ros.simulation.world import World

_KEEP_AWAY = 0.085
_OVER_OBJECTS, _OVER_HANDLE = 0.125, 0.08  # m: heights of the tool above which nothing is hit
_LIFTED = 0.010


class MovedThings:
    """The motions of one episode, advanced with physics.

    A motion begins at its time, or later where the hand is near then; it is given up when its
    object has been lifted, and it pauses while the hand is near.

    Attributes:
        drawer_shift: how far the drawer was opened so far, m.
    """

    def __init__(self, world: World, motions: Sequence[Motion]) -> None:
        self._world = world
        self.drawer_shift = 0.0
        self._left = {motion: motion.duration for motion in motions}

    def update(self, time: float) -> None:
        """Moves what is due at a time since the start of the episode, s; before each step."""
        for motion, left in list(self._left.items()):
            if time < motion.start:
                continue
            if left <= 0.0 or self._is_lifted(motion.name):
                del self._left[motion]
            elif not self._hand_is_near(motion.name):
                self._left[motion] = left - TIMESTEP
                self._shift(
                    motion.name, np.array(motion.displacement) * TIMESTEP / motion.duration
                )

    def _place(self, name: str) -> np.ndarray:
        data = self._world.data
        if name == DRAWER:
            front, y = self._world.model.body_pos[self._world.cabinet][:2]
            return np.array([front + data.qpos[self._world.drawer_at] + 0.04, y])
        address = self._world.free_at[name]
        return data.qpos[address : address + 2]

    def _is_lifted(self, name: str) -> bool:
        if name in (DRAWER, PLATE):
            return False
        height = self._world.data.qpos[self._world.free_at[name] + 2]
        return bool(height - OBJECT_MODELS[name].rest_height > _LIFTED)

    def _hand_is_near(self, name: str) -> bool:
        tool = self._world.data.site_xpos[self._world.tcp]
        aside = np.linalg.norm(tool[:2] - self._place(name))
        overhead = _OVER_HANDLE if name == DRAWER else _OVER_OBJECTS
        return bool(aside < _KEEP_AWAY and tool[2] < overhead)

    def _shift(self, name: str, step: np.ndarray) -> None:
        world, data = self._world, self._world.data
        if name == DRAWER:
            before = float(data.qpos[world.drawer_at])
            after = min(max(before + float(step[0]), 0.0), TRAVEL)
            data.qpos[world.drawer_at] = after
            self.drawer_shift += after - before
            data.qvel[world.drawer_velocity_at] = 0.0
            return
        address, velocity = world.free_at[name], world.free_velocities_at[name]
        data.qpos[address : address + 2] += step
        data.qvel[velocity : velocity + 6] = 0.0
