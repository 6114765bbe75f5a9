"""Reproducible random weights: the start of training, and benchmarks without files."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn

from efficientvla_ros.models.cogact import CogACT
from efficientvla_ros.models.llama import RMSNorm
from efficientvla_ros.models.prismatic import PrismaticVLM
from efficientvla_ros.models.vision import LayerScale

AnyPolicy = TypeVar('AnyPolicy', bound=PrismaticVLM)


@torch.no_grad()
def init_weights(model: AnyPolicy, seed: int = 0) -> AnyPolicy:
    """Fills a policy with random weights, scaled for training from scratch.

    Works in place, tensor by tensor, whatever device and type the parameters have: no more than
    one tensor exists in float32 beside them. Equal seeds give equal weights on devices of one
    type (CPU or CUDA), up to the rounding to the parameters' type. Parameters on the meta device
    stay empty and change nothing for the others.

    Args:
        model: a policy with allocated parameters.
        seed: of the random numbers.

    Returns:
        The same model.
    """
    fill = _Normal(seed)
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            fill(module.weight, module.weight[0].numel() ** -0.5)
            if module.bias is not None:
                module.bias.zero_()
        elif isinstance(module, nn.Embedding):
            fill(module.weight, 0.5)
        else:
            _identity(module)
    for tower in (model.vision_backbone.dino_featurizer, model.vision_backbone.siglip_featurizer):
        fill(tower.pos_embed, 0.3)
        if tower.prefix_tokens:
            fill(tower.cls_token, 0.3)
            fill(tower.reg_token, 0.3)
    if isinstance(model, CogACT):
        net = model.action_model.net
        fill(net.positional_embedding, 0.3)
        fill(net.z_embedder.uncondition, 0.3)
        net.final_layer.linear.weight.mul_(0.1)
    # Residual branches start small, so that a deep stack begins close to the identity.
    for layer in model.llm_backbone.llm.model.layers:
        layer.self_attn.o_proj.weight.mul_(0.3)
        layer.mlp.down_proj.weight.mul_(0.3)
    return model


class _Normal:
    """Draws from one stream of random numbers for each device."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._generators: dict[torch.device, torch.Generator] = {}
        self._last = torch.device('cpu')

    def __call__(self, parameter: Tensor, std: float) -> None:
        # What is left out is drawn as well: all else is then as in the whole model.
        device = self._last if parameter.is_meta else parameter.device
        self._last = device
        if device not in self._generators:
            self._generators[device] = torch.Generator(device).manual_seed(self._seed)
        values = torch.randn(
            parameter.shape,
            generator=self._generators[device],
            device=device,
            dtype=torch.float32,
        )
        if not parameter.is_meta:
            parameter.copy_(values.mul_(std))


def _identity(module: nn.Module) -> None:
    # Memory allocated for a model built on the meta device holds anything.
    if isinstance(module, nn.LayerNorm) and module.elementwise_affine:
        module.weight.fill_(1.0)
        module.bias.zero_()
    elif isinstance(module, RMSNorm):
        module.weight.fill_(1.0)
    elif isinstance(module, LayerScale):
        module.gamma.fill_(1.0)
