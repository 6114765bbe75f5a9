"""Small decoder layers, and what they give when channels and heads are masked out."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from efficientvla_ros.acceleration.compact_layer import CompactLayer, LayerRows
from efficientvla_ros.models.config import LlamaConfig
from efficientvla_ros.models.llama import LlamaLayer, RotaryTable

WIDTH, HEADS, CHANNELS = 64, 8, 96

DEVICES = [
    'cpu',
    pytest.param(
        'cuda',
        marks=pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA device'),
    ),
]


def config(kv_heads: int = HEADS, layers: int = 1) -> LlamaConfig:
    return LlamaConfig(
        width=WIDTH, layers=layers, heads=HEADS, kv_heads=kv_heads, mlp_width=CHANNELS
    )


def random_layer(
    kv_heads: int = HEADS,
    dtype: torch.dtype = torch.float32,
    device: str = 'cpu',
    seed: int = 0,
) -> LlamaLayer:
    """A whole layer whose attention is not uniform and whose gains are not one."""
    generator = torch.Generator().manual_seed(seed)
    layer = LlamaLayer(config(kv_heads)).requires_grad_(False)
    for weight in layer.parameters():
        noise = torch.randn(weight.shape, generator=generator)
        weight.copy_(1.0 + 0.2 * noise if weight.ndim == 1 else 0.3 * noise)
    return layer.to(device, dtype)


def random_tokens(length: int, dtype: torch.dtype = torch.float32, device: str = 'cpu') -> Tensor:
    generator = torch.Generator().manual_seed(length)
    return torch.randn(1, length, WIDTH, generator=generator).to(device, dtype)


def rope(length: int, dtype: torch.dtype = torch.float32, device: str = 'cpu', start: int = 0):
    positions = torch.arange(start, start + length)
    return tuple(part.to(device) for part in RotaryTable(config())(positions, dtype))


def choice(total: int, count: int, generator: torch.Generator) -> Tensor:
    return torch.randperm(total, generator=generator)[:count]


def compact(
    layer: LlamaLayer, channels: Tensor | None, heads: Tensor | None, rows: bool = True
) -> CompactLayer:
    device = layer.input_layernorm.weight.device
    parts = (None if part is None else part.to(device) for part in (channels, heads))
    return CompactLayer(LayerRows(layer, copy=rows), *parts)


def masked(layer: LlamaLayer, channels: Tensor | None, heads: Tensor | None) -> LlamaLayer:
    """A copy of the whole layer in which what goes has no way out; in float64."""
    layer = copy.deepcopy(layer).double()
    if channels is not None:
        gone = torch.ones(CHANNELS, dtype=torch.bool)
        gone[channels] = False
        layer.mlp.down_proj.weight[:, gone] = 0.0
    if heads is not None:
        gone = torch.ones(HEADS, dtype=torch.bool)
        gone[heads] = False
        layer.self_attn.o_proj.weight.unflatten(1, (HEADS, -1))[:, gone] = 0.0
    return layer
