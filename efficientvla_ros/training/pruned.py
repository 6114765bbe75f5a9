"""The language model with parts left out, as an accelerated policy runs it.

A small network has no redundancy of its own: what is left out at inference has to be left out
in training too, as stochastic depth and token dropout do. Layers go by the importance that the
policy chooses by (EfficientVLA, arXiv 2506.10100, equation 2), measured on the step's own
pictures, times a random factor: nobody knows in training which choice a policy will be run by.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from efficientvla_ros.acceleration.calibration import layer_importance
from efficientvla_ros.acceleration.token_scores import score_and_run
from efficientvla_ros.acceleration.token_selection import select_tokens, sequence_index, take
from efficientvla_ros.models.cogact import CogACT
from efficientvla_ros.models.llama import LlamaModel
from efficientvla_ros.models.tokenizer import PAD
from efficientvla_ros.training.settings import TrainSettings

SCORING_LAYER = 2
"""Last layer that sees every visual token; it and those before it are never left out."""

_ALL_LAYERS, _ALL_TOKENS, _RANDOM_TOKENS = 0.25, 0.25, 0.15

_MEASURED_ON = 2
"""Pictures of a step that the importance of its layers is measured on."""

_SPREAD = 1.0
"""Standard deviation of the logarithm of the random factor."""


def pruned_cognition(
    model: CogACT, visual: Tensor, texts: Tensor, settings: TrainSettings, rng: np.random.Generator
) -> tuple[Tensor, Tensor | None]:
    """Cognition features with deep layers and most visual tokens left out.

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
    gone = draw_layer_count(settings.pruned_layers, rng)
    keep = draw_tokens(patches, settings.pruned_tokens, rng)
    bos = decoder.embed_tokens(texts.new_ones(len(texts), 1))
    x = torch.cat((bos, visual, decoder.embed_tokens(texts)), dim=1)
    positions = torch.arange(x.shape[1], device=x.device).expand(len(x), -1)
    last = (texts != PAD).sum(-1) - 1  # padding follows the cognition token and is never seen
    layers = tuple(range(len(decoder.layers)))
    if gone:
        layers = draw_layers(_importance(decoder, x, 1 + patches + last), gone, rng)
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


def draw_layer_count(most: int, rng: np.random.Generator) -> int:
    """Layers to leave out: half of `most` to `most`, or none."""
    if most < 1 or rng.random() < _ALL_LAYERS:
        return 0
    return int(rng.integers((most + 1) // 2, most + 1))


def draw_layers(importance: Tensor, gone: int, rng: np.random.Generator) -> tuple[int, ...]:
    """Layers to run: without `gone` unimportant ones of those after the scoring layer.

    Args:
        importance: by layer, not negative [L].
        gone: layers to leave out, as far as there are so many.
        rng: draws the random factors.

    Returns:
        Indices of the layers that run, ascending.
    """
    depth = len(importance)
    noise = torch.from_numpy(rng.standard_normal(depth))
    order = (importance.double().clamp(min=1e-12).log() + _SPREAD * noise).argsort().tolist()
    left_out = set([layer for layer in order if layer > SCORING_LAYER][:gone])
    return tuple(layer for layer in range(depth) if layer not in left_out)


def draw_tokens(patches: int, span: tuple[float, float], rng: np.random.Generator) -> int:
    """Visual tokens to keep: a share out of `span`, or all."""
    if rng.random() < _ALL_TOKENS:
        return patches
    low, high = (max(1, round(share * patches)) for share in span)
    return int(rng.integers(low, high + 1))


@torch.no_grad()
def _importance(decoder: LlamaModel, x: Tensor, last: Tensor) -> Tensor:
    # Of every layer [L]; x: [B, S, D], `last`: index of the last position that is no padding [B].
    pictures = zip(x[:_MEASURED_ON], last.tolist(), strict=False)
    inputs = [sequence[None, : end + 1] for sequence, end in pictures]
    return layer_importance(decoder, inputs, tuple(range(len(decoder.layers)))).mean(0)


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
