"""OpenVLA: a vision-language model that writes its action as tokens."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from efficientvla_ros.models.config import OpenVLAConfig
from efficientvla_ros.models.kv_cache import KVCache
from efficientvla_ros.models.prismatic import PrismaticVLM

Decoder = Callable[[Tensor, KVCache], Tensor]
"""Embeddings [B, S, D] to normalised hidden states whose last position is the input's."""


class OpenVLA(PrismaticVLM):
    """Prismatic vision-language model with its next-token head (arXiv 2406.09246)."""

    config: OpenVLAConfig

    def __init__(self, config: OpenVLAConfig) -> None:
        """Creates the networks with uninitialised weights; see `init_weights`."""
        super().__init__(config, lm_head=True)

    def new_cache(self, prompt_length: int, batch: int = 1) -> KVCache:
        """Memory for the decoding of prompts with up to `prompt_length` ids.

        The last action token is never fed back, so it needs no room.
        """
        weight = self.llm_backbone.llm.lm_head.weight
        capacity = self.config.num_patches + prompt_length + self.config.action_dim - 1
        return KVCache(
            self.config.llm, capacity, batch=batch, device=weight.device, dtype=weight.dtype
        )

    def prefill(
        self, visual: Tensor, token_ids: Tensor, cache: KVCache, decoder: Decoder | None = None
    ) -> Tensor:
        """Starts a sequence: visual tokens [B, P, D] and prompt ids [B, T] to first ids [B].

        `decoder` runs in the place of the language model's stack.
        """
        cache.length = 0
        return self._next(self.input_embeddings(visual, token_ids), cache, decoder)

    def decode(self, first: Tensor, cache: KVCache, decoder: Decoder | None = None) -> Tensor:
        """Goes on greedily after `prefill`: first ids [B] to all action ids [B, action_dim]."""
        embed = self.llm_backbone.llm.model.embed_tokens
        ids = [first]
        for _ in range(self.config.action_dim - 1):
            ids.append(self._next(embed(ids[-1].unsqueeze(1)), cache, decoder))
        return torch.stack(ids, dim=1)

    def forward(self, image: Tensor, token_ids: Tensor) -> Tensor:
        """Image [B, 3, S, S] and ids [B, T] to action token ids [B, action_dim]."""
        cache = self.new_cache(token_ids.shape[1], len(token_ids))
        return self.decode(self.prefill(self.visual_tokens(image), token_ids, cache), cache)

    def _next(self, x: Tensor, cache: KVCache, decoder: Decoder | None) -> Tensor:
        # Embeddings [B, S, D] -> likeliest next ids [B]. The whole vocabulary takes part, as in
        # the reference: an id outside the action bins is clipped to the nearest one later.
        llm = self.llm_backbone.llm
        if decoder is None:
            hidden = llm.model(x, cache=cache, last_position_only=True)
        else:
            hidden = decoder(x, cache)
        return llm.lm_head(hidden[:, -1]).argmax(-1)


def action_values(token_ids: np.ndarray, config: OpenVLAConfig) -> np.ndarray:
    """Normalised actions of token ids: the centres of the bins.

    `action_bins` edges in [-1, 1] enclose `action_bins - 1` bins. The bin of id i is
    `action_vocab_end - i - 1`, so the last id before the end is the lowest bin; other ids are
    clipped (arXiv 2406.09246, as implemented in the released code).

    Args:
        token_ids: integers of any shape.
        config: vocabulary and number of bins.

    Returns:
        float64 of the same shape.
    """
    edges = np.linspace(-1.0, 1.0, config.action_bins)
    centres = (edges[:-1] + edges[1:]) / 2.0
    bins = config.action_vocab_end - np.asarray(token_ids) - 1
    return centres[np.clip(bins, 0, len(centres) - 1)]
