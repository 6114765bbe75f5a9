"""The engine: turns an observation into an action chunk and reports what it cost."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import numpy as np
import torch
from torch import Tensor

from efficientvla_ros.acceleration.plan import NO_PROFILE, ExecutionPlan
from efficientvla_ros.acceleration.profile import CalibrationProfile
from efficientvla_ros.models.checkpoint import Checkpoint
from efficientvla_ros.models.config import VLMConfig
from efficientvla_ros.models.images import to_input
from efficientvla_ros.models.prismatic import PrismaticVLM
from efficientvla_ros.models.statistics import ActionStatistics
from efficientvla_ros.runtime.audit import AuditSettings
from efficientvla_ros.runtime.latency_budget import LADDER, LatencyBudget
from efficientvla_ros.runtime.plan_switch import PlanSwitch
from efficientvla_ros.runtime.policies import Policy, decoded_positions
from efficientvla_ros.runtime.prompts import Prompt, Prompts
from efficientvla_ros.runtime.reports import camera_image, draw_tick, tick_report
from efficientvla_ros.runtime.runners import Acceleration, Runners
from efficientvla_ros.runtime.stopwatch import Stopwatch
from efficientvla_ros.runtime.timeline import Timeline
from efficientvla_ros.types import ActionChunk, Observation, TickReport

DENSE = 'dense'


class Engine:
    """Runs one policy on one device.

    One thread calls `infer`. Acceleration may be changed and `reset` called from others.

    Attributes:
        model: the networks.
        config: their sizes.
        statistics: action quantiles of the data set that is acted in.
        device: where the networks are.
        dtype: type of the vision-language model's parameters; a diffusion head is float32.
        step_duration: seconds between two actions of a chunk.
        prompt: instruction to `Prompt`; raises as `check_instruction`.
        report_tokens: whether reports say which visual tokens were kept, and why.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        num_ddim_steps: int | None = None,
        guidance: float | None = None,
        seed: int = 0,
        acceleration: Acceleration = DENSE,
        profile: CalibrationProfile | None = None,
        no_profile: str = NO_PROFILE,
        only_kept: bool = False,
    ) -> None:
        """Wraps a loaded policy; use `load_engine` to get one by name or path."""
        self.model: PrismaticVLM = checkpoint.model
        self.config: VLMConfig = checkpoint.model.config
        self.statistics: ActionStatistics = checkpoint.statistics
        self.step_duration: float = checkpoint.step_duration
        embedding = self.model.llm_backbone.llm.model.embed_tokens.weight
        self.device, self.dtype = embedding.device, embedding.dtype
        self.prompt = Prompts(
            checkpoint.tokenizer, self.config, decoded_positions(self.model), self.device
        )
        self.report_tokens = False
        self._runners = Runners(
            self.model,
            num_ddim_steps=num_ddim_steps,
            guidance=guidance,
            seed=seed,
            profile=profile,
            no_profile=no_profile,
            only_kept=only_kept,
            statistics=self.statistics,
        )
        self._stream = None
        if self.device.type == 'cuda':
            # Above the streams of work beside inference, which have the default priority.
            self._stream = torch.cuda.Stream(self.device, priority=-1)
        self._plans = PlanSwitch(
            self._runners, lambda policy, runs: self._warm(policy, runs), acceleration
        )
        self._await_preparation()
        self._instruction: str | None = None
        self._sequence = 0

    @property
    def model_name(self) -> str:
        """What logs and reports call the model."""
        return self.config.name

    @property
    def camera_names(self) -> tuple[str, ...]:
        """Cameras that the policy wants, in order."""
        return self.config.cameras

    @property
    def image_size(self) -> int:
        """Side of the network's square input, pixels."""
        return self.config.image_size

    @property
    def policy(self) -> Policy:
        """The policy as the present plan runs it."""
        return self._plans.policy

    @property
    def plan(self) -> ExecutionPlan:
        """What the next tick runs."""
        return self.policy.plan

    @property
    def profile(self) -> CalibrationProfile | None:
        """What calibration has measured of the model.

        A new one replaces the plan by that of the same settings, and ends a latency budget, as
        `set_acceleration` does.
        """
        return self._runners.profile

    @profile.setter
    def profile(self, profile: CalibrationProfile | None) -> None:
        self._plans.set_profile(profile)

    @property
    def plans_kept(self) -> int:
        """Plans that stay prepared, the newest ones; at least 1."""
        return self._runners.keep

    @plans_kept.setter
    def plans_kept(self, count: int) -> None:
        self._runners.keep = max(1, count)

    @property
    def audit(self) -> AuditSettings:
        """What is audited of pruned ticks and tolerated; may be set at any time."""
        return self._runners.resources.audit

    @audit.setter
    def audit(self, settings: AuditSettings) -> None:
        self._runners.resources.audit = settings

    @property
    def timeline(self) -> Timeline | None:
        """Takes what runs when, if one is set."""
        return self._runners.resources.timeline

    @timeline.setter
    def timeline(self, timeline: Timeline | None) -> None:
        self._runners.resources.timeline = timeline

    @property
    def horizon(self) -> int:
        """Actions in a chunk."""
        return self.policy.horizon

    @property
    def num_ddim_steps(self) -> int:
        """Sampling steps of the diffusion head; 0 for a model without one."""
        return self._runners.steps

    @property
    def guidance(self) -> float | None:
        """Classifier-free guidance scale; None for a model without a diffusion head."""
        sampler = self._runners.sampler
        return None if sampler is None else sampler.guidance

    @property
    def noise(self) -> Tensor | None:
        """Noise that sampling starts from, float32 [1, horizon, action_dim]; None likewise."""
        return self._runners.noise

    def check_instruction(self, instruction: str) -> None:
        """Refuses an instruction that the model cannot take.

        Raises:
            InputError: it is empty, too long, or has words outside the vocabulary.
        """
        self.prompt(instruction)

    def prompt_length(self, instruction: str) -> int:
        """Ids of the prompt, BOS included, without visual tokens; raises as `prompt_ids`."""
        return self.prompt_ids(instruction).shape[1]

    def prompt_ids(self, instruction: str) -> Tensor:
        """Ids of the prompt, int64 [1, T] on the device; raises as `check_instruction`."""
        return self.prompt(instruction).ids

    def plan_for(self, acceleration: Acceleration) -> ExecutionPlan:
        """The plan that `set_acceleration` would make; nothing is prepared.

        Raises:
            InputError: as `set_acceleration`.
        """
        return self._runners.plan(acceleration)

    def set_acceleration(self, acceleration: Acceleration) -> ExecutionPlan:
        """Changes what a tick runs, from the next tick on.

        The new plan is prepared and warmed up here, beside ticks that run meanwhile by the old
        one in another thread. A latency budget ends.

        Args:
            acceleration: settings, or the name of a preset.

        Returns:
            The new plan. Its `notes` say what had to stay off.

        Raises:
            InputError: a preset is unknown, the settings do not fit the model, or they need
                layers that were not loaded; the old plan stays.
        """
        return self._plans.use(acceleration)

    @property
    def latency_budget(self) -> LatencyBudget | None:
        """Which plan it has chosen, if one is set."""
        return self._plans.budget

    def set_latency_budget(
        self,
        milliseconds: float | None,
        candidates: Sequence[str] = LADDER,
        runs: int = 20,
    ) -> LatencyBudget | None:
        """Lets the mildest plan run whose 95th percentile is within a time, from now on.

        All candidates are prepared, stay so, and are measured here and now, beside ticks that
        run meanwhile: best while none do.

        Args:
            milliseconds: for a tick; None ends the budget and leaves the plan as it is.
            candidates: presets, the mildest first.
            runs: ticks to measure each with.

        Raises:
            InputError: the budget or a preset cannot be used; nothing changes.
        """
        if milliseconds is None:
            self._plans.end_budget()
            return None
        return self._plans.set_budget(milliseconds, candidates, runs)

    def reset(self) -> None:
        """Starts a new episode.

        The choice of visual tokens forgets the ticks before, and channels are chosen again from
        the next one; what is known of them stays.
        """
        self._plans.restart()

    def settle(self, timeout_s: float = 10.0) -> bool:
        """Waits until no choice of channels is under way: what a gap between ticks is for.

        Returns:
            False when that took longer than `timeout_s` seconds.
        """
        return self.policy.channels.settle(timeout_s)

    def warm_up(self, runs: int = 3) -> None:
        """Runs the whole path on a grey image, so that the first real tick is not the slowest."""
        self._warm(self.policy, runs)
        self.reset()

    def infer(self, observation: Observation) -> tuple[ActionChunk, TickReport]:
        """Plans from one observation.

        A model whose output is not finite is not hidden here: `control` refuses such a chunk
        and holds the arm.

        Raises:
            InputError: the instruction or an image cannot be used.
        """
        prompt = self.prompt(observation.instruction)
        image = camera_image(observation, self.config)
        policy = self._begin(observation.instruction)
        watch = Stopwatch(self.device, self.timeline)
        actions = self._run(policy, image, prompt, watch)
        self._sequence += 1
        chunk = ActionChunk(
            actions,
            self.step_duration,
            observation.stamp_ns,
            observation.instruction,
            self._sequence,
        )
        notes = self._plans.follow(policy, sum(watch.seconds.values()))
        if self.timeline is not None:
            draw_tick(self.timeline, policy.channels.report)
        return chunk, tick_report(policy, self.config, watch, self.report_tokens, notes)

    def _await_preparation(self) -> None:
        # What was made on this thread's stream is there before ticks read it on theirs.
        if self._stream is not None:
            torch.cuda.current_stream(self.device).synchronize()

    def _warm(self, policy: Policy, runs: int) -> list[float]:
        # Returns the durations, seconds.
        grey = np.full((self.image_size, self.image_size, 3), 127, dtype=np.uint8)
        self._await_preparation()
        with policy.channels.rehearsal():
            return [self._timed(policy, grey) for _ in range(runs)]

    def _timed(self, policy: Policy, image: np.ndarray) -> float:
        watch = Stopwatch(self.device)
        self._run(policy, image, self.prompt.shortest(), watch)
        return sum(watch.seconds.values())

    def _begin(self, instruction: str) -> Policy:
        policy, fresh = self._plans.begin()
        if fresh:
            policy.reset()
        elif instruction != self._instruction:
            policy.change_instruction()
        self._instruction = instruction
        return policy

    @torch.inference_mode()
    def _run(
        self, policy: Policy, image: np.ndarray, prompt: Prompt, watch: Stopwatch
    ) -> np.ndarray:
        # image uint8 [H, W, 3] -> float64 [horizon, action_dim]
        with nullcontext() if self._stream is None else torch.cuda.stream(self._stream):
            pixels = to_input(image, self.image_size).to(self.device)
            watch.lap('preprocess')
            normalised = policy.run(pixels, prompt, watch)
        actions = self.statistics.unnormalise(normalised, policy.binarise_gripper)
        watch.lap('postprocess')
        return actions
