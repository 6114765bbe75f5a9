"""What the averaged weights reach on held-out episodes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from efficientvla_ros.acceleration.feature_cache import ResidualCache, full_steps
from efficientvla_ros.acceleration.presets import CACHE_INTERVAL
from efficientvla_ros.models.cogact import CogACT
from efficientvla_ros.training.heads import TrainingHeads
from efficientvla_ros.training.losses import Batch, chunk_error, keypoint_loss
from efficientvla_ros.training.packing import packed_cognition


@dataclass(frozen=True)
class _Seen:
    """What everything but the diffusion head makes of one batch."""

    errors: dict[str, Tensor]
    cognition: Tensor | None  # [B, 3, D]
    actions: Tensor  # [B, 3, H, A]


class Validation:
    """Mean errors over batches of held-out frames."""

    def __init__(self, held_out: Callable[[], list[Batch]]) -> None:
        """Keeps what gives the batches, always the same."""
        self._held_out = held_out
        self._frozen: list[_Seen] = []

    @torch.no_grad()
    def __call__(self, stage: str, model: CogACT, heads: TrainingHeads) -> dict[str, float]:
        """Errors in a stage; in stage `head` the rest is frozen, and looks only once.

        Returns:
            `val_pixels`: keypoint error, pixels; from stage `policy` on `val_chunk`: chunk error
            of the regressed plan, and in stage `head` `val_sampled`: that of the sampled plan,
            and `val_cached`: the same with the diffusion cache at its published interval.
        """
        seen = self._frozen or [_see(stage, model, heads, batch) for batch in self._held_out()]
        rows = [batch.errors for batch in seen]
        if stage == 'head':
            self._frozen = seen
            rows = [batch.errors | _head_errors(model, batch) for batch in seen]
        return {
            name: round(float(sum(row[name] for row in rows)) / len(rows), 5) for name in rows[0]
        }


def _see(stage: str, model: CogACT, heads: TrainingHeads, batch: Batch) -> _Seen:
    visual = model.visual_tokens(batch.images)
    pixels = keypoint_loss(heads, visual, batch)[1] * model.config.image_size
    if stage == 'vision':
        return _Seen({'val_pixels': pixels}, None, batch.actions)
    cognition = packed_cognition(model, visual, batch.texts)
    chunk = chunk_error(heads.chunk(cognition), batch.actions)
    return _Seen({'val_pixels': pixels, 'val_chunk': chunk}, cognition, batch.actions)


def _head_errors(model: CogACT, seen: _Seen) -> dict[str, Tensor]:
    head, features = model.config.head, seen.cognition.flatten(0, 1)
    shape = 1, head.horizon, head.action_dim
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(features.device)
    noise = head.temperature * noise.expand(len(features), -1, -1)
    sampler = model.sampler()
    full = full_steps(head.ddim_steps, CACHE_INTERVAL)
    cache = ResidualCache(model.action_model.net.run_blocks, full)
    errors = {}
    for name, stack in (('val_sampled', None), ('val_cached', cache)):
        sampled = sampler(features, noise, stack).clamp(-1, 1)
        errors[name] = chunk_error(sampled.view_as(seen.actions), seen.actions)
    return errors
