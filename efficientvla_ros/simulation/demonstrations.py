"""One demonstration: the expert or a policy acts, every frame is labelled by the expert afresh.

The labels are the expert's plans from the measured state, for several valid instructions. The
executed motion may therefore be disturbed at will: frames show the states that a policy gets into
when its chunks arrive late, when it misses, or when the instruction changes under way. A trained
policy may also act itself, so that its own mistakes are labelled (DAgger, Ross et al. 2011).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from efficientvla_ros.control.kinematics import ArmKinematics
from efficientvla_ros.control.pipeline import ChunkController
from efficientvla_ros.simulation.arm import (
    ARM_JOINTS,
    FINGER_OPEN,
    GRIPPER_JOINT,
    HOME_POSITIONS,
    TCP_FRAME,
    arm_urdf,
)
from efficientvla_ros.simulation.cabinet import HANDLE_HALF_WIDTH, TRAVEL
from efficientvla_ros.simulation.camera import CameraOffset
from efficientvla_ros.simulation.environment import TabletopEnvironment
from efficientvla_ros.simulation.expert import CLOSED, HORIZON, plan
from efficientvla_ros.simulation.goals import DRAWER_TASKS, TASKS, Goal
from efficientvla_ros.simulation.labels import LABELS, label_goals
from efficientvla_ros.simulation.objects import DRAWER, KEYPOINTS, OBJECT_MODELS
from efficientvla_ros.simulation.scene import BARE
from efficientvla_ros.simulation.success import SUCCESS
from efficientvla_ros.simulation.tasks import CONTROL_PERIOD, MATCHING, Episode, sample_episode
from efficientvla_ros.types import ACTION_DIM, ActionChunk

Actor = Callable[[np.ndarray, str], np.ndarray]
"""A policy: image uint8 [height, width, 3] and instruction to actions [steps, 7]."""

_EXECUTED_STEPS = 4
_LOWEST_TOOL, _LOWEST_HELD = 0.022, 0.055
_SQUEEZE = 0.012  # m: how far beyond an object's surface the fingers are sent to hold it
_LOWEST_TARGET = 0.020  # m: disturbed targets keep the finger tips off the table


@dataclass(frozen=True)
class Disturbances:
    """How demonstrations are disturbed; lengths in m, angles in rad, times in s.

    Attributes:
        noise: standard deviation of the correlated error of executed moves.
        kick, kick_rate: length of rare large errors and how often they happen per action.
        early_close_rate: share of episodes in which the gripper closes once without reason.
        random_start_rate: share of episodes that start from a random pose.
        near_rate: share of the random poses that are near an object instead of anywhere.
        held_rate: share of the random poses that have an object, or the drawer's handle, between
            the fingers; not on the bare table of `pick`.
        drawer_rate: share of the random poses for which the drawer is anywhere.
        frames: longest episode, frames; None is the task's limit. Short episodes from random
            poses show the tool in places where the expert's own motion never leads, without
            which a policy takes what usually follows for what it sees.
        switch_rate: share of episodes in which the executed target changes under way.
        latency: range of the time from an observation to the arrival of its command.
        interval: range of the time between two observations.
        long_interval_rate: how often the arm runs on for a second step without a new plan.
        pan_tilt, pan_tilt_limit, roll, camera_position: standard deviations of the camera's
            displacement, drawn for each frame, and the limit of its rotation.
        steady_rate: share of frames without camera displacement.
        light: range of the intensity of the lights.
        acting: range of the share of plans that come from the policy, where one acts; drawn for
            each episode.
    """

    noise: float = 0.006
    kick: float = 0.020
    kick_rate: float = 0.08
    early_close_rate: float = 0.16
    random_start_rate: float = 0.4
    near_rate: float = 0.5
    held_rate: float = 0.35
    drawer_rate: float = 0.5
    frames: int | None = None
    switch_rate: float = 0.10
    latency: tuple[float, float] = (0.03, 0.13)
    interval: tuple[float, float] = (0.132, 0.268)
    long_interval_rate: float = 0.15
    pan_tilt: float = float(np.radians(1.0))
    pan_tilt_limit: float = float(np.radians(2.5))
    roll: float = float(np.radians(0.7))
    camera_position: float = 0.007
    steady_rate: float = 0.15
    light: tuple[float, float] = (0.85, 1.15)
    acting: tuple[float, float] = (0.3, 1.0)


@dataclass
class Demonstration:
    """The frames of one episode; see docs/simulation.md for the meaning of the arrays.

    Attributes:
        seed: the seed of the episode.
        success: whether what was asked for last was done.
        images: one uint8 [height, width, 3] per frame.
        rows: array name -> one entry per frame.
    """

    seed: int
    success: bool = False
    images: list[np.ndarray] = field(default_factory=list)
    rows: dict[str, list] = field(default_factory=lambda: {name: [] for name in ROW_TYPES})


ROW_TYPES = {
    'plans': (np.float32, (LABELS, HORIZON, ACTION_DIM)),
    'tasks': (np.int8, (LABELS,)),
    'object_ids': (np.int8, (LABELS,)),
    'references': (np.int8, (LABELS,)),
    'object_pixels': (np.float32, (LABELS, 2)),
    'keypoints': (np.float32, (len(KEYPOINTS), 2)),
    'gripper_pixel': (np.float32, (2,)),
    'tcp': (np.float32, (3,)),
    'gripper': (np.float32, ()),
    'drawer': (np.float32, ()),
    'camera': (np.float32, (6,)),
}
"""Arrays with one row per frame: type and shape of a row."""


class Demonstrator:
    """Makes demonstrations from seeds; owns an environment. For one thread."""

    def __init__(
        self,
        task: str = 'pick',
        image_size: int = 224,
        disturbances: Disturbances | None = None,
        actor: Actor | None = None,
        setting: str = MATCHING,
    ) -> None:
        """Sets up simulator and controller.

        Args:
            task: name of the task.
            image_size: side of the square images, pixels.
            disturbances: how the motion is disturbed.
            actor: a policy that makes part of the plans; None leaves all to the expert.
            setting: of the episodes.
        """
        self.environment = TabletopEnvironment(image_size, image_size, task, setting)
        self.disturbances = disturbances or Disturbances()
        self._actor = actor
        self._task, self._setting = task, setting
        self._kinematics = ArmKinematics(arm_urdf(), ARM_JOINTS, TCP_FRAME)
        self._chunks = ChunkController(self._kinematics, gripper_joint=GRIPPER_JOINT)

    def close(self) -> None:
        """Frees the renderer."""
        self.environment.close()

    def demonstrate(self, seed: int) -> Demonstration:
        """Runs the episode of a seed; the same seed gives the same frames."""
        settings, environment = self.disturbances, self.environment
        rng = np.random.default_rng([seed, 7919])
        episode = sample_episode(self._task, seed, setting=self._setting)
        environment.start(self._start(episode, rng))
        self._chunks.reset()
        events = _Events(settings, rng)
        demonstration = Demonstration(seed)
        for frame in range(settings.frames or environment.episode.max_steps):
            if environment.outcome is not None:
                break
            if frame == events.switch_at:
                environment.set_goal(self._other_goal(rng))
            actions = self._record(demonstration, rng)
            if self._actor and rng.random() < events.acting:
                actions = self._actor(demonstration.images[-1], environment.instruction)
            else:
                actions = events.disturb(actions, frame)
            self._execute(actions, rng)
        demonstration.success = environment.outcome == SUCCESS
        return demonstration

    def _other_goal(self, rng: np.random.Generator) -> Goal:
        environment = self.environment
        episode, goal = environment.episode, environment.goal
        if episode.scene == BARE:
            return goal.with_target(str(rng.choice(episode.distractors)))
        goals = label_goals(episode, environment.table_state(), goal, rng)
        return goals[int(rng.integers(1, len(goals)))]

    def _start(self, episode: Episode, rng: np.random.Generator) -> Episode:
        """Lets part of the episodes start from another pose that touches nothing."""
        if rng.random() >= self.disturbances.random_start_rate:
            return episode
        home = np.array(HOME_POSITIONS[:-1])
        target = self._kinematics.fk(home)
        while True:
            start = self._other_start(episode, rng)
            target[:3, 3] = self._random_tool(start, rng)
            solution = self._kinematics.ik(target, home)
            opening = FINGER_OPEN if rng.random() < 0.8 else rng.uniform(0.0, FINGER_OPEN)
            if start.held:
                opening = max(0.0, _held_width(start.held) - _SQUEEZE)
            start = replace(start, start_positions=(*solution.q.tolist(), float(opening)))
            self.environment.sim.reset(start)
            if solution.converged and not self.environment.sim.arm_touches():
                return start

    def _other_start(self, episode: Episode, rng: np.random.Generator) -> Episode:
        """Draws what is in the hand and where the drawer is; nothing on the bare table."""
        if episode.scene == BARE:
            return episode
        settings, cabinet = self.disturbances, episode.cabinet
        if cabinet is not None and rng.random() < settings.drawer_rate:
            episode = replace(episode, cabinet=cabinet.at(float(rng.uniform(0.0, TRAVEL))))
        if rng.random() >= settings.held_rate:
            return episode
        if episode.task in DRAWER_TASKS and rng.random() < 0.7:
            return replace(episode, held=DRAWER)
        names = episode.objects
        usual = names[0] if rng.random() < 0.6 else names[int(rng.integers(len(names)))]
        return replace(episode, held=usual)

    def _random_tool(self, episode: Episode, rng: np.random.Generator) -> np.ndarray:
        """A position [3] of the tool, anywhere over the table or near one of the objects, m."""
        if episode.held == DRAWER:
            return episode.cabinet.handle + rng.normal(0.0, 0.002, 3)
        lowest = _LOWEST_HELD if episode.held else _LOWEST_TOOL
        if rng.random() >= self.disturbances.near_rate:
            return rng.uniform((0.17, -0.20, lowest), (0.43, 0.20, 0.22))
        places = [episode.object_positions[name] for name in episode.objects]
        if episode.reference in episode.object_positions:
            places.append(episode.object_positions[episode.reference])
        if episode.cabinet is not None:
            places += [episode.cabinet.handle[:2], episode.cabinet.middle]
        lateral = np.array(places[rng.integers(len(places))]) + rng.normal(0.0, 0.03, 2)
        return np.array([*lateral, rng.uniform(lowest, 0.16)])

    def _record(self, demonstration: Demonstration, rng: np.random.Generator) -> np.ndarray:
        """Adds a frame with its labels; returns the plan [16, 7] for the current goal."""
        environment, sim = self.environment, self.environment.sim
        state = environment.table_state()
        goals = label_goals(environment.episode, state, environment.goal, rng)
        plans = np.stack([plan(state, goal, HORIZON) for goal in goals])
        offset = _camera_offset(self.disturbances, rng)
        # A setting's own camera and light are disturbed further.
        look, base = environment.episode.look, environment.episode.camera
        sim.set_camera(base.plus(offset))
        sim.set_lighting(look.light * float(rng.uniform(*self.disturbances.light)))
        demonstration.images.append(sim.render())
        keypoints = sim.keypoints(state)
        ids = [KEYPOINTS.index(goal.target) for goal in goals]
        rows = {
            'plans': plans,
            'tasks': [TASKS.index(goal.task) for goal in goals],
            'object_ids': ids,
            'references': [
                KEYPOINTS.index(goal.reference) if goal.reference else -1 for goal in goals
            ],
            'object_pixels': keypoints[ids],
            'keypoints': keypoints,
            'gripper_pixel': sim.project(state.tcp) / (sim.width, sim.height),
            'tcp': state.tcp,
            'gripper': state.opening / FINGER_OPEN,
            'drawer': np.nan if state.cabinet is None else state.cabinet.opening / TRAVEL,
            'camera': (offset.pan, offset.tilt, offset.roll, *offset.position),
        }
        for name, value in rows.items():
            demonstration.rows[name].append(np.asarray(value, dtype=ROW_TYPES[name][0]))
        return plans[0]

    def _execute(self, actions: np.ndarray, rng: np.random.Generator) -> None:
        settings, environment = self.disturbances, self.environment
        latency = float(rng.uniform(*settings.latency))
        periods = float(rng.uniform(*settings.interval)) / CONTROL_PERIOD
        if rng.random() < settings.long_interval_rate:
            periods += 1.0
        actions = actions[:_EXECUTED_STEPS].copy()
        if not self._actor:
            height = environment.sim.tcp_pose()[2, 3]
            actions[0, 2] = max(actions[0, 2], _LOWEST_TARGET - height)
        chunk = ActionChunk(actions, CONTROL_PERIOD, environment.now_ns, '', 0)
        result = self._chunks.command(
            chunk,
            environment.sim.joint_positions()[:-1],
            environment.now_ns + round(latency * 1e9),
        )
        environment.act(result.command, latency, periods)


def _held_width(name: str) -> float:
    return HANDLE_HALF_WIDTH if name == DRAWER else OBJECT_MODELS[name].radius


class _Events:
    """The disturbances of one episode's motion."""

    def __init__(self, settings: Disturbances, rng: np.random.Generator) -> None:
        self._settings, self._rng = settings, rng
        self._error = np.zeros(3)
        self.switch_at = int(rng.integers(1, 10)) if rng.random() < settings.switch_rate else -1
        self._close_at = (
            int(rng.integers(1, 6)) if rng.random() < settings.early_close_rate else -1
        )
        self.acting = float(rng.uniform(*settings.acting))

    def disturb(self, actions: np.ndarray, frame: int) -> np.ndarray:
        """Returns a disturbed copy of a plan [steps, 7]."""
        settings, rng = self._settings, self._rng
        actions = actions.copy()
        self._error = 0.7 * self._error + np.sqrt(1 - 0.7**2) * rng.normal(0.0, settings.noise, 3)
        actions[0, :3] += self._error
        if rng.random() < settings.kick_rate:
            direction = rng.normal(size=3)
            actions[0, :3] += settings.kick * direction / np.linalg.norm(direction)
        if frame == self._close_at:
            actions[:2, 6] = CLOSED
        return actions


def _camera_offset(settings: Disturbances, rng: np.random.Generator) -> CameraOffset:
    if rng.random() < settings.steady_rate:
        return CameraOffset()
    limit = settings.pan_tilt_limit
    pan, tilt = np.clip(rng.normal(0.0, settings.pan_tilt, 2), -limit, limit)
    position = rng.normal(0.0, settings.camera_position, 3)
    return CameraOffset(
        float(pan), float(tilt), float(rng.normal(0.0, settings.roll)), tuple(position.tolist())
    )
