"""The plain way from image to normalised actions, without any saving: what tests compare with.

Every decoder layer computes every position, the diffusion head embeds time and both conditions
anew at every step, and action tokens are decoded without a cache.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from efficientvla_ros.models.cogact import CogACT
from efficientvla_ros.models.diffusion import alphas_cumprod, ddim_timesteps
from efficientvla_ros.models.openvla import OpenVLA


def reference_cognition(model: CogACT, visual: Tensor, token_ids: Tensor) -> Tensor:
    """Cognition feature [B, llm width] of visual tokens [B, P, D] and ids [B, T]."""
    x = model.input_embeddings(visual, token_ids)
    return model.llm_backbone.llm.model(x)[:, -1]


def reference_sample(
    model: CogACT,
    cognition: Tensor,
    noise: Tensor,
    *,
    steps: int | None = None,
    guidance: float | None = None,
) -> Tensor:
    """Normalised actions [B, H, A] from features [B, llm width] and noise [B, H, A].

    DDIM without added noise (Song et al. 2021, eq. 12) by way of the predicted clean actions,
    with classifier-free guidance (Ho & Salimans 2022) above a scale of 1.
    """
    config, net = model.config.head, model.action_model.net
    steps = config.ddim_steps if steps is None else steps
    guidance = config.guidance if guidance is None else guidance
    z = cognition.to(net.positional_embedding.dtype)
    free = net.z_embedder.uncondition.expand_as(z)
    alphas = alphas_cumprod(config.diffusion_steps)
    times = ddim_timesteps(steps, config.diffusion_steps)
    after = [float(alphas[t]) for t in times[1:]] + [1.0]
    x = noise
    for t, alpha_next in zip(times, after):
        alpha = float(alphas[t])
        time = torch.full((len(x),), t, device=x.device)
        if guidance <= 1.0:
            predicted = net(x, time, z)
        else:
            both = net(torch.cat((x, x)), torch.cat((time, time)), torch.cat((z, free)))
            conditional, unconditional = both.chunk(2)
            predicted = unconditional + guidance * (conditional - unconditional)
        clean = (x - math.sqrt(1.0 - alpha) * predicted) / math.sqrt(alpha)
        x = math.sqrt(alpha_next) * clean + math.sqrt(1.0 - alpha_next) * predicted
    return x


def reference_actions(model: CogACT, image: Tensor, token_ids: Tensor, noise: Tensor) -> Tensor:
    """Image [B, 3, S, S], ids [B, T] and noise [B, H, A] to normalised actions [B, H, A]."""
    cognition = reference_cognition(model, model.visual_tokens(image), token_ids)
    return reference_sample(model, cognition, noise)


def reference_tokens(model: OpenVLA, image: Tensor, token_ids: Tensor) -> Tensor:
    """Image [B, 3, S, S] and ids [B, T] to action token ids [B, action_dim].

    The whole sequence runs anew for every token, and every position is scored.
    """
    llm = model.llm_backbone.llm
    x = model.input_embeddings(model.visual_tokens(image), token_ids)
    ids = []
    for _ in range(model.config.action_dim):
        ids.append(llm.lm_head(llm.model(x))[:, -1].argmax(-1))
        x = torch.cat((x, llm.model.embed_tokens(ids[-1]).unsqueeze(1)), dim=1)
    return torch.stack(ids, dim=1)
