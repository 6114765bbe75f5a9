"""Relevance of visual tokens: the attention that text pays to patches in one decoder layer.

Sequences are [BOS][P patches][text]. Under the causal mask patches cannot see text, so attention
is read from text queries to visual keys; the direction in EfficientVLA's text (arXiv 2506.10100)
would be zero everywhere.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from efficientvla_ros.acceleration.token_counts import SelectionError
from efficientvla_ros.acceleration.token_options import ROWS
from efficientvla_ros.models.kv_cache import LayerCache
from efficientvla_ros.models.llama import LlamaLayer, Rope, rotate


def row_mask(rows: str, prompt_length: int, span: tuple[int, int]) -> Tensor:
    """Marks the text positions whose attention counts.

    Args:
        rows: one of `ROWS`.
        prompt_length: ids of the prompt, BOS and suffix included.
        span: what `instruction_span` gives for the prompt.

    Returns:
        bool [1, prompt_length - 1] on the CPU, over the text after the patches.

    Raises:
        SelectionError: `rows` is unknown.
    """
    if rows not in ROWS:
        raise SelectionError(f'token rows are {rows!r}, expected one of {", ".join(ROWS)}')
    mask = torch.zeros(1, prompt_length - 1, dtype=torch.bool)
    if rows == 'instruction':
        mask[:, span[0] - 1 : span[1] - 1] = True
    else:
        mask[:, slice(None) if rows == 'prompt' else slice(-1, None)] = True
    return mask


def relevance(
    layer: LlamaLayer, x: Tensor, rope: Rope, rows: Tensor, mask: Tensor | None = None
) -> Tensor:
    """Scores patches: r_i = sum over text rows j of the mean over heads of A[j -> i].

    Recomputes the layer's keys, and its queries for the text only; `score_and_run` gives the
    same numbers beside the layer's output without computing anything twice.

    Args:
        layer: the scoring layer.
        x: its input [B, S, D].
        rope: rotary positions of `x`.
        rows: bool [B, T] over the T = S - 1 - P text positions, True where attention counts.
        mask: bool [S, S] or [B, 1, S, S], True where a query sees a key; None is causal.

    Returns:
        [B, P], float32, or float64 for a float64 layer. Zero where no row counts.
    """
    attention = layer.self_attn
    normed = layer.input_layernorm(x)
    text = normed.shape[1] - rows.shape[1]
    k = rotate(_heads(attention.k_proj(normed), attention.kv_heads), *rope)
    q = _heads(attention.q_proj(normed[:, text:]), attention.heads)
    return _from_queries(rotate(q, *(part[..., text:, :] for part in rope)), k, rows, mask)


def score_and_run(
    layer: LlamaLayer,
    x: Tensor,
    rope: Rope,
    rows: Tensor,
    mask: Tensor | None = None,
    cache: LayerCache | None = None,
) -> tuple[Tensor, Tensor]:
    """Runs the scoring layer once: its output [B, S, D], and `relevance` [B, P].

    The output is that of `layer(x, rope, mask, cache)` to the last bit. A `cache` must be empty.
    """
    attention = layer.self_attn
    normed = layer.input_layernorm(x)
    k, v = attention.keys_and_values(normed, rope, cache)
    q = rotate(_heads(attention.q_proj(normed), attention.heads), *rope)
    mixed = F.scaled_dot_product_attention(
        q,
        k,
        v,
        attn_mask=mask,
        is_causal=mask is None,
        enable_gqa=attention.heads != k.shape[1],
    )
    out = x + attention.o_proj(mixed.transpose(1, 2).flatten(2))
    out = out + layer.mlp(layer.post_attention_layernorm(out))
    text = x.shape[1] - rows.shape[1]
    return out, _from_queries(q[:, :, text:], k, rows, mask)


def _heads(x: Tensor, heads: int) -> Tensor:
    # [B, S, heads * head_dim] -> [B, heads, S, head_dim]
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def _from_queries(q: Tensor, k: Tensor, rows: Tensor, mask: Tensor | None) -> Tensor:
    # q [B, heads, T, head_dim] of the text, k [B, kv_heads, S, head_dim] -> [B, P]
    (batch, heads, texts, dim), (kv_heads, length) = q.shape, k.shape[1:3]
    first = length - texts
    # Ranks are decided by small differences, so bfloat16 ends here.
    q, k = (part if part.dtype == torch.float64 else part.float() for part in (q, k))
    grouped = q.reshape(batch, kv_heads, heads // kv_heads * texts, dim)
    scores = (grouped @ k.transpose(-1, -2)).view(batch, heads, texts, length) * dim**-0.5
    if mask is None:
        keys = torch.arange(length, device=q.device)
        seen = keys <= keys[first:].unsqueeze(1)  # [T, S]
    else:
        seen = mask[..., first:, :]
    weights = scores.masked_fill(~seen, float('-inf')).softmax(-1)
    per_row = weights[..., 1:first].mean(1)  # [B, T, P]
    return (per_row * rows.unsqueeze(-1)).sum(1)
