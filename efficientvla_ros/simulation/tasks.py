"""Tasks: what an episode is, and how one is drawn from a seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from efficientvla_ros.simulation.arm import HOME_POSITIONS
from efficientvla_ros.simulation.cabinet import Cabinet
from efficientvla_ros.simulation.camera import CameraOffset
from efficientvla_ros.simulation.goals import (
    ALL_TASKS,
    CLOSE_DRAWER,
    DRAWER_TASKS,
    MOVE_NEAR,
    OPEN_DRAWER,
    PICK,
    PLACE_DRAWER,
    PLACE_PLATE,
    TASKS,
    TEMPLATES,
    Goal,
    check_task,
    goal_for,
    instruction_for,
    parse_goal,
    parse_instruction,
)
from efficientvla_ros.simulation.objects import OBJECT_MODELS, PICK_MODELS
from efficientvla_ros.simulation.sampling import (
    SPACING,
    Layout,
    draw_extras,
    draw_layout,
    draw_motion,
)
from efficientvla_ros.simulation.scene import BARE, FURNISHED
from efficientvla_ros.simulation.variation import (
    DYNAMIC,
    MATCHING,
    SETTINGS,
    VARIANTS,
    Look,
    Motion,
    check_setting,
    draw_look,
)
from efficientvla_ros.types import InputError

__all__ = [
    'ALL_TASKS', 'CONTROL_PERIOD', 'DYNAMIC', 'MATCHING', 'MAX_STEPS', 'OBJECTS',
    'OBJECTS_PER_EPISODE', 'SETTINGS', 'SPACING',
    'TASKS', 'TEMPLATES', 'VARIANTS', 'WORKSPACE_LOWER', 'WORKSPACE_UPPER',
    'Episode', 'Goal',
    'episode_in_turn', 'goal_for', 'instruction_for', 'parse_goal', 'parse_instruction',
    'sample_episode',
]  # fmt: skip

CONTROL_PERIOD = 0.2
"""Seconds between two actions, and between two looks of the success predicate."""

OBJECTS = tuple(PICK_MODELS)
"""Objects of the task `pick`."""

OBJECTS_PER_EPISODE = 3
MAX_STEPS = {
    PICK: 60, MOVE_NEAR: 80, OPEN_DRAWER: 60, CLOSE_DRAWER: 60, PLACE_DRAWER: 100, PLACE_PLATE: 80,
}  # fmt: skip
"""Control periods after which an episode times out."""

WORKSPACE_LOWER = (0.22, -0.15)
WORKSPACE_UPPER = (0.38, 0.15)
"""Where objects of `pick` stand at the start (x, y), m."""


@dataclass(frozen=True)
class Episode:
    """Everything that decides how an episode starts and what happens to it from outside.

    Attributes:
        task: one of `TASKS`.
        seed: the seed it was drawn from.
        target: the object that the first instruction is about, 'drawer' for the drawer.
        distractors: objects on the table that the instruction does not name.
        object_positions: object or 'plate' -> (x, y) of its centre on the table, m, base frame.
        object_yaws: name -> rotation about the vertical, rad.
        start_positions: joint positions [7] of arm and gripper at the start, rad and m.
        camera: displacement of the camera during the episode.
        max_steps: control periods until the episode times out.
        template: which wording of the instruction is used.
        reference: where the target is to go: an object, 'plate', 'drawer' or ''.
        setting: one of `SETTINGS`.
        look: light and colours.
        cabinet: where it stands and how far its drawer is out; None where there is none.
        motions: what is moved while the arm acts.
        held: an object that is between the fingers at the start, '' for none.
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
    reference: str = ''
    setting: str = MATCHING
    look: Look = field(default_factory=Look)
    cabinet: Cabinet | None = None
    motions: tuple[Motion, ...] = ()
    held: str = ''

    @property
    def goal(self) -> Goal:
        """What the first instruction asks for."""
        return Goal(self.task, self.target, self.reference)

    @property
    def other_goal(self) -> Goal:
        """Something else that the scene allows: the same with a distractor, or to pick that."""
        if self.task in DRAWER_TASKS:
            return Goal(PICK, self.distractors[0])
        return self.goal.with_target(self.distractors[0])

    @property
    def objects(self) -> tuple[str, ...]:
        """All objects on the table, the target first."""
        named = (self.target, self.reference, *self.distractors)
        return tuple(name for name in named if name in OBJECT_MODELS)

    @property
    def scene(self) -> str:
        """The scene that it takes place in, see `scene.SCENE_OBJECTS`."""
        return BARE if self.task == PICK and set(self.objects) <= set(OBJECTS) else FURNISHED

    @property
    def instruction(self) -> str:
        """What the robot is asked to do."""
        return self.goal.instruction(self.template)

    def with_camera(self, camera: CameraOffset) -> Episode:
        """Returns the same episode seen by a displaced camera."""
        return replace(self, camera=camera)


