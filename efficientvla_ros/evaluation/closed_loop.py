"""Closed-loop episodes in process, with the control path and the timing of the ROS nodes."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Protocol

import numpy as np

from efficientvla_ros.control.config import ControlConfig
from efficientvla_ros.control.kinematics import ArmKinematics
from efficientvla_ros.control.pipeline import ChunkController
from efficientvla_ros.control.reasons import HoldReason, Intervention
from efficientvla_ros.evaluation.channel_log import ChannelLog
from efficientvla_ros.evaluation.presets import work_done
from efficientvla_ros.evaluation.settings import EvaluationSettings
from efficientvla_ros.simulation.arm import (
    ARM_JOINTS,
    GRIPPER_JOINT,
    MAX_JOINT_ACCELERATION,
    TCP_FRAME,
    arm_urdf,
)
from efficientvla_ros.simulation.camera import CameraOffset
from efficientvla_ros.simulation.environment import PERIOD_NS, TabletopEnvironment
from efficientvla_ros.simulation.success import SUCCESS, WRONG_OBJECT
from efficientvla_ros.simulation.tasks import Episode, sample_episode
from efficientvla_ros.types import ActionChunk, JointCommand, Observation, TickReport


class Policy(Protocol):
    """What an episode needs of an engine."""

    step_duration: float

    def infer(self, observation: Observation) -> tuple[ActionChunk, TickReport]:
        """Plans from one observation."""


@dataclass(frozen=True)
class EpisodeRow:
    """What happened in one episode.

    Attributes:
        seed: of the episode.
        instruction: the last instruction given.
        target: the object that it names.
        swapped: whether another object than the episode's own was asked for.
        outcome: success, or what went wrong, see `simulation.success`.
        ticks: control periods until the end.
        lifted_object: the object whose lift ended the episode, '' if none did.
        inferences: plans made.
        rejected_commands: commands that the trajectory controller refused.
        holds: hold reason -> count.
        interventions: intervention -> number of steps.
        stage_seconds: stage -> seconds of each inference; 'total' is their sum.
        plan: what the last inference ran: visual_tokens, layers_run, diffusion_steps; the
            evaluation of presets adds what they were made from.
        channels: what inferences did with the decoder's channels (`ChannelLog.as_dict`).
    """

    seed: int
    instruction: str
    target: str
    swapped: bool
    outcome: str
    ticks: int
    lifted_object: str
    inferences: int
    rejected_commands: int
    holds: dict[str, int] = field(default_factory=dict)
    interventions: dict[str, int] = field(default_factory=dict)
    stage_seconds: dict[str, list[float]] = field(default_factory=dict)
    plan: dict = field(default_factory=dict)
    channels: dict = field(default_factory=dict)

    @property
    def success(self) -> bool:
        """Whether what was asked for was done."""
        return self.outcome == SUCCESS

    @property
    def wrong_object(self) -> bool:
        """Whether another object was lifted."""
        return self.outcome == WRONG_OBJECT

    def as_dict(self) -> dict:
        """Returns the row for JSON."""
        return asdict(self)


def make_controller(execution: str = 'replan') -> ChunkController:
    """Returns the controller of the simulated arm, with the settings of the policy node.

    Args:
        execution: how overlapping plans are executed.
    """
    kinematics = ArmKinematics(arm_urdf(), ARM_JOINTS, TCP_FRAME)
    config = ControlConfig(execution=execution, max_joint_acceleration=MAX_JOINT_ACCELERATION)
    return ChunkController(kinematics, config, GRIPPER_JOINT)


def episode_of(settings: EvaluationSettings, seed: int) -> Episode:
    """Returns the episode of a seed, seen by a camera turned in a direction of the seed's."""
    episode = sample_episode(settings.task, seed, setting=settings.setting)
    if settings.camera_shift_px == 0.0:
        return episode
    angle = np.random.default_rng([seed, 7]).uniform(0.0, 2.0 * math.pi)
    right = settings.camera_shift_px * math.cos(angle)
    down = settings.camera_shift_px * math.sin(angle)
    return episode.with_camera(CameraOffset.from_pixels(right, down))


def run_episode(
    environment: TabletopEnvironment,
    policy: Policy,
    controller: ChunkController,
    episode: Episode,
    *,
    execute_steps: int = 2,
    latency: float = 0.1,
    swap_step: int | None = None,
    gap: Callable[[], object] | None = None,
) -> EpisodeRow:
    """Runs one episode to its end.

    A plan is made from each observation; its command reaches the arm `latency` seconds later,
    and the next observation is taken `execute_steps` control periods after the one before.

    Args:
        environment: the simulated table.
        policy: makes the plans.
        controller: makes the commands; it is reset.
        episode: where to start.
        execute_steps: control periods between two observations.
        latency: from the observation to the arrival of its command, s.
        swap_step: control period from which on the first distractor is asked for instead of
            the target; None never.
        gap: called after each inference, for what the policy does until the next one: simulated
            time does not let it happen by itself. None where that is nothing.

    Raises:
        InputError: the policy cannot use the observation or the instruction.
    """
    environment.reset(episode)
    controller.reset()
    controller.counters.clear()
    stages: dict[str, list[float]] = defaultdict(list)
    inferences = rejected = 0
    report, channels = TickReport(), ChannelLog()
    while environment.outcome is None:
        if swap_step is not None and environment.steps >= swap_step:
            if environment.target != episode.distractors[0]:
                controller.forget_plans()
            environment.set_target(episode.distractors[0])
        observation = environment.observe()
        chunk, report = policy.infer(observation)
        inferences += 1
        for stage, seconds in report.stage_seconds.items():
            stages[stage].append(seconds)
        stages['total'].append(report.total_seconds)
        channels.add(report)
        if gap is not None:
            gap()
        command = _command(controller, chunk, observation, latency)
        _execute(environment, command, latency, execute_steps)
        rejected += environment.rejected != ''
    return EpisodeRow(
        seed=episode.seed,
        instruction=environment.instruction,
        target=environment.target,
        swapped=environment.target != episode.target,
        outcome=environment.outcome,
        ticks=environment.steps,
        lifted_object=environment.lifted_object or '',
        inferences=inferences,
        rejected_commands=rejected,
        holds=_counts(controller, HoldReason),
        interventions=_counts(controller, Intervention),
        stage_seconds=dict(stages),
        plan=work_done(report),
        channels=channels.as_dict(),
    )


def _command(
    controller: ChunkController, chunk: ActionChunk, observation: Observation, latency: float
) -> JointCommand | None:
    joints = observation.joint_state.positions[: len(controller.kinematics.joint_names)]
    now_ns = observation.stamp_ns + round(latency * 1e9)
    result = controller.command(chunk, joints, now_ns)
    if result.command is None:
        return controller.stop_command(joints, now_ns)
    return result.command


def _execute(
    environment: TabletopEnvironment,
    command: JointCommand | None,
    latency: float,
    execute_steps: int,
) -> None:
    """Advances until the next observation; the command arrives on the way."""
    period = PERIOD_NS * 1e-9
    waiting = max(0, math.ceil(latency / period - 1e-9) - 1)
    if waiting and not environment.act(None, periods=waiting):
        return
    rest = min(period, latency - waiting * period)
    environment.act(command, rest, max(1, execute_steps - waiting))


def _counts(
    controller: ChunkController, names: type[HoldReason] | type[Intervention]
) -> dict[str, int]:
    return {
        name.value: controller.counters[name.value]
        for name in names
        if name.value and controller.counters[name.value]
    }
