"""Noise schedule and deterministic sampling of the action head."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache, partial

import numpy as np
import torch
from torch import Tensor

from efficientvla_ros.models.dit import DiT, Stack


class ScheduleError(ValueError):
    """A number of sampling steps that the schedule does not allow."""


@lru_cache(maxsize=4)
def alphas_cumprod(num_steps: int = 100) -> np.ndarray:
    """Cumulative signal power of the squared-cosine schedule (Nichol & Dhariwal 2021, eq. 17).

    Returns:
        float64 [num_steps].
    """

    def power(u: float) -> float:
        return math.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2

    betas = [
        min(1 - power((i + 1) / num_steps) / power(i / num_steps), 0.999) for i in range(num_steps)
    ]
    return np.cumprod(1.0 - np.array(betas))


@lru_cache(maxsize=32)
def ddim_timesteps(steps: int, num_steps: int = 100) -> tuple[int, ...]:
    """Times that a sampler of `steps` steps visits, latest first.

    The smallest integer stride whose range over the schedule has `steps` entries; a single
    step is the middle of the schedule, as in the reference implementation.

    Raises:
        ScheduleError: no integer stride gives that many steps; the message lists those that do.
    """
    if steps == 1:
        return (num_steps // 2,)
    for stride in range(1, num_steps):
        if len(range(0, num_steps, stride)) == steps:
            return tuple(reversed(range(0, num_steps, stride)))
    valid = sorted({len(range(0, num_steps, stride)) for stride in range(1, num_steps)} | {1})
    raise ScheduleError(
        f'{steps} DDIM steps do not divide the schedule of {num_steps}; '
        f'expected one of {", ".join(map(str, valid))}'
    )


@lru_cache(maxsize=32)
def ddim_coefficients(steps: int, num_steps: int = 100) -> tuple[tuple[float, float], ...]:
    """Pairs (A, B) of the update x <- A x + B noise, latest time first (DDIM, eta = 0).

    From Song et al. 2021, eq. 12: x0 = (x - sqrt(1-a) e) / sqrt(a) and
    x' = sqrt(a') x0 + sqrt(1-a') e, with a' = 1 after the last step.
    """
    alphas = alphas_cumprod(num_steps)
    times = ddim_timesteps(steps, num_steps)
    here = [float(alphas[t]) for t in times]
    after = here[1:] + [1.0]
    return tuple(
        (math.sqrt(b / a), math.sqrt(1 - b) - math.sqrt(b / a) * math.sqrt(1 - a))
        for a, b in zip(here, after)
    )


def add_noise(actions: Tensor, noise: Tensor, t: Tensor, num_steps: int = 100) -> Tensor:
    """Noisy actions at times t [N]; all other shapes [N, horizon, dim]."""
    table = torch.as_tensor(alphas_cumprod(num_steps), dtype=actions.dtype, device=t.device)
    a = table[t].view(-1, 1, 1)
    return a.sqrt() * actions + (1 - a).sqrt() * noise


def noise_between(actions: Tensor, noisy: Tensor, t: int, num_steps: int = 100) -> Tensor:
    """Noise with which `add_noise` makes `noisy` of the actions at time t, of one shape."""
    a = float(alphas_cumprod(num_steps)[t])
    return (noisy - math.sqrt(a) * actions) / math.sqrt(1 - a)


def guided(
    head: Callable[[Tensor, Tensor], Tensor], x: Tensor, condition: Tensor, guidance: float
) -> Tensor:
    """Noise with classifier-free guidance (Ho & Salimans 2022).

    Args:
        head: maps (x [2B, H, A], condition tokens [2B, D]) to noise [2B, H, A].
        x: noisy actions [B, H, A]; both halves get the same.
        condition: tokens [2B, D]: conditional ones first, then unconditional ones.
        guidance: scale s of e_u + s (e_c - e_u).

    Returns:
        Guided noise [B, H, A].
    """
    conditional, unconditional = head(x.repeat(2, 1, 1), condition).chunk(2)
    return unconditional + guidance * (conditional - unconditional)


class DiffusionSampler:
    """Draws action chunks; whatever does not depend on the observation is computed once.

    Constants: the time tokens of all steps, and with guidance their sums with the unconditional
    token. They are those of the head's weights at construction.
    """

    @torch.no_grad()
    def __init__(self, head: DiT, *, steps: int, guidance: float, num_steps: int = 100) -> None:
        """Computes the constants on the head's device.

        Args:
            head: the noise predictor.
            steps: DDIM steps.
            guidance: classifier-free guidance scale; active only above 1.
            num_steps: length of the training schedule.

        Raises:
            ScheduleError: the schedule has no such number of steps.
        """
        weight = head.positional_embedding
        times = torch.tensor(ddim_timesteps(steps, num_steps), device=weight.device)
        self.steps, self.guidance = steps, guidance
        self._head, self._dtype = head, weight.dtype
        self._coefficients = ddim_coefficients(steps, num_steps)
        self._times = head.t_embedder(times).unsqueeze(1)  # [steps, 1, D]
        self._free: Tensor | None = None
        if guidance > 1.0:
            self._free = self._times + head.z_embedder(head.z_embedder.uncondition)

    def __call__(self, cognition: Tensor, noise: Tensor, stack: Stack | None = None) -> Tensor:
        """Draws one chunk for each cognition feature.

        Args:
            cognition: features [B, condition_width]; cast to the head's type.
            noise: initial noise [B, horizon, action_dim] of the head's type.
            stack: called once a step, in order, in the place of the head's blocks; with
                guidance its tokens are the conditional half, then the unconditional one.

        Returns:
            Normalised actions [B, horizon, action_dim], not clipped.
        """
        batch = len(cognition)
        condition = self._times + self._head.z_embedder(cognition.to(self._dtype))
        if self._free is not None:
            condition = torch.cat((condition, self._free.expand(-1, batch, -1)), dim=1)
        head = partial(self._head.denoise, stack=stack)
        x = noise
        for tokens, (a, b) in zip(condition, self._coefficients):  # tokens [B or 2B, D]
            if self._free is None:
                predicted = head(x, tokens)
            else:
                predicted = guided(head, x, tokens, self.guidance)
            x = a * x + b * predicted
        return x
