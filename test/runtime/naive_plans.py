"""Small engines, and plans run the plain way: loops over layers, masked channels, no caches."""

from dataclasses import replace

import numpy as np
import torch
from small_models import small_config, tiny_openvla

from efficientvla_ros.acceleration.calibration import CalibrationSample, calibrate
from efficientvla_ros.acceleration.plan import ExecutionPlan
from efficientvla_ros.acceleration.profile import CalibrationProfile
from efficientvla_ros.models.checkpoint import Checkpoint
from efficientvla_ros.models.cogact import CogACT
from efficientvla_ros.models.openvla import OpenVLA
from efficientvla_ros.models.prismatic import PrismaticVLM
from efficientvla_ros.models.random_weights import init_weights
from efficientvla_ros.models.statistics import ActionStatistics
from efficientvla_ros.runtime.engine import Engine
from efficientvla_ros.types import Observation

LAYERS, PATCHES = 7, 16


class Words:
    """One id a word: its length."""

    vocab_size = 64

    def encode(self, text: str) -> list[int]:
        return [1, *(4 + len(word) for word in text.split())]


def deep_cogact() -> CogACT:
    config = small_config()
    config = replace(config, llm=replace(config.llm, layers=LAYERS))
    model = init_weights(CogACT(config), seed=1).eval().requires_grad_(False)
    model.action_model.net.final_layer.linear.weight.mul_(5.0)
    return model


def deep_openvla() -> OpenVLA:
    config = tiny_openvla().config
    config = replace(config, llm=replace(config.llm, layers=LAYERS))
    model = init_weights(OpenVLA(config), seed=2).eval().requires_grad_(False)
    model.llm_backbone.llm.lm_head.weight.mul_(5.0)
    return model


def engine_for(model: PrismaticVLM, **options) -> Engine:
    statistics = ActionStatistics(np.full(7, -1.0), np.full(7, 1.0), np.full(7, True))
    return Engine(Checkpoint(model, Words(), statistics, 0.25, 'somewhere'), **options)


def profile_of(model: PrismaticVLM) -> CalibrationProfile:
    rng = np.random.default_rng(0)
    samples = [
        CalibrationSample(
            rng.integers(0, 256, (56, 56, 3), dtype=np.uint8),
            torch.tensor([[1, *rng.integers(5, 20, 4), *model.config.suffix_ids]]),
        )
        for _ in range(3)
    ]
    return calibrate(model, samples, source='random')


def observation(instruction: str = 'pick the can up', seed: int = 0) -> Observation:
    image = np.random.default_rng(seed).integers(0, 255, (80, 60, 3)).astype(np.uint8)
    return Observation({'camera': image}, instruction, stamp_ns=7)


def masked_mlp(mlp, x, channels, mean):
    """The whole feed-forward network with the removed channels at their means."""
    inner = torch.nn.functional.silu(mlp.gate_proj(x)) * mlp.up_proj(x)
    if channels is not None:
        removed = torch.ones(inner.shape[-1], dtype=torch.bool)
        removed[list(channels)] = False
        inner = torch.where(removed, mean.to(inner.dtype), inner)
    return mlp.down_proj(inner)


def naive_hidden(
    model: PrismaticVLM,
    x: torch.Tensor,
    plan: ExecutionPlan,
    kept: np.ndarray | None,
    profile: CalibrationProfile | None,
) -> torch.Tensor:
    """Normalised states of a whole sequence, embeddings [1, S, D], under a plan.

    `kept` are the patches that stay. Text after the patches may include decoded tokens.
    """
    decoder = model.llm_backbone.llm.model
    positions = torch.arange(x.shape[1])
    for place, index in enumerate(plan.layers):
        layer = decoder.layers[index]
        length = len(positions)
        mask = torch.ones(length, length, dtype=torch.bool).tril()
        rope = decoder.rotary(positions, x.dtype)
        x = x + layer.self_attn(layer.input_layernorm(x), rope, mask)
        channels = None if plan.channels is None else plan.channels[place]
        mean = None if profile is None else profile.mlp_mean[index]
        x = x + masked_mlp(layer.mlp, layer.post_attention_layernorm(x), channels, mean)
        if kept is not None and index == plan.scoring_layer:
            is_kept = np.isin(np.arange(PATCHES), kept)
            stays = torch.ones(length, dtype=torch.bool)
            stays[1 : 1 + PATCHES] = torch.from_numpy(is_kept)
            x, positions = x[:, stays], positions[stays]
    return decoder.norm(x)
