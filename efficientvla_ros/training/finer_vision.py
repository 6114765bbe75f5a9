"""Towers that learn to see in larger pictures what they saw in smaller ones.

A language model that was trained on the tokens of small pictures cannot read those of large ones,
although the towers are the same: objects are larger in them, and patches show less of each. The
towers therefore first learn to give, for every patch, what the smaller picture gave there (feature
distillation, Romero et al. 2015).
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from efficientvla_ros.models.cogact import CogACT
from efficientvla_ros.models.config import CogACTConfig
from efficientvla_ros.models.vision import FusedVisionBackbone, Projector
from efficientvla_ros.training.growth import Weights
from efficientvla_ros.training.heads import TrainingHeads
from efficientvla_ros.training.losses import Batch, keypoint_loss

_KEYPOINT_WEIGHT = 0.1


class CoarseVision(nn.Module):
    """The frozen towers and projector of a policy with smaller pictures; they give targets."""

    def __init__(self, config: CogACTConfig, weights: Weights) -> None:
        """Builds them.

        Args:
            config: of the policy with the larger pictures.
            weights: of the other one's towers and projector, which is as wide as `config` has it.
        """
        super().__init__()
        positions = weights['vision_backbone.dino_featurizer.pos_embed']
        self._side = round(positions.shape[1] ** 0.5)
        small = replace(config, image_size=self._side * config.patch_size)
        self.vision_backbone = FusedVisionBackbone(small)
        self.projector = Projector(config.vision_width, config.projector_width, config.llm.width)
        self.load_state_dict(weights)
        self.requires_grad_(False)

    @torch.no_grad()
    def forward(self, images: Tensor, side: int) -> Tensor:
        """What the tokens of larger pictures should be.

        Args:
            images: float32 [B, 3, S, S] in [0, 1].
            side: of their grid of patches.

        Returns:
            [B, side * side, D]: of the small picture's patch that each lies in.
        """
        size = self._side * self.vision_backbone.dino_featurizer.patch_embed.proj.kernel_size[0]
        small = F.interpolate(images, size=(size, size), mode='area')
        tokens = self.projector(self.vision_backbone(small))
        grid = tokens.transpose(1, 2).unflatten(2, (self._side, self._side))
        return F.interpolate(grid, size=(side, side), mode='nearest').flatten(2).transpose(1, 2)


def finer_vision_loss(
    coarse: CoarseVision, model: CogACT, heads: TrainingHeads, batch: Batch
) -> tuple[Tensor, dict[str, Tensor]]:
    """Stage `vision` of a policy whose pictures have grown: the coarse tokens, and keypoints."""
    visual = model.visual_tokens(batch.images)
    keypoint, pixels = keypoint_loss(heads, visual, batch)
    off = distance(visual, coarse(batch.images, heads.keypoint.side))
    return off + _KEYPOINT_WEIGHT * keypoint, {'pixels': pixels, 'distance': off.detach()}


def distance(tokens: Tensor, wanted: Tensor) -> Tensor:
    """Mean square distance of tokens [B, P, D], as a part of the targets' variance."""
    return F.mse_loss(tokens, wanted) / wanted.var()
