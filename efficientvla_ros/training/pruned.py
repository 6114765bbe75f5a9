"""The language model with parts left out, as an accelerated policy runs it.

A small network has no redundancy of its own: what is left out at inference has to be left out
in training too, as stochastic depth and token dropout do.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from efficientvla_ros.acceleration.token_scores import score_and_run
from efficientvla_ros.acceleration.token_selection import select_tokens, sequence_index, take
from efficientvla_ros.models.cogact import CogACT
from efficientvla_ros.models.llama import LlamaModel
from efficientvla_ros.models.tokenizer import PAD
from efficientvla_ros.training.settings import TrainSettings

SCORING_LAYER = 2
"""Last layer that sees every visual token; it and those before it are never left out."""

_ALL_LAYERS, _ALL_TOKENS, _RANDOM_TOKENS = 0.25, 0.25, 0.15


def pruned_cognition(
    model: CogACT, visual: Tensor, texts: Tensor, settings: TrainSettings, rng: np.random.Generator
) -> tuple[Tensor, Tensor | None]:
    """Cognition features with random deep layers and most visual tokens left out.

    Args:
        model: the policy.
        visual: visual tokens [B, P, D].
        texts: prompt ids without BOS, cognition token last, then any padding [B, T].
        settings: how much may be left out.
        rng: draws what is left out.

    Returns:
        Features [B, D], and the relevance of the visual tokens that they were chosen by [B, P];
        None where all of them stay.
    """
    decoder = model.llm_backbone.llm.model
    patches, length = visual.shape[1], texts.shape[1]
    layers = draw_layers(len(decoder.layers), settings.pruned_layers, rng)
    keep = draw_tokens(patches, settings.pruned_tokens, rng)
    bos = decoder.embed_tokens(texts.new_ones(len(texts), 1))
    x = torch.cat((bos, visual, decoder.embed_tokens(texts)), dim=1)
    positions = torch.arange(x.shape[1], device=x.device).expand(len(x), -1)
    last = (texts != PAD).sum(-1) - 1  # padding follows the cognition token and is never seen
    early = [layer for layer in layers if layer <= SCORING_LAYER]
    if keep < patches:
        early = early[:-1]
    x, relevance = _run(decoder, x, positions, early), None
    if keep < patches:
        x, relevance, kept = _select(decoder, x, positions, texts, last, keep, rng)
        index = sequence_index(kept, patches, x.shape[1])
        x, positions = take(x, index), index
    x = _run(decoder, x, positions, [layer for layer in layers if layer > SCORING_LAYER])
    rows = x.shape[1] - length + last
    return decoder.norm(x[torch.arange(len(x), device=x.device), rows]), relevance


def draw_layers(depth: int, most: int, rng: np.random.Generator) -> list[int]:
    """Layers to run: 1 to `most` of those after the scoring layer are left out, or none."""
    if most < 1 or rng.random() < _ALL_LAYERS:
        return list(range(depth))
    deep = SCORING_LAYER + 1 + rng.permutation(depth - SCORING_LAYER - 1)
    gone = set(deep[: int(rng.integers(1, most + 1))].tolist())
    return [layer for layer in range(depth) if layer not in gone]


def draw_tokens(patches: int, span: tuple[float, float], rng: np.random.Generator) -> int:
    """Visual tokens to keep: a share out of `span`, or all."""
    if rng.random() < _ALL_TOKENS:
        return patches
    low, high = (max(1, round(share * patches)) for share in span)
    return int(rng.integers(low, high + 1))


def _run(decoder: LlamaModel, x: Tensor, positions: Tensor, layers: list[int]) -> Tensor:
    rope = decoder.rotary(positions, x.dtype)
    for layer in layers:
        x = decoder.layers[layer](x, rope)
    return x


def _select(
    decoder: LlamaModel,
    x: Tensor,
    positions: Tensor,
    texts: Tensor,
    last: Tensor,
    keep: int,
    rng: np.random.Generator,
) -> tuple[Tensor, Tensor, Tensor]:
    # Runs the scoring layer; returns its output [B, S, D], the relevance of the patches [B, P]
    # and those that are kept [B, keep].
    rows = texts != PAD
    rows[torch.arange(len(rows), device=rows.device), last] = False  # the instruction alone
    rope = decoder.rotary(positions, x.dtype)
    x, scores = score_and_run(decoder.layers[SCORING_LAYER], x, rope, rows)
    patches = scores.shape[1]
    if rng.random() < _RANDOM_TOKENS:
        generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
        order = torch.rand(scores.shape, generator=generator).to(x.device).argsort(dim=1)
        return x, scores, order[:, :keep].sort(dim=1).values
    selection = select_tokens(scores.detach(), x[:, 1 : 1 + patches].detach(), keep)
    return x, scores, selection.kept
