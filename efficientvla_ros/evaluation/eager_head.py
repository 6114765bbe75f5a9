"""CogACT's diffusion head and DDIM sampler in the form in which the original code runs them."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from efficientvla_ros.models.config import DiTConfig
from efficientvla_ros.models.diffusion import alphas_cumprod, ddim_timesteps

_TIME_WIDTH = 256


class EagerBlock(nn.Module):
    """Transformer block whose norms have no parameters."""

    def __init__(self, width: int, heads: int) -> None:
        """Creates attention over `heads` heads and an MLP four times as wide."""
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.attn = nn.ModuleDict(
            {'qkv': nn.Linear(width, 3 * width), 'proj': nn.Linear(width, width)}
        )
        self.mlp = nn.ModuleDict(
            {'fc1': nn.Linear(width, 4 * width), 'fc2': nn.Linear(4 * width, width)}
        )

    def forward(self, x: Tensor) -> Tensor:
        """Maps [N, T, D] to [N, T, D]."""
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # [N, heads, T, head_dim]
            for part in self.attn['qkv'](self.norm(x)).chunk(3, dim=-1)
        )
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = x + self.attn['proj'](mixed)
        hidden = F.gelu(self.mlp['fc1'](self.norm(x)), approximate='tanh')
        return x + self.mlp['fc2'](hidden)


class EagerDiT(nn.Module):
    """Noise predictor with the parameter names of the released files."""

    def __init__(self, config: DiTConfig, condition_width: int) -> None:
        """Creates the head for cognition features of `condition_width` channels."""
        super().__init__()
        width = config.width

        def linear(inputs: int, outputs: int) -> nn.ModuleDict:
            return nn.ModuleDict({'linear': nn.Linear(inputs, outputs)})

        self.positional_embedding = nn.Parameter(torch.empty(config.horizon + 1, width))
        self.x_embedder = linear(config.action_dim, width)
        times = nn.Sequential(nn.Linear(_TIME_WIDTH, width), nn.SiLU(), nn.Linear(width, width))
        self.t_embedder = nn.ModuleDict({'mlp': times})
        self.z_embedder = linear(condition_width, width)
        self.z_embedder.register_parameter(
            'uncondition', nn.Parameter(torch.empty(1, condition_width))
        )
        self.blocks = nn.ModuleList(EagerBlock(width, config.heads) for _ in range(config.depth))
        self.norm = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.final_layer = linear(width, config.action_dim)

    def forward(self, x: Tensor, t: Tensor, z: Tensor) -> Tensor:
        """Predicts noise [N, H, A] in actions [N, H, A] at times [N] given features [N, 1, D]."""
        condition = self._time(t).unsqueeze(1) + self.z_embedder['linear'](z)
        x = torch.cat((condition, self.x_embedder['linear'](x)), dim=1)
        x = x + self.positional_embedding
        for block in self.blocks:
            x = block(x)
        return self.final_layer['linear'](self.norm(x))[:, 1:]

    def _time(self, t: Tensor) -> Tensor:
        half = _TIME_WIDTH // 2
        index = torch.arange(half, dtype=torch.float32, device=t.device)
        angle = t.float()[:, None] * torch.exp(index * (-math.log(10000) / half))
        return self.t_embedder['mlp'](torch.cat((torch.cos(angle), torch.sin(angle)), dim=-1))


class StepwiseSampler:
    """Deterministic DDIM (Song et al. 2021, eq. 12 with eta = 0), nothing computed ahead.

    Each step copies its entries of the schedule from host to device one by one, embeds the
    time anew, runs the head on a batch of two that holds the actions twice, computes the
    posterior of ancestral sampling (Ho et al. 2020, eq. 7), which DDIM does not need, and
    draws noise that eta = 0 multiplies by zero.
    """

    def __init__(self, head: EagerDiT, *, steps: int, guidance: float, num_steps: int) -> None:
        """Prepares the tables of a schedule of `num_steps` sampled in `steps`, on the host."""
        self._head = head
        self._guidance = guidance
        self._times = list(reversed(ddim_timesteps(steps, num_steps)))
        signal = alphas_cumprod(num_steps)[self._times]
        before = np.append(1.0, signal[:-1])
        beta = 1.0 - signal / before
        variance = beta * (1.0 - before) / (1.0 - signal)
        self._tables = {
            'signal': signal,
            'signal_before': before,
            'start_from_x': np.sqrt(1.0 / signal),
            'start_from_noise': np.sqrt(1.0 / signal - 1.0),
            'mean_from_start': beta * np.sqrt(before) / (1.0 - signal),
            'mean_from_x': (1.0 - before) * np.sqrt(1.0 - beta) / (1.0 - signal),
            'variance': variance,
            'log_variance': np.log(np.maximum(variance, 1e-20)),
        }

    def sample(self, cognition: Tensor, noise: Tensor) -> Tensor:
        """Draws normalised actions [1, H, A] from noise [1, H, A] and a feature [1, D]."""
        x, z = noise, cognition.unsqueeze(1)
        if self._guidance > 1.0:
            x = torch.cat((noise, noise))
            z = torch.cat((z, self._head.z_embedder.uncondition.unsqueeze(0)))
        for index in reversed(range(len(self._times))):
            x = self._step(x, index, z)
        return x[: len(noise)]

    def _step(self, x: Tensor, index: int, z: Tensor) -> Tensor:
        t = torch.tensor([index] * len(x), device=x.device)
        predicted = self._predict(x, t, z)
        start = self._entry('start_from_x', t, x) * x
        start = start - self._entry('start_from_noise', t, x) * predicted
        self._posterior(x, t, start)
        # The noise that belongs to the estimate of the start, as the sampler derives it.
        predicted = self._entry('start_from_x', t, x) * x - start
        predicted = predicted / self._entry('start_from_noise', t, x)
        signal, before = self._entry('signal', t, x), self._entry('signal_before', t, x)
        sigma = 0.0 * torch.sqrt((1 - before) / (1 - signal)) * torch.sqrt(1 - signal / before)
        fresh = torch.randn_like(x)
        mean = start * torch.sqrt(before) + torch.sqrt(1 - before - sigma**2) * predicted
        later = (t != 0).float().view(-1, 1, 1)
        return mean + later * sigma * fresh

    def _predict(self, x: Tensor, t: Tensor, z: Tensor) -> Tensor:
        times = torch.tensor(self._times, device=t.device)[t]
        if self._guidance <= 1.0:
            return self._head(x, times, z)
        half = x[: len(x) // 2]
        conditional, unconditional = self._head(torch.cat((half, half)), times, z).chunk(2)
        guided = unconditional + self._guidance * (conditional - unconditional)
        return torch.cat((guided, guided))

    def _posterior(self, x: Tensor, t: Tensor, start: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean = self._entry('mean_from_start', t, x) * start
        mean = mean + self._entry('mean_from_x', t, x) * x
        return mean, self._entry('variance', t, x), self._entry('log_variance', t, x)

    def _entry(self, table: str, t: Tensor, like: Tensor) -> Tensor:
        values = torch.from_numpy(self._tables[table]).to(t.device)[t].float()
        return values.view(-1, 1, 1).expand(like.shape)
