"""Tasks: what an episode is, how one is drawn from a seed, and when it has succeeded."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from efficientvla_ros.simulation.arm import HOME_POSITIONS
from efficientvla_ros.simulation.camera import CameraOffset
from efficientvla_ros.simulation.scene import OBJECT_MODELS
from efficientvla_ros.types import InputError

CONTROL_PERIOD = 0.2
"""Seconds between two actions, and between two looks of the success predicate."""

TASKS = ('pick',)
OBJECTS = tuple(OBJECT_MODELS)
OBJECTS_PER_EPISODE = 3
TEMPLATES = {'pick': ('pick {}', 'pick the {}', 'pick up the {}')}
MAX_STEPS = {'pick': 60}

WORKSPACE_LOWER = (0.22, -0.15)
WORKSPACE_UPPER = (0.38, 0.15)
"""Where objects stand at the start (x, y), m."""

SPACING = 0.105
"""Smallest distance between two objects' centres, m: the open fingers fit in between."""

SUCCESS_LIFT = 0.06
SUCCESS_TICKS = 2
_DROP_FROM, _DROP_TO = 0.04, 0.015
_REACH_LOWER, _REACH_UPPER = np.array([0.12, -0.32]), np.array([0.50, 0.32])

SUCCESS, TIMEOUT, WRONG_OBJECT, DROPPED = 'success', 'timeout', 'wrong_object', 'dropped'
ABORTED = 'aborted'


@dataclass(frozen=True)
class Episode:
    """Everything that decides how an episode starts.

    Attributes:
        task: one of `TASKS`.
        seed: the seed it was drawn from.
        target: the object that the first instruction names.
        distractors: the other objects on the table.
        object_positions: name -> (x, y) of its centre on the table, m, base frame.
        object_yaws: name -> rotation about the vertical, rad.
        start_positions: joint positions [7] of arm and gripper at the start, rad and m.
        camera: displacement of the camera during the episode.
        max_steps: control periods until the episode times out.
        template: which wording of the instruction is used.
    """

    task: str
    seed: int
    target: str
    distractors: tuple[str, ...]
    object_positions: Mapping[str, tuple[float, float]]
    object_yaws: Mapping[str, float] = field(default_factory=dict)
    start_positions: tuple[float, ...] = HOME_POSITIONS
    camera: CameraOffset = field(default_factory=CameraOffset)
    max_steps: int = 60
    template: int = 0

    @property
    def objects(self) -> tuple[str, ...]:
        """All objects on the table, the target first."""
        return (self.target, *self.distractors)

    @property
    def instruction(self) -> str:
        """What the robot is asked to do."""
        return instruction_for(self.task, self.target, self.template)

    def with_camera(self, camera: CameraOffset) -> Episode:
        """Returns the same episode seen by a displaced camera."""
        return replace(self, camera=camera)


def _check_task(task: str) -> None:
    if task not in TASKS:
        raise InputError(f'unknown task "{task}", expected one of: {", ".join(TASKS)}')


def instruction_for(task: str, target: str, template: int = 0) -> str:
    """Returns the instruction that asks for an object.

    Raises:
        InputError: no such task or object.
    """
    _check_task(task)
    if target not in OBJECTS:
        raise InputError(f'unknown object "{target}", expected one of: {", ".join(OBJECTS)}')
    return TEMPLATES[task][template].format(target)


def parse_instruction(text: str) -> str | None:
    """Returns the object that a text names, or None where it names none or several."""
    words = ' '.join(re.findall(r'[a-z]+', text.lower()))
    named = [name for name in OBJECTS if re.search(rf'\b{name}\b', words)]
    return named[0] if len(named) == 1 else None


def _spaced_positions(rng: np.random.Generator, count: int) -> np.ndarray:
    """Draws positions [count, 2] on the table that keep `SPACING` from each other."""
    while True:
        points = rng.uniform(WORKSPACE_LOWER, WORKSPACE_UPPER, size=(count, 2))
        gaps = np.linalg.norm(points[:, None] - points[None], axis=-1)
        if np.all(gaps[np.triu_indices(count, 1)] >= SPACING):
            return points


def sample_episode(task: str, seed: int, target: str | None = None) -> Episode:
    """Draws the episode of a seed: the same on every machine.

    Raises:
        InputError: no such task or object.
    """
    _check_task(task)
    if target is not None and target not in OBJECTS:
        raise InputError(f'unknown object "{target}", expected one of: {", ".join(OBJECTS)}')
    rng = np.random.default_rng([seed, TASKS.index(task)])
    order = [OBJECTS[i] for i in rng.permutation(len(OBJECTS))]
    if target is not None:
        order.remove(target)
        order.insert(0, target)
    names = order[:OBJECTS_PER_EPISODE]
    points = _spaced_positions(rng, len(names))
    return Episode(
        task=task,
        seed=seed,
        target=names[0],
        distractors=tuple(names[1:]),
        object_positions={n: (float(p[0]), float(p[1])) for n, p in zip(names, points)},
        object_yaws={n: float(rng.uniform(-np.pi, np.pi)) for n in names},
        max_steps=MAX_STEPS[task],
    )


class SuccessMonitor:
    """Watches the objects once per control period and names the outcome.

    An object counts as lifted after `SUCCESS_TICKS` looks in a row with its centre more than
    `SUCCESS_LIFT` above the height at which it stood.
    """

    def __init__(self, episode: Episode) -> None:
        self.target = episode.target
        self.steps = 0
        self.outcome: str | None = None
        self.lifted_object: str | None = None
        self._episode = episode
        self._ticks_up = dict.fromkeys(episode.objects, 0)
        self._highest = 0.0

    def set_target(self, target: str) -> None:
        """Changes the object that has to be lifted.

        Raises:
            InputError: the object is not on the table.
        """
        if target not in self._ticks_up:
            raise InputError(
                f'"{target}" is not on the table, expected one of: {", ".join(self._ticks_up)}'
            )
        self.target = target
        self._highest = 0.0

    def update(self, positions: Mapping[str, np.ndarray]) -> str | None:
        """Looks at the objects' positions [3] (m, base frame); returns the outcome, if any."""
        if self.outcome is not None:
            return self.outcome
        self.steps += 1
        for name in self._ticks_up:
            up = positions[name][2] - OBJECT_MODELS[name].rest_height > SUCCESS_LIFT
            self._ticks_up[name] = self._ticks_up[name] + 1 if up else 0
            if self._ticks_up[name] >= SUCCESS_TICKS:
                self.lifted_object = name
                self.outcome = SUCCESS if name == self.target else WRONG_OBJECT
                return self.outcome
        if self._dropped(positions[self.target]):
            self.outcome = DROPPED
        elif self.steps >= self._episode.max_steps:
            self.outcome = TIMEOUT
        return self.outcome

    def _dropped(self, position: np.ndarray) -> bool:
        """Whether the target fell back after it was up, or went out of the arm's reach."""
        lift = position[2] - OBJECT_MODELS[self.target].rest_height
        self._highest = max(self._highest, lift)
        if self._highest > _DROP_FROM and lift < _DROP_TO:
            return True
        return bool(np.any(position[:2] < _REACH_LOWER) or np.any(position[:2] > _REACH_UPPER))
