"""Decoder layers that also write down the energies of their channels while they run."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from efficientvla_ros.acceleration.channel_scores import ChannelValues, EnergyBuffer
from efficientvla_ros.models.config import LlamaConfig
from efficientvla_ros.models.llama import LlamaLayer


class EnergyTaps:
    """Whole layers whose last projections tell what goes into them.

    They share their weights with the layers that they are made from, compute the same to the last
    bit, and leave those as they are: another thread may run these meanwhile. The last layer of a
    tick computes its output for the last position alone; so its energies are of that position.

    Attributes:
        layers: what to run in the place of the whole layers.
        free: whether nobody needs the values of the last pass any more.
    """

    def __init__(
        self, layers: Sequence[LlamaLayer], config: LlamaConfig, device: torch.device
    ) -> None:
        """Allocates room for one pass."""
        buffer = self._buffer = EnergyBuffer(config, len(layers), device)
        self.layers = tuple(_tapped(layer, buffer, place) for place, layer in enumerate(layers))
        self.free = True

    @property
    def values(self) -> ChannelValues:
        """Energies of the last pass, a row for each layer; the same memory always."""
        return self._buffer.values


class _Tap(nn.Module):
    """A projection that shows its input to a function."""

    def __init__(self, projection: nn.Module, show: Callable[[Tensor], None]) -> None:
        super().__init__()
        self.projection, self._show = projection, show

    def forward(self, x: Tensor) -> Tensor:
        self._show(x)
        return self.projection(x)


def _tapped(layer: LlamaLayer, buffer: EnergyBuffer, place: int) -> LlamaLayer:
    def mlp(x: Tensor) -> None:
        buffer.write_mlp(place, x)

    def attention(x: Tensor) -> None:
        buffer.write_attention(place, x)

    parts = {
        'self_attn': _with(layer.self_attn, o_proj=_Tap(layer.self_attn.o_proj, attention)),
        'mlp': _with(layer.mlp, down_proj=_Tap(layer.mlp.down_proj, mlp)),
    }
    return _with(layer, **parts)


def _with(module: nn.Module, **parts: nn.Module) -> nn.Module:
    # A module of its own that shares all parts but these.
    clone = copy.copy(module)
    clone._modules = {**module._modules, **parts}
    return clone