def _spaced_positions(rng: np.random.Generator, count: int) -> np.ndarray:
    """Draws positions [count, 2] on the table that keep `SPACING` from each other."""
    while True:
        points = rng.uniform(WORKSPACE_LOWER, WORKSPACE_UPPER, size=(count, 2))
        gaps = np.linalg.norm(points[:, None] - points[None], axis=-1)
        if np.all(gaps[np.triu_indices(count, 1)] >= SPACING):
            return points


def sample_episode(
    task: str, seed: int, target: str | None = None, setting: str = MATCHING
) -> Episode:
    """Draws the episode of a seed: the same on every machine.

    In every setting the objects of a seed start from the same places; `variants` adds some.

    Args:
        task: one of `TASKS`.
        seed: at least 0.
        target: the object to act on; None draws one.
        setting: one of `SETTINGS`.

    Raises:
        InputError: no such task, setting or object.
    """
    check_task(task)
    check_setting(setting)
    expected = OBJECTS if task == PICK else tuple(OBJECT_MODELS)
    if target is not None and target not in expected:
        raise InputError(f'unknown object "{target}", expected one of: {", ".join(expected)}')
    rng = np.random.default_rng([seed, TASKS.index(task)])
    layout = _pick_layout(rng, target) if task == PICK else draw_layout(task, rng, target)
    goal = layout.goal
    episode = Episode(
        task=task,
        seed=seed,
        target=goal.target,
        distractors=tuple(
            name
            for name in layout.positions
            if name in OBJECT_MODELS and name not in (goal.target, goal.reference)
        ),
        object_positions=layout.positions,
        object_yaws=layout.yaws,
        max_steps=MAX_STEPS[task],
        template=layout.template,
        reference=goal.reference,
        setting=setting,
        cabinet=layout.cabinet,
    )
    return _with_setting(episode, layout)


def episode_in_turn(
    task: str, first_seed: int, index: int, repeat: int = 1, setting: str = MATCHING
) -> Episode:
    """Draws episode `index` of a run; the simulator node and whoever foretells it use the same.

    Args:
        task: one of `TASKS`, or 'all', where the tasks take turns.
        first_seed: seed of the first scene; every further one adds 1.
        index: running number of the episode, from 0.
        repeat: how many episodes in a row start from the same scene.
        setting: one of `SETTINGS`.

    Raises:
        InputError: no such task or setting.
    """
    scene = index // repeat
    if task == ALL_TASKS:
        task = TASKS[scene % len(TASKS)]
    return sample_episode(task, first_seed + scene, setting=setting)


def _pick_layout(rng: np.random.Generator, target: str | None) -> Layout:
    order = [OBJECTS[i] for i in rng.permutation(len(OBJECTS))]
    if target is not None:
        order.remove(target)
        order.insert(0, target)
    names = order[:OBJECTS_PER_EPISODE]
    points = _spaced_positions(rng, len(names))
    positions = {n: (float(p[0]), float(p[1])) for n, p in zip(names, points)}
    yaws = {n: float(rng.uniform(-np.pi, np.pi)) for n in names}
    return Layout(goal_for(PICK, names[0]), 0, positions, yaws)


def _with_setting(episode: Episode, layout: Layout) -> Episode:
    """Draws what the setting changes, apart from the layout's own draws."""
    rng = np.random.default_rng(
        [episode.seed, TASKS.index(episode.task), SETTINGS.index(episode.setting)]
    )
    if episode.setting == VARIANTS:
        look, camera = draw_look(rng)
        places, yaws = draw_extras(layout, rng)
        return replace(
            episode,
            look=look,
            camera=camera,
            distractors=(*episode.distractors, *places),
            object_positions={**episode.object_positions, **places},
            object_yaws={**episode.object_yaws, **yaws},
        )
    if episode.setting == DYNAMIC:
        return replace(episode, motions=draw_motion(layout, rng))
    return episode
