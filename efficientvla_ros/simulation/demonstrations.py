"""One demonstration: the expert or a policy acts, every frame is labelled by the expert afresh.

The labels are the expert's plans from the measured state, for every object on the table. The
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
from efficientvla_ros.simulation.camera import CameraOffset
from efficientvla_ros.simulation.environment import TabletopEnvironment
from efficientvla_ros.simulation.expert import CLOSED, HORIZON, plan
from efficientvla_ros.simulation.tasks import (
    CONTROL_PERIOD,
    OBJECTS,
    OBJECTS_PER_EPISODE,
    SUCCESS,
    Episode,
    sample_episode,
)
from efficientvla_ros.types import ACTION_DIM, ActionChunk

Actor = Callable[[np.ndarray, str], np.ndarray]
"""A policy: image uint8 [height, width, 3] and instruction to actions [steps, 7]."""

_EXECUTED_STEPS = 4
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
        success: whether the object asked for last was lifted.
        images: one uint8 [height, width, 3] per frame.
        rows: array name -> one entry per frame.
    """

    seed: int
    success: bool = False
    images: list[np.ndarray] = field(default_factory=list)
    rows: dict[str, list] = field(default_factory=lambda: {name: [] for name in ROW_TYPES})


ROW_TYPES = {
    'plans': (np.float32, (OBJECTS_PER_EPISODE, HORIZON, ACTION_DIM)),
    'object_ids': (np.int8, (OBJECTS_PER_EPISODE,)),
    'object_pixels': (np.float32, (OBJECTS_PER_EPISODE, 2)),
    'gripper_pixel': (np.float32, (2,)),
    'tcp': (np.float32, (3,)),
    'gripper': (np.float32, ()),
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
    ) -> None:
        """Sets up simulator and controller.

        Args:
            task: name of the task.
            image_size: side of the square images, pixels.
            disturbances: how the motion is disturbed.
            actor: a policy that makes part of the plans; None leaves all to the expert.
        """
        self.environment = TabletopEnvironment(image_size, image_size, task)
        self.disturbances = disturbances or Disturbances()
        self._actor = actor
        self._task = task
        self._kinematics = ArmKinematics(arm_urdf(), ARM_JOINTS, TCP_FRAME)
        self._chunks = ChunkController(self._kinematics, gripper_joint=GRIPPER_JOINT)

    def close(self) -> None:
        """Frees the renderer."""
        self.environment.close()

    def demonstrate(self, seed: int) -> Demonstration:
        """Runs the episode of a seed; the same seed gives the same frames."""
        settings, environment = self.disturbances, self.environment
        rng = np.random.default_rng([seed, 7919])
        environment.start(self._start(sample_episode(self._task, seed), rng))
        self._chunks.reset()
        events = _Events(settings, rng)
        demonstration = Demonstration(seed)
        for frame in range(settings.frames or environment.episode.max_steps):
            if environment.outcome is not None:
                break
            if frame == events.switch_at:
                environment.set_target(str(rng.choice(environment.episode.distractors)))
            actions = self._record(demonstration, rng)
            if self._actor and rng.random() < events.acting:
                actions = self._actor(demonstration.images[-1], environment.instruction)
            else:
                actions = events.disturb(actions, frame)
            self._execute(actions, rng)
        demonstration.success = environment.outcome == SUCCESS
        return demonstration

    def _start(self, episode: Episode, rng: np.random.Generator) -> Episode:
        """Lets part of the episodes start from another pose that touches nothing."""
        if rng.random() >= self.disturbances.random_start_rate:
            return episode
        home = np.array(HOME_POSITIONS[:-1])
        target = self._kinematics.fk(home)
        while True:
            target[:3, 3] = self._random_tool(episode, rng)
            solution = self._kinematics.ik(target, home)
            opening = FINGER_OPEN if rng.random() < 0.8 else rng.uniform(0.0, FINGER_OPEN)
            start = replace(episode, start_positions=(*solution.q.tolist(), float(opening)))
            self.environment.sim.reset(start)
            if solution.converged and not self.environment.sim.arm_touches():
                return start

    def _random_tool(self, episode: Episode, rng: np.random.Generator) -> np.ndarray:
        """A position [3] of the tool, anywhere over the table or near one of the objects, m."""
        if rng.random() >= self.disturbances.near_rate:
            return rng.uniform((0.17, -0.20, 0.022), (0.43, 0.20, 0.22))
        name = episode.objects[rng.integers(len(episode.objects))]
        lateral = np.array(episode.object_positions[name]) + rng.normal(0.0, 0.03, 2)
        return np.array([*lateral, rng.uniform(0.022, 0.16)])

    def _record(self, demonstration: Demonstration, rng: np.random.Generator) -> np.ndarray:
        """Adds a frame with its labels; returns the plan [16, 7] for the current target."""
        environment, sim = self.environment, self.environment.sim
        state = environment.table_state()
        others = [name for name in environment.episode.objects if name != environment.target]
        names = [environment.target, *others]
        plans = np.stack([plan(state, name, HORIZON) for name in names])
        offset = _camera_offset(self.disturbances, rng)
        sim.set_camera(offset)
        sim.set_lighting(float(rng.uniform(*self.disturbances.light)))
        demonstration.images.append(sim.render())
        size = (sim.width, sim.height)
        rows = {
            'plans': plans,
            'object_ids': [OBJECTS.index(name) for name in names],
            'object_pixels': sim.project(np.stack([state.objects[n] for n in names])) / size,
            'gripper_pixel': sim.project(state.tcp) / size,
            'tcp': state.tcp,
            'gripper': state.opening / FINGER_OPEN,
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
