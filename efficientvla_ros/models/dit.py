"""Diffusion action head of CogACT: a transformer that predicts the noise in a chunk."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from efficientvla_ros.models.config import DiTConfig
from efficientvla_ros.models.vision import Attention, Mlp

_NORM_EPS = 1e-6
_FREQUENCIES = 128

Stack = Callable[[Tensor], Tensor]
"""Maps embedded tokens [N, 1 + horizon, width] to those that the final layer reads."""


class LinearEmbedder(nn.Module):
    """One linear map under the published name `linear`."""

    def __init__(self, inputs: int, width: int) -> None:
        """Creates the map."""
        super().__init__()
        self.linear = nn.Linear(inputs, width)

    def forward(self, x: Tensor) -> Tensor:
        """Maps [..., inputs] to [..., width]."""
        return self.linear(x)


class ConditionEmbedder(LinearEmbedder):
    """Cognition feature to the head's width, with the learned unconditional feature."""

    def __init__(self, inputs: int, width: int) -> None:
        """Creates the map and the unconditional feature."""
        super().__init__(inputs, width)
        self.uncondition = nn.Parameter(torch.empty(1, inputs))


class TimestepEmbedder(nn.Module):
    """Diffusion time to a token: sinusoids, then two linear maps with SiLU."""

    def __init__(self, width: int) -> None:
        """Creates the maps."""
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(2 * _FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width)
        )

    def forward(self, t: Tensor) -> Tensor:
        """Maps times [N] to [N, width]."""
        k = torch.arange(_FREQUENCIES, device=t.device, dtype=torch.float32)
        angle = t[:, None].float() * torch.exp(-math.log(10000.0) * k / _FREQUENCIES)
        wave = torch.cat((angle.cos(), angle.sin()), dim=-1)
        return self.mlp(wave.to(self.mlp[0].weight.dtype))


class DiTBlock(nn.Module):
    """Pre-norm block; norms have no parameters and conditioning is only a token."""

    def __init__(self, width: int, heads: int) -> None:
        """Creates attention and MLP."""
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=_NORM_EPS, elementwise_affine=False)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=_NORM_EPS, elementwise_affine=False)
        self.mlp = Mlp(width, 4 * width, approximate='tanh')

    def forward(self, x: Tensor) -> Tensor:
        """Maps [N, 1 + horizon, D] to the same shape."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class FinalLayer(nn.Module):
    """Parameter-free norm and a linear map to the action dimension."""

    def __init__(self, width: int, outputs: int) -> None:
        """Creates the map."""
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=_NORM_EPS, elementwise_affine=False)
        self.linear = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Maps [..., D] to [..., outputs]."""
        return self.linear(self.norm(x))


class DiT(nn.Module):
    """Noise predictor over one condition token and the actions of a chunk."""

    def __init__(self, config: DiTConfig, condition_width: int) -> None:
        """Creates the head for cognition features of `condition_width` channels."""
        super().__init__()
        width = config.width
        self.positional_embedding = nn.Parameter(torch.empty(config.horizon + 1, width))
        self.x_embedder = LinearEmbedder(config.action_dim, width)
        self.t_embedder = TimestepEmbedder(width)
        self.z_embedder = ConditionEmbedder(condition_width, width)
        self.blocks = nn.ModuleList(DiTBlock(width, config.heads) for _ in range(config.depth))
        self.final_layer = FinalLayer(width, config.action_dim)

    def forward(self, x: Tensor, t: Tensor, z: Tensor, stack: Stack | None = None) -> Tensor:
        """Predicts the noise.

        Args:
            x: noisy actions [N, horizon, action_dim].
            t: diffusion times on the training schedule [N].
            z: cognition features [N, condition_width].
            stack: runs in the place of `run_blocks`.

        Returns:
            Predicted noise [N, horizon, action_dim].
        """
        return self.denoise(x, self.t_embedder(t) + self.z_embedder(z), stack)

    def denoise(self, x: Tensor, condition: Tensor, stack: Stack | None = None) -> Tensor:
        """The same with the condition token [N, width] already embedded.

        Args:
            x: noisy actions [N, horizon, action_dim].
            condition: sum of the embedded time and cognition feature [N, width].
            stack: runs in the place of `run_blocks`.

        Returns:
            Predicted noise [N, horizon, action_dim].
        """
        tokens = torch.cat((condition.unsqueeze(1), self.x_embedder(x)), dim=1)
        tokens = tokens + self.positional_embedding
        tokens = self.run_blocks(tokens) if stack is None else stack(tokens)
        return self.final_layer(tokens)[:, 1:]

    def run_blocks(self, tokens: Tensor) -> Tensor:
        """All blocks on embedded tokens [N, 1 + horizon, width]."""
        for block in self.blocks:
            tokens = block(tokens)
        return tokens


class ActionModel(nn.Module):
    """Holder that gives the head its published name `net`."""

    def __init__(self, config: DiTConfig, condition_width: int) -> None:
        """Creates the head."""
        super().__init__()
        self.net = DiT(config, condition_width)
