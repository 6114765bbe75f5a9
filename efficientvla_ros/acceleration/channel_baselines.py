"""Choices of channels to compare with, which never change: structured Wanda and random."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from efficientvla_ros.acceleration.channel_patterns import ChannelCounts, ChannelPattern, choose
from efficientvla_ros.acceleration.channel_scores import ChannelValues, initial_energies
from efficientvla_ros.acceleration.profile import CalibrationProfile
from efficientvla_ros.models.config import LlamaConfig
from efficientvla_ros.models.llama import LlamaModel


@torch.no_grad()
def wanda_scores(
    decoder: LlamaModel, profile: CalibrationProfile, layers: Sequence[int]
) -> ChannelValues:
    """Wanda by channel: mean over outputs of |W[:, k]| * sqrt(mean x_k^2).

    The score of a weight (Wanda, arXiv 2306.11695), averaged over the outputs that a channel
    feeds.

    Args:
        decoder: the stack.
        profile: of its model.
        layers: which layers.

    Returns:
        Values on the decoder's device.
    """
    energies = initial_energies(profile, layers, decoder.norm.weight.device)
    chosen = [decoder.layers[index] for index in layers]
    mlp = torch.stack([_mean_size(layer.mlp.down_proj.weight) for layer in chosen])
    attention = torch.stack([_mean_size(layer.self_attn.o_proj.weight) for layer in chosen])
    return ChannelValues(mlp * energies.mlp.sqrt(), attention * energies.attention.sqrt())


def wanda_pattern(scores: ChannelValues, counts: ChannelCounts, heads: int) -> ChannelPattern:
    """Keeps the channels, and the heads whose channels sum up, highest in `wanda_scores`."""
    summed = scores.attention.unflatten(-1, (heads, -1)).sum(-1)
    return choose(scores.mlp, summed, counts)


def random_pattern(
    config: LlamaConfig,
    layers: int,
    counts: ChannelCounts,
    seed: int,
    device: torch.device | str = 'cpu',
) -> ChannelPattern:
    """Draws channels and heads of so many layers; the same ones for a seed on every device."""
    generator = torch.Generator().manual_seed(seed)
    mlp = torch.rand(layers, config.mlp_width, generator=generator)
    heads = torch.rand(layers, config.heads, generator=generator)
    pattern = choose(mlp, heads, counts)
    return ChannelPattern(pattern.mlp.to(device), pattern.heads.to(device))


def _mean_size(weight: Tensor) -> Tensor:
    # [outputs, C] -> [C]
    return weight.float().abs().mean(0)
