"""From pixels and prompt to normalised actions: one class for each kind of policy."""

from __future__ import annotations

from functools import partial
from typing import Protocol

import numpy as np
from torch import Tensor

from efficientvla_ros.acceleration.feature_cache import ResidualCache
from efficientvla_ros.acceleration.plan import ExecutionPlan
from efficientvla_ros.acceleration.token_selection import Selection
from efficientvla_ros.models.cogact import CogACT
from efficientvla_ros.models.diffusion import DiffusionSampler
from efficientvla_ros.models.kv_cache import KVCache
from efficientvla_ros.models.openvla import OpenVLA, action_values
from efficientvla_ros.runtime.decoder import PlannedDecoder
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
    ) -> None:
        """Takes the parts; `noise` is float32 [1, horizon, action_dim], the same every tick."""
        self.plan, self.horizon = plan, noise.shape[1]
        self._model, self._decoder = model, decoder
        self._sampler, self._noise = sampler, noise
        self._cache: ResidualCache | None = None
        if plan.caches:
            blocks = model.action_model.net.run_blocks
            self._cache = ResidualCache(blocks, plan.full_steps, plan.config.cache_threshold)
        self.full_steps_run = len(plan.full_steps)

    @property
    def selection(self) -> Selection | None:
        """As `Policy.selection`."""
        return self._decoder.selection

    def run(self, pixels: Tensor, prompt: Prompt, watch: Stopwatch) -> np.ndarray:
        """As `Policy.run`; `language` is the cognition feature, `action_head` the sampling."""
        visual = self._model.visual_tokens(pixels)
        watch.lap('vision')
        embedded = self._model.input_embeddings(visual, prompt.ids)
        cognition = self._decoder.prompt(embedded, prompt)[:, -1]
        watch.lap('language')
        cache = self._cache
        if cache is not None:
            cache.begin()
        sample = self._sampler(cognition, self._noise, cache)[0].cpu().numpy()
        if cache is not None:
            self.full_steps_run = cache.full_steps_run
        watch.lap('action_head')
        return sample.astype(np.float64)

    def reset(self) -> None:
        """As `Policy.reset`."""
        self._decoder.reset()


class TokenPolicy:
    """OpenVLA: the language model reads the prompt, then writes one action token by token."""

    binarise_gripper = False
    horizon = 1
    full_steps_run = 0

    def __init__(self, model: OpenVLA, plan: ExecutionPlan, decoder: PlannedDecoder) -> None:
        """Allocates the cache of keys and values for usual prompts."""
        self.plan = plan
        self._model, self._decoder = model, decoder
        self._cache = model.new_cache(_PROMPT_STEP)

    @property
    def selection(self) -> Selection | None:
        """As `Policy.selection`."""
        return self._decoder.selection

    def run(self, pixels: Tensor, prompt: Prompt, watch: Stopwatch) -> np.ndarray:
        """As `Policy.run`; `language` is the prompt's pass, `action_head` the decoding steps."""
        cache = self._cache_for(prompt.ids.shape[1])
        visual = self._model.visual_tokens(pixels)
        watch.lap('vision')
        read = partial(self._read, prompt)
        first = self._model.prefill(visual, prompt.ids, cache, read)
        watch.lap('language')
        tokens = self._model.decode(first, cache, self._decoder.step).cpu().numpy()
        watch.lap('action_head')
        return action_values(tokens, self._model.config)

    def reset(self) -> None:
        """As `Policy.reset`."""
        self._decoder.reset()

    def _read(self, prompt: Prompt, x: Tensor, cache: KVCache) -> Tensor:
        return self._decoder.prompt(x, prompt, cache)

    def _cache_for(self, prompt_length: int) -> KVCache:
        # Grows in steps with an unusually long prompt, and never in the ticks that follow.
        needed = self._model.config.num_patches + prompt_length + decoded_positions(self._model)
        if needed > self._cache.capacity:
            rounded = -(-prompt_length // _PROMPT_STEP) * _PROMPT_STEP
            self._cache = self._model.new_cache(rounded)
        return self._cache


def decoded_positions(model: CogACT | OpenVLA) -> int:
    """Positions that the language model needs after the prompt."""
    return model.config.action_dim - 1 if isinstance(model, OpenVLA) else 0
