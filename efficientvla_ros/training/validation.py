"""What the averaged weights reach on held-out episodes."""

from __future__ import annotations

import torch
from torch import Tensor

from efficientvla_ros.acceleration.feature_cache import ResidualCache, full_steps
from efficientvla_ros.acceleration.presets import CACHE_INTERVAL
from efficientvla_ros.models.cogact import CogACT
from efficientvla_ros.models.dit import Stack
from efficientvla_ros.training.heads import TrainingHeads
from efficientvla_ros.training.losses import Batch, chunk_error, keypoint_loss
from efficientvla_ros.training.packing import packed_cognition


@torch.no_grad()
def validate(
    stage: str, model: CogACT, heads: TrainingHeads, batches: list[Batch]
) -> dict[str, float]:
    """Mean errors over batches of held-out frames.

    Returns:
        `val_pixels`: keypoint error, pixels; from stage `policy` on `val_chunk`: chunk error of
        the regressed plan, and in stage `head` `val_sampled`: that of the sampled plan, and
        `val_cached`: the same with the diffusion cache at its published interval.
    """
    sums: dict[str, float] = {}
    for batch in batches:
        for name, value in _errors(stage, model, heads, batch).items():
            sums[name] = sums.get(name, 0.0) + float(value)
    return {name: round(value / len(batches), 5) for name, value in sums.items()}


def _errors(stage: str, model: CogACT, heads: TrainingHeads, batch: Batch) -> dict[str, Tensor]:
    visual = model.visual_tokens(batch.images)
    pixels = keypoint_loss(heads, visual, batch)[1] * model.config.image_size
    errors = {'val_pixels': pixels}
    if stage == 'vision':
        return errors
    cognition = packed_cognition(model, visual, batch.texts)
    errors['val_chunk'] = chunk_error(heads.chunk(cognition), batch.actions)
    if stage == 'head':
        blocks = model.action_model.net.run_blocks
        cache = ResidualCache(blocks, full_steps(model.config.head.ddim_steps, CACHE_INTERVAL))
        for name, stack in (('val_sampled', None), ('val_cached', cache)):
            errors[name] = chunk_error(_sampled(model, cognition, stack), batch.actions)
    return errors


def _sampled(model: CogACT, cognition: Tensor, stack: Stack | None) -> Tensor:
    head = model.config.head
    features = cognition.flatten(0, 1)
    noise = torch.randn(
        1, head.horizon, head.action_dim, generator=torch.Generator().manual_seed(0)
    ).to(features.device)
    noise = head.temperature * noise.expand(len(features), -1, -1)
    sampled = model.sampler()(features, noise, stack)
    return sampled.clamp(-1, 1).unflatten(0, cognition.shape[:2])
