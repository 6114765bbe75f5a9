"""Prismatic vision-language model: fused vision towers, projector, language model."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from efficientvla_ros.models.config import VLMConfig
from efficientvla_ros.models.llama import LlmBackbone
from efficientvla_ros.models.vision import FusedVisionBackbone, Projector


class PrismaticVLM(nn.Module):
    """What the policies share (arXiv 2402.07865), grouped as in the released files.

    Built inside `torch.device('meta')`, parameters hold no memory, while constant tables
    (image statistics, rotary positions) are real and float32.
    """

    def __init__(self, config: VLMConfig, lm_head: bool) -> None:
        """Creates the networks with uninitialised weights; see `init_weights`.

        Args:
            config: sizes.
            lm_head: whether the policy reads next-token scores.
        """
        super().__init__()
        self.config = config
        self.vision_backbone = FusedVisionBackbone(config)
        self.projector = Projector(config.vision_width, config.projector_width, config.llm.width)
        self.llm_backbone = LlmBackbone(config.llm, lm_head)

    def visual_tokens(self, image: Tensor) -> Tensor:
        """Maps float32 images [B, 3, S, S] in [0, 1] to tokens [B, patches, llm width].

        Tokens have the type of the towers' parameters.
        """
        return self.projector(self.vision_backbone(image))

    def input_embeddings(self, visual: Tensor, token_ids: Tensor) -> Tensor:
        """Builds [BOS][patches][rest of the prompt] from tokens [B, P, D] and ids [B, T]."""
        text = self.llm_backbone.llm.model.embed_tokens(token_ids)
        return torch.cat((text[:, :1], visual, text[:, 1:]), dim=1)
