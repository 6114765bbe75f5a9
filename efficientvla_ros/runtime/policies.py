"""From pixels and prompt to normalised actions: one class for each kind of policy."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from efficientvla_ros.models.cogact import CogACT
from efficientvla_ros.models.kv_cache import KVCache
from efficientvla_ros.models.openvla import OpenVLA, action_values
from efficientvla_ros.models.prismatic import PrismaticVLM
from efficientvla_ros.runtime.stopwatch import Stopwatch
from efficientvla_ros.types import InputError

_PROMPT_STEP = 64


class Policy(Protocol):
    """What the engine needs to know of a policy.

    Attributes:
        horizon: actions in a chunk.
        binarise_gripper: whether the gripper's value is a threshold decision.
        decoded_positions: positions that the language model needs after the prompt.
        num_ddim_steps: sampling steps; 0 without a diffusion head.
        guidance: classifier-free guidance scale; None without a diffusion head.
        noise: initial noise float32 [1, horizon, action_dim]; None without a diffusion head.
    """

    horizon: int
    binarise_gripper: bool
    decoded_positions: int
    num_ddim_steps: int
    guidance: float | None
    noise: Tensor | None

    def run(self, pixels: Tensor, ids: Tensor, watch: Stopwatch) -> np.ndarray:
        """Plans from one image.

        Args:
            pixels: float32 [1, 3, S, S] in [0, 1], on the model's device.
            ids: prompt [1, T], on the model's device.
            watch: takes the stages `vision`, `language` and `action_head`.

        Returns:
            Normalised actions, float64 [horizon, action_dim].
        """


class DiffusionPolicy:
    """CogACT: one pass of the language model, then sampling with the diffusion head."""

    binarise_gripper = True
    decoded_positions = 0

    def __init__(
        self,
        model: CogACT,
        *,
        num_ddim_steps: int | None = None,
        guidance: float | None = None,
        seed: int = 0,
    ) -> None:
        """Draws the noise and computes the sampler's constants; None takes the model's value."""
        head = model.config.head
        self._model = model
        self._sampler = model.sampler(steps=num_ddim_steps, guidance=guidance)
        self.horizon = head.horizon
        self.num_ddim_steps = self._sampler.steps
        self.guidance = self._sampler.guidance
        # The same noise every tick: the plan then changes only because the scene does.
        noise = torch.randn(
            (1, head.horizon, head.action_dim),
            generator=torch.Generator().manual_seed(seed),
            dtype=torch.float32,
        )
        self.noise = noise.to(model.action_model.net.positional_embedding.device)

    def run(self, pixels: Tensor, ids: Tensor, watch: Stopwatch) -> np.ndarray:
        """As `Policy.run`; `language` is the cognition feature, `action_head` the sampling."""
        visual = self._model.visual_tokens(pixels)
        watch.lap('vision')
        cognition = self._model.cognition(visual, ids)
        watch.lap('language')
        sample = self._sampler(cognition, self.noise)[0].cpu().numpy()
        watch.lap('action_head')
        return sample.astype(np.float64)


class TokenPolicy:
    """OpenVLA: the language model reads the prompt, then writes one action token by token."""

    binarise_gripper = False
    horizon = 1
    num_ddim_steps = 0
    guidance = None
    noise = None

    def __init__(self, model: OpenVLA) -> None:
        """Allocates the cache of keys and values for usual prompts."""
        self._model = model
        self.decoded_positions = model.config.action_dim - 1
        self._cache = model.new_cache(_PROMPT_STEP)

    def run(self, pixels: Tensor, ids: Tensor, watch: Stopwatch) -> np.ndarray:
        """As `Policy.run`; `language` is the prompt's pass, `action_head` the decoding steps."""
        cache = self._cache_for(ids.shape[1])
        visual = self._model.visual_tokens(pixels)
        watch.lap('vision')
        first = self._model.prefill(visual, ids, cache)
        watch.lap('language')
        tokens = self._model.decode(first, cache).cpu().numpy()
        watch.lap('action_head')
        return action_values(tokens, self._model.config)

    def _cache_for(self, prompt_length: int) -> KVCache:
        # Grows in steps with an unusually long prompt, and never in the ticks that follow.
        needed = self._model.config.num_patches + prompt_length + self.decoded_positions
        if needed > self._cache.capacity:
            rounded = -(-prompt_length // _PROMPT_STEP) * _PROMPT_STEP
            self._cache = self._model.new_cache(rounded)
        return self._cache


def make_policy(
    model: PrismaticVLM,
    *,
    num_ddim_steps: int | None = None,
    guidance: float | None = None,
    seed: int = 0,
) -> Policy:
    """Chooses the class that runs `model`; options as for `load_engine`.

    Raises:
        InputError: an option of the diffusion head is given for a model without one.
    """
    if isinstance(model, CogACT):
        return DiffusionPolicy(model, num_ddim_steps=num_ddim_steps, guidance=guidance, seed=seed)
    refuse_diffusion_options(model.config.name, num_ddim_steps, guidance)
    return TokenPolicy(model)


def refuse_diffusion_options(
    name: str, num_ddim_steps: int | None, guidance: float | None
) -> None:
    """Raises InputError if an option is given that only a diffusion head has."""
    for option, value in (('DDIM steps', num_ddim_steps), ('guidance', guidance)):
        if value is not None:
            raise InputError(
                f'model {name} has no diffusion head, so {option} cannot be set, got {value}'
            )
