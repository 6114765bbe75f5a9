"""Several instructions for one image in one pass of the language model.

In a causal decoder the patches never see the text, so the texts can follow one shared prefix:
each sees the prefix and itself, its positions start where the prefix ends, and the result is
the same as in separate passes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from efficientvla_ros.models.cogact import CogACT
from efficientvla_ros.models.tokenizer import PAD


def packed_mask(prefix: int, texts: int, length: int, device: torch.device) -> Tensor:
    """Bool [S, S], True where a query (row) sees a key (column); S = prefix + texts * length."""
    index = torch.arange(prefix + texts * length, device=device)
    block = torch.where(index < prefix, -1, (index - prefix) // length)
    same_or_prefix = (block[None, :] == -1) | (block[None, :] == block[:, None])
    return same_or_prefix & (index[None, :] <= index[:, None])


def packed_cognition(
    model: CogACT,
    visual: Tensor,
    texts: Tensor,
    kept: Tensor | None = None,
    layers: list[int] | None = None,
) -> Tensor:
    """Cognition features of several instructions for each image.

    Args:
        model: the policy.
        visual: visual tokens [B, P, D].
        texts: prompt ids without BOS, cognition token last, then any padding [B, N, T].
        kept: indices of the visual tokens that the language model sees, ascending, [B, K];
            they keep their positions. None keeps all.
        layers: decoder layers to run; None runs all.

    Returns:
        Features [B, N, D].
    """
    decoder = model.llm_backbone.llm.model
    batch, patches, width = visual.shape
    count, length = texts.shape[1:]
    positions = torch.arange(1, patches + 1, device=visual.device).expand(batch, -1)
    if kept is not None:
        visual = visual.gather(1, kept.unsqueeze(-1).expand(-1, -1, width))
        positions = kept + 1
    bos = decoder.embed_tokens(texts.new_ones(batch, 1))
    x = torch.cat((bos, visual, decoder.embed_tokens(texts.flatten(1))), dim=1)
    text_positions = torch.arange(patches + 1, patches + 1 + length, device=visual.device)
    positions = torch.cat(
        (positions.new_zeros(batch, 1), positions, text_positions.repeat(count).expand(batch, -1)),
        dim=1,
    )
    prefix = 1 + visual.shape[1]
    mask = packed_mask(prefix, count, length, visual.device)
    hidden = decoder(x, positions=positions, mask=mask, layers=layers)
    last = (texts != PAD).sum(-1) - 1  # padding follows the cognition token and is never seen
    rows = prefix + torch.arange(count, device=visual.device) * length + last
    return hidden.gather(1, rows.unsqueeze(-1).expand(-1, -1, width))
