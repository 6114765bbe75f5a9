"""Policies prepared for plans; those of recent plans are kept."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import torch

from efficientvla_ros.acceleration.config import AccelerationConfig, AccelerationError
from efficientvla_ros.acceleration.plan import NO_PROFILE, ExecutionPlan, build_plan
from efficientvla_ros.acceleration.presets import preset
from efficientvla_ros.acceleration.profile import CalibrationProfile, ProfileError
from efficientvla_ros.models.cogact import CogACT
from efficientvla_ros.models.config import VLMConfig
from efficientvla_ros.models.openvla import OpenVLA
from efficientvla_ros.models.statistics import ActionStatistics
from efficientvla_ros.runtime.channel_resources import ChannelResources
from efficientvla_ros.runtime.decoder import NarrowLayers, PlannedDecoder
from efficientvla_ros.runtime.policies import DiffusionPolicy, Policy, TokenPolicy
from efficientvla_ros.types import InputError

_KEPT = 4

Acceleration = AccelerationConfig | str | Callable[[VLMConfig], AccelerationConfig]
"""Settings, the name of a preset, or a function that makes settings from a model's sizes."""


def settings_for(acceleration: Acceleration, model: VLMConfig) -> AccelerationConfig:
    """The settings meant for one model; raises AccelerationError for an unknown preset."""
    if isinstance(acceleration, str):
        return preset(acceleration, model)
    return acceleration(model) if callable(acceleration) else acceleration


class Runners:
    """Makes policies from settings.

    Nothing that one of them changes while it runs is shared with another, so that one can be
    made while another is running.

    Attributes:
        sampler: constants of the diffusion head; None without one.
        noise: what sampling starts from, float32 [1, horizon, action_dim]; None likewise.
        profile: what calibration has measured of the model.
        resources: what policies with fewer channels share.
        keep: policies that stay prepared, the newest ones.
    """

    def __init__(
        self,
        model: CogACT | OpenVLA,
        *,
        num_ddim_steps: int | None = None,
        guidance: float | None = None,
        seed: int = 0,
        profile: CalibrationProfile | None = None,
        no_profile: str = NO_PROFILE,
        only_kept: bool = False,
        statistics: ActionStatistics | None = None,
    ) -> None:
        """Draws the noise and computes the sampler's constants.

        Args:
            model: the networks.
            num_ddim_steps: sampling steps; None takes the model's.
            guidance: classifier-free guidance scale; None takes the model's.
            seed: of the noise and of random token selection.
            profile: what calibration has measured of the model.
            no_profile: why there is none, for the plans' notes.
            only_kept: let go of whole MLPs once they have been cut.
            statistics: of the actions, for audits; None is the identity.

        Raises:
            InputError: an option of the diffusion head is given for a model without one, or the
                profile is of another model.
        """
        self._model, self._seed = model, seed
        self.sampler, self.noise = None, None
        if isinstance(model, CogACT):
            head = model.config.head
            self.sampler = model.sampler(steps=num_ddim_steps, guidance=guidance)
            # The same noise every tick: the plan then changes only because the scene does.
            noise = torch.randn(
                (1, head.horizon, head.action_dim),
                generator=torch.Generator().manual_seed(seed),
                dtype=torch.float32,
            )
            device = model.action_model.net.positional_embedding.device
            self.noise = (head.temperature * noise).to(device)
        else:
            refuse_diffusion_options(model.config.name, num_ddim_steps, guidance)
        self._no_profile, self._only_kept = no_profile, only_kept
        if statistics is None:
            statistics = ActionStatistics.identity(model.config.action_dim)
        self.resources = ChannelResources(model, profile, statistics, seed)
        self.keep = _KEPT
        self._kept: OrderedDict[AccelerationConfig, Policy] = OrderedDict()
        self.set_profile(profile)

    @property
    def steps(self) -> int:
        """Sampling steps; 0 without a diffusion head."""
        return 0 if self.sampler is None else self.sampler.steps

    def set_profile(self, profile: CalibrationProfile | None) -> None:
        """Replaces the profile and drops what was made from the one before.

        Raises:
            InputError: the profile is of another model, or parts that the one before left out
                are gone.
        """
        if self._only_kept and self._kept:
            raise InputError(
                'another profile needs parts that were left out when the model was loaded, '
                'expected a model loaded in full'
            )
        if profile is not None:
            try:
                profile.check_model(self._model)
            except ProfileError as error:
                raise InputError(str(error)) from error
        self.profile = profile
        self.resources.set_profile(profile)
        self._kept.clear()
        self._narrow = NarrowLayers(self._model.llm_backbone.llm.model, profile, self._only_kept)

    def plan(self, acceleration: Acceleration) -> ExecutionPlan:
        """The plan of some settings.

        Raises:
            InputError: a preset is unknown, the settings do not fit the model, or they need
                layers that were not loaded.
        """
        config = self._model.config
        try:
            plan = build_plan(
                config,
                settings_for(acceleration, config),
                self.profile,
                steps=self.steps,
                no_profile=self._no_profile,
            )
        except AccelerationError as error:
            raise InputError(str(error)) from error
        width = None if plan.channels is None else len(plan.channels[0])
        absent = [index for index in plan.layers if not self._narrow.has(index, width)]
        if absent:
            raise InputError(
                f'the plan ({plan}) runs parts of decoder layers '
                f'{", ".join(map(str, absent))} that were left out when the model was loaded, '
                'expected a model loaded in full'
            )
        return plan

    def get(self, acceleration: Acceleration) -> tuple[Policy, bool]:
        """The policy of some settings, and whether it had to be made; raises as `plan`."""
        plan = self.plan(acceleration)
        policy = self._kept.get(plan.config)
        is_new = policy is None or policy.channels.dead
        if is_new:
            policy = self._kept[plan.config] = self._make(plan)
        self._kept.move_to_end(plan.config)
        while len(self._kept) > self.keep:
            self._kept.popitem(last=False)
        return policy, is_new

    def make(self, acceleration: Acceleration) -> Policy:
        """A policy of its own of some settings, which is not kept; raises as `plan`."""
        return self._make(self.plan(acceleration))

    def forget(self, plan: ExecutionPlan) -> None:
        """Drops what was prepared for a plan."""
        self._kept.pop(plan.config, None)

    def _make(self, plan: ExecutionPlan) -> Policy:
        decoder = PlannedDecoder(self._model, plan, self._narrow, self._seed)
        if isinstance(self._model, CogACT):
            parts = (self._model, plan, decoder, self.sampler, self.noise)
            return DiffusionPolicy(*parts, self.resources)
        return TokenPolicy(self._model, plan, decoder, self.resources)


def refuse_diffusion_options(
    name: str, num_ddim_steps: int | None, guidance: float | None
) -> None:
    """Raises InputError if an option is given that only a diffusion head has."""
    for option, value in (('DDIM steps', num_ddim_steps), ('guidance', guidance)):
        if value is not None:
            raise InputError(
                f'model {name} has no diffusion head, so {option} cannot be set, got {value}'
            )
