"""From pixels and prompt to normalised actions: one class for each kind of policy."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from functools import partial
from typing import Protocol

import numpy as np
from torch import Tensor, nn

from efficientvla_ros.acceleration.feature_cache import ResidualCache
from efficientvla_ros.acceleration.plan import ExecutionPlan
from efficientvla_ros.acceleration.token_selection import Selection
from efficientvla_ros.models.cogact import CogACT
from efficientvla_ros.models.diffusion import DiffusionSampler
from efficientvla_ros.models.kv_cache import KVCache
from efficientvla_ros.models.openvla import OpenVLA, action_values
from efficientvla_ros.runtime.adaptive_channels import AdaptiveChannels
from efficientvla_ros.runtime.channel_resources import ChannelResources
from efficientvla_ros.runtime.channel_ticks import Channels, FixedChannels
from efficientvla_ros.runtime.decoder import PlannedDecoder
from efficientvla_ros.runtime.pattern_keeper import Layers, Replay, TickInputs
from efficientvla_ros.runtime.prompts import Prompt
from efficientvla_ros.runtime.stopwatch import Stopwatch

_PROMPT_STEP = 64


class Policy(Protocol):
    """What the engine needs to know of a policy that is prepared for one plan.

    Attributes:
        plan: what a tick runs.
        horizon: actions in a chunk.
        binarise_gripper: whether the gripper's value is a threshold decision.
        full_steps_run: sampling steps of the last tick that ran the whole head.
    """

    plan: ExecutionPlan
    horizon: int
    binarise_gripper: bool
    full_steps_run: int

    @property
    def selection(self) -> Selection | None:
        """Visual tokens kept at the last tick, on the device; None where all are."""

    @property
    def channels(self) -> Channels:
        """What decides which channels a tick runs."""

    def run(self, pixels: Tensor, prompt: Prompt, watch: Stopwatch) -> np.ndarray:
        """Plans from one image.

        Args:
            pixels: float32 [1, 3, S, S] in [0, 1], on the model's device.
            prompt: the instruction.
            watch: takes the stages `vision`, `language` and `action_head`.

        Returns:
            Normalised actions, float64 [horizon, action_dim].
        """

    def reset(self) -> None:
        """Forgets earlier ticks."""

    def change_instruction(self) -> None:
        """Forgets of earlier ticks what another instruction makes void."""


class DiffusionPolicy:
    """CogACT: one pass of the language model, then sampling with the diffusion head."""

    binarise_gripper = True

    def __init__(
        self,
        model: CogACT,
        plan: ExecutionPlan,
        decoder: PlannedDecoder,
        sampler: DiffusionSampler,
        noise: Tensor,
        resources: ChannelResources,
    ) -> None:
        """Takes the parts; `noise` is float32 [1, horizon, action_dim], the same every tick."""
        self.plan, self.horizon = plan, noise.shape[1]
        self._model, self._decoder = model, decoder
        self._sampler, self._noise = sampler, noise
        self._cache = self._new_cache()
        self.full_steps_run = len(plan.full_steps)
        self.channels = channels_for(self, resources, decoder)

    @property
    def selection(self) -> Selection | None:
        """As `Policy.selection`."""
        return self._decoder.selection

    def run(self, pixels: Tensor, prompt: Prompt, watch: Stopwatch) -> np.ndarray:
        """As `Policy.run`; `language` is the cognition feature, `action_head` the sampling."""
        model = self._model
        with self.channels.tick() as tick:
            features = model.vision_backbone(pixels)
            visual = model.projector(features)
            watch.lap('vision')
            embedded = model.input_embeddings(visual, prompt.ids)
            layers = tick.layers(features)
            cognition = self._decoder.prompt(embedded, prompt, layers=layers)[:, -1]
            watch.lap('language')
            tick.has_read(TickInputs(visual, prompt, _kept(self._decoder)))
            sample = self._sample(cognition, self._cache)
            watch.lap('action_head')
            tick.finish(sample)
        if self._cache is not None:
            self.full_steps_run = self._cache.full_steps_run
        return sample

    def reset(self) -> None:
        """As `Policy.reset`."""
        self._decoder.reset()
        self.channels.reset()

    def change_instruction(self) -> None:
        """As `Policy.change_instruction`."""
        self._decoder.reset()
        self.channels.change_instruction()

    def replay(self, inputs: TickInputs, layers: Layers) -> np.ndarray:
        """As `pattern_keeper.Replay`; may run beside a tick."""
        embedded = self._model.input_embeddings(inputs.visual, inputs.prompt.ids)
        hidden = self._decoder.prompt(
            embedded, inputs.prompt, layers=layers(True), kept=inputs.kept
        )
        return self._sample(hidden[:, -1], self._new_cache())

    def _sample(self, cognition: Tensor, cache: ResidualCache | None) -> np.ndarray:
        if cache is not None:
            cache.begin()
        sample = self._sampler(cognition, self._noise, cache)[0].cpu().numpy()
        return sample.astype(np.float64)

    def _new_cache(self) -> ResidualCache | None:
        plan = self.plan
        if not plan.caches:
            return None
        blocks = self._model.action_model.net.run_blocks
        return ResidualCache(blocks, plan.full_steps, plan.config.cache_threshold)


class TokenPolicy:
    """OpenVLA: the language model reads the prompt, then writes one action token by token."""

    binarise_gripper = False
    horizon = 1
    full_steps_run = 0

    def __init__(
        self,
        model: OpenVLA,
        plan: ExecutionPlan,
        decoder: PlannedDecoder,
        resources: ChannelResources,
    ) -> None:
        """Allocates the cache of keys and values for usual prompts."""
        self.plan = plan
        self._model, self._decoder = model, decoder
        self._cache = model.new_cache(_PROMPT_STEP)
        self.channels = channels_for(self, resources, decoder)

    @property
    def selection(self) -> Selection | None:
        """As `Policy.selection`."""
        return self._decoder.selection

    def run(self, pixels: Tensor, prompt: Prompt, watch: Stopwatch) -> np.ndarray:
        """As `Policy.run`; `language` is the prompt's pass, `action_head` the decoding steps."""
        cache, model = self._cache_for(prompt.ids.shape[1]), self._model
        with self.channels.tick() as tick:
            features = model.vision_backbone(pixels)
            visual = model.projector(features)
            watch.lap('vision')
            read = partial(self._read, prompt, tick.layers(features), None)
            first = model.prefill(visual, prompt.ids, cache, read)
            watch.lap('language')
            step = partial(self._decoder.step, layers=tick.step_layers)
            tokens = model.decode(first, cache, step).cpu().numpy()
            tick.has_read(TickInputs(visual, prompt, _kept(self._decoder)))
            watch.lap('action_head')
            actions = action_values(tokens, model.config)
            tick.finish(actions)
        return actions

    def reset(self) -> None:
        """As `Policy.reset`."""
        self._decoder.reset()
        self.channels.reset()

    def change_instruction(self) -> None:
        """As `Policy.change_instruction`."""
        self._decoder.reset()
        self.channels.change_instruction()

    def replay(self, inputs: TickInputs, layers: Layers) -> np.ndarray:
        """As `pattern_keeper.Replay`; may run beside a tick."""
        model, ids = self._model, inputs.prompt.ids
        cache = model.new_cache(ids.shape[1])
        read = partial(self._read, inputs.prompt, layers(True), inputs.kept)
        first = model.prefill(inputs.visual, ids, cache, read)

        def step(x: Tensor, cache: KVCache) -> Tensor:
            return self._decoder.step(x, cache, layers(False))

        return action_values(model.decode(first, cache, step).cpu().numpy(), model.config)

    def _read(
        self,
        prompt: Prompt,
        layers: Iterable[nn.Module] | None,
        kept: Tensor | None,
        x: Tensor,
        cache: KVCache,
    ) -> Tensor:
        return self._decoder.prompt(x, prompt, cache, layers, kept)

    def _cache_for(self, prompt_length: int) -> KVCache:
        # Grows in steps with an unusually long prompt, and never in the ticks that follow.
        needed = self._model.config.num_patches + prompt_length + decoded_positions(self._model)
        if needed > self._cache.capacity:
            rounded = -(-prompt_length // _PROMPT_STEP) * _PROMPT_STEP
            self._cache = self._model.new_cache(rounded)
        return self._cache


def channels_for(
    policy: DiffusionPolicy | TokenPolicy, resources: ChannelResources, decoder: PlannedDecoder
) -> Channels:
    """What decides which channels the ticks of a policy run."""
    plan = policy.plan
    if plan.slots is None:
        return FixedChannels()
    if not plan.config.adapts_channels:
        decoder.use(resources.static_layers(plan).layers)
        return FixedChannels(plan.config.channels_ratio)
    # The policy owns what it gets here, and is to be freed with it.
    replay = _weakly(policy)
    return AdaptiveChannels(
        resources, plan, decoder.layers, replay, binarise_gripper=policy.binarise_gripper
    )


def _weakly(policy: DiffusionPolicy | TokenPolicy) -> Replay:
    reference = weakref.ref(policy)

    def replay(inputs: TickInputs, layers: Layers) -> np.ndarray:
        return reference().replay(inputs, layers)

    return replay


def _kept(decoder: PlannedDecoder) -> Tensor | None:
    return None if decoder.selection is None else decoder.selection.kept


def decoded_positions(model: CogACT | OpenVLA) -> int:
    """Positions that the language model needs after the prompt."""
    return model.config.action_dim - 1 if isinstance(model, OpenVLA) else 0
