"""From action chunks to the actions of SIMPLER's two robots, as CogACT is evaluated there.

SIMPLER (arXiv 2405.05941) takes a translation, a rotation as axis * angle and a gripper command;
what the gripper command means differs between the robots.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import ClassVar

import numpy as np

from efficientvla_ros.control.adaptive_ensemble import AdaptiveEnsemble
from efficientvla_ros.control.rotations import matrix_from_euler, rotation_vector_from_matrix
from efficientvla_ros.types import InputError

_THRESHOLD = 0.5
_STICKY_STEPS = 10


@dataclass(frozen=True)
class SimplerAction:
    """One action of a SIMPLER environment; also reads like a dictionary, `dict(action)` works.

    Attributes:
        world_vector: float64 [3], translation of the tool in the base frame, m.
        rot_axangle: float64 [3], rotation as axis * angle, rad, angle in [0, pi].
        gripper: float64 [1], see the robot.
        terminate_episode: float64 [1], 0: the policy never ends an episode.
    """

    world_vector: np.ndarray
    rot_axangle: np.ndarray
    gripper: np.ndarray
    terminate_episode: np.ndarray = field(default_factory=lambda: np.zeros(1))

    def keys(self) -> Iterator[str]:
        """Names of the parts."""
        return (part.name for part in fields(self))

    def __getitem__(self, name: str) -> np.ndarray:
        """The part of that name."""
        if name not in self.keys():
            raise KeyError(name)
        return getattr(self, name)


class SimplerRobot(ABC):
    """One robot of SIMPLER: ensemble, rotation and gripper of one episode after another.

    Attributes:
        unnorm_key: data set whose statistics un-normalise the actions.
        ensemble_window: plans that are averaged.
        control_rate: steps per second, Hz.
    """

    unnorm_key: ClassVar[str]
    ensemble_window: ClassVar[int]
    control_rate: ClassVar[float]

    def __init__(self) -> None:
        """Starts at the beginning of an episode."""
        self._ensemble = AdaptiveEnsemble(self.ensemble_window)

    def reset(self) -> None:
        """Forgets the episode, also to be called when the instruction changes."""
        self._ensemble.reset()

    def step(self, actions: np.ndarray) -> SimplerAction:
        """Takes the plan made from the newest image and returns the action of this step.

        Args:
            actions: [horizon, 7] un-normalised, see `efficientvla_ros.types.ACTION_DIM`;
                rotations are static-xyz Euler angles.

        Raises:
            InputError: the plan is too short, of another shape or not finite; nothing changes.
        """
        action = self._ensemble.step(actions)
        rotation = rotation_vector_from_matrix(matrix_from_euler(*action[3:6]))
        return SimplerAction(action[:3], rotation, np.array([self._gripper(action[6])]))

    @abstractmethod
    def _gripper(self, opening: float) -> float:
        """Turns the averaged opening (1 = open) into the robot's gripper command."""


class WidowX(SimplerRobot):
    """The WidowX of the Bridge tasks; gripper +1 opens, -1 closes."""

    unnorm_key = 'bridge_orig'
    ensemble_window = 7
    control_rate = 5.0

    def _gripper(self, opening: float) -> float:
        return 1.0 if opening > _THRESHOLD else -1.0


class GoogleRobot(SimplerRobot):
    """The Google robot; gripper > 0 closes, < 0 opens, relative to the state it is in.

    A change of more than half the stroke is repeated for ten steps, the time the gripper takes.
    The opening that changes are measured from moves only when such a repetition starts. (SIMPLER
    itself moves it at every step and so misses slow changes; CogACT's evaluation does not.)
    """

    unnorm_key = 'fractal20220817_data'
    ensemble_window = 2
    control_rate = 3.0

    def __init__(self) -> None:
        """Starts at the beginning of an episode."""
        super().__init__()
        self._forget_gripper()

    def reset(self) -> None:
        """Forgets the episode, also to be called when the instruction changes."""
        super().reset()
        self._forget_gripper()

    def _forget_gripper(self) -> None:
        self._reference: float | None = None
        self._repeated = 0.0
        self._steps_left = 0

    def _gripper(self, opening: float) -> float:
        if self._reference is None:
            self._reference = opening
        change = self._reference - opening
        if abs(change) > _THRESHOLD and not self._steps_left:
            self._reference, self._repeated, self._steps_left = opening, change, _STICKY_STEPS
        if not self._steps_left:
            return change
        self._steps_left -= 1
        return self._repeated


_ROBOTS = {'widowx': WidowX, 'google_robot': GoogleRobot}


def simpler_robot(name: str) -> SimplerRobot:
    """Returns a new robot by its name: widowx or google_robot.

    Raises:
        InputError: the name is unknown.
    """
    if name not in _ROBOTS:
        raise InputError(f'SIMPLER robot {name!r} is unknown, expected {" or ".join(_ROBOTS)}')
    return _ROBOTS[name]()
