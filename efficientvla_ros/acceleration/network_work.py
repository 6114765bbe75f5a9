"""Multiply-accumulates and weights of the single networks, from their sizes alone.

One MAC is one multiplication with one addition; FLOPs are twice the MACs. Matrix products and
attention are counted. Norms, activations, rotary positions and biases are not: they are
thousandths of the whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import pairwise

from efficientvla_ros.models.config import DiTConfig, LlamaConfig, ViTConfig


@dataclass(frozen=True)
class Work:
    """What running (part of) a network once takes.

    Attributes:
        linear_macs: MACs of matrix products with weights.
        attention_macs: MACs of q k^T and of its product with v, visible pairs only: causal
            attention of S tokens counts S (S + 1) / 2 pairs, not S^2.
        weights: parameters that are read.
    """

    linear_macs: int = 0
    attention_macs: int = 0
    weights: int = 0

    @property
    def macs(self) -> int:
        """All MACs."""
        return self.linear_macs + self.attention_macs

    def __add__(self, other: Work) -> Work:
        """One after the other."""
        return Work(
            self.linear_macs + other.linear_macs,
            self.attention_macs + other.attention_macs,
            self.weights + other.weights,
        )

    def __mul__(self, times: int) -> Work:
        """Several of the kind, each with weights of its own."""
        return Work(self.linear_macs * times, self.attention_macs * times, self.weights * times)


def linear(rows: int, inputs: int, outputs: int, bias: bool = True) -> Work:
    """A linear map of `rows` vectors: rows * inputs * outputs MACs."""
    return Work(rows * inputs * outputs, 0, inputs * outputs + (outputs if bias else 0))


def vit_block(tower: ViTConfig, tokens: int) -> Work:
    """A block on N tokens of width D with MLP width M: N (4 D^2 + 2 D M) + 2 N^2 D MACs."""
    width, hidden = tower.width, tower.mlp_width
    norms_and_gains = 4 * width + (2 * width if tower.layer_scale else 0)
    return (
        linear(tokens, width, 3 * width)
        + linear(tokens, width, width)
        + linear(tokens, width, hidden)
        + linear(tokens, hidden, width)
        + Work(0, 2 * tokens**2 * width, norms_and_gains)
    )


def vit(tower: ViTConfig, patches: int, patch_size: int) -> Work:
    """A tower up to the block whose output is used; class and registers join the patches."""
    width = tower.width
    tokens = patches + tower.prefix_tokens
    embedding = linear(patches, 3 * patch_size**2, width) + Work(weights=tokens * width)
    return embedding + vit_block(tower, tokens) * tower.blocks_used


def mlp(rows: int, widths: tuple[int, ...]) -> Work:
    """Linear maps with biases, one after the other."""
    return sum((linear(rows, *pair) for pair in pairwise(widths)), Work())


def llama_layer(
    llm: LlamaConfig,
    queries: int,
    keys: int,
    cached: int = 0,
    *,
    mlp_width: int | None = None,
    mlp_bias: bool = True,
    heads: int | None = None,
    causal: bool = True,
) -> Work:
    """A decoder layer.

    With width D, query width Q (D where all heads are left), key and value width K and MLP width
    M: k and v take 2 D K MACs for each new key; q, o and the three MLP matrices 2 D Q + 3 D M for
    each query; attention 2 Q for each visible pair.

    Args:
        llm: sizes.
        queries: positions whose output is computed, the last ones of all.
        keys: positions whose key and value are computed.
        cached: positions in front of them whose key and value are there already.
        mlp_width: MLP channels that are left; None is all.
        mlp_bias: whether a narrowed MLP has an output bias.
        heads: query heads that are left; None is all. Of the key and value heads at most as many
            are.
        causal: count visible pairs only; else every query sees every key.
    """
    width, kept = llm.width, llm.heads if heads is None else heads
    query_width, kv_width = kept * llm.head_dim, min(kept, llm.kv_heads) * llm.head_dim
    hidden = llm.mlp_width if mlp_width is None else mlp_width
    total = cached + keys
    pairs = queries * total - (queries * (queries - 1) // 2 if causal else 0)
    return (
        linear(queries, width, query_width, bias=False) * 2
        + linear(keys, width, kv_width, bias=False) * 2
        + linear(queries, width, hidden, bias=False) * 2
        + linear(queries, hidden, width, bias=mlp_bias and hidden < llm.mlp_width)
        + Work(0, 2 * query_width * pairs, 2 * width)
    )


def llama_layers(
    llm: LlamaConfig,
    layers: int,
    tokens: int,
    cached: int = 0,
    *,
    last_position_only: bool = False,
    mlp_width: int | None = None,
    mlp_bias: bool = True,
    heads: int | None = None,
    causal: bool = True,
) -> Work:
    """Decoder layers of the kind of `llama_layer`, one after the other.

    With `last_position_only`, the last of them computes queries, output and MLP for one
    position, which saves 48 of its 58 GMAC for 286 tokens of a 7-B model.
    """
    layer = partial(
        llama_layer, llm, mlp_width=mlp_width, mlp_bias=mlp_bias, heads=heads, causal=causal
    )
    each = layer(tokens, tokens, cached)
    if not last_position_only:
        return each * layers
    last = layer(1, tokens, cached)
    return each * (layers - 1) + last


def slot_values(llm: LlamaConfig, mlp_width: int, heads: int) -> int:
    """Weights that the slots of a decoder layer hold beside the whole one.

    Keys and values have slots of their own where there are more heads of them than query heads
    that are left; none have where nothing is left out.
    """
    per_head = (4 if llm.kv_heads > heads else 2) * llm.head_dim * llm.width
    return (3 * llm.width * mlp_width if mlp_width < llm.mlp_width else 0) + (
        heads * per_head if heads < llm.heads else 0
    )


def row_copies(llm: LlamaConfig) -> int:
    """Weights of a decoder layer that are kept transposed as well, so that slots take rows."""
    return llm.width * (llm.mlp_width + llm.width)


def final_norm(llm: LlamaConfig) -> Work:
    """The norm after the decoder."""
    return Work(weights=llm.width)


def attention_scores(llm: LlamaConfig, rows: int, tokens: int) -> Work:
    """Attention of `rows` queries to all tokens, computed once more: products q k^T only."""
    return Work(attention_macs=rows * tokens * llm.width)


def cosines(width: int, first: int, second: int) -> Work:
    """Every cosine between vectors of two groups."""
    return Work(attention_macs=first * second * width)


def dit_step(head: DiTConfig, batch: int, *, blocks: bool = True) -> Work:
    """The noise predictor for `batch` chunks, its condition token being there already.

    With width D and T = 1 + horizon tokens: depth * (12 T D^2 + 2 T^2 D) MACs for each chunk,
    and the maps from and to actions. Without `blocks` only these maps: a step that adds the
    kept change of the stack.
    """
    width, tokens = head.width, 1 + head.horizon
    rows = batch * tokens
    maps = linear(batch * head.horizon, head.action_dim, width) + linear(
        rows, width, head.action_dim
    )
    maps += Work(weights=tokens * width)
    if not blocks:
        return maps
    block = (
        linear(rows, width, 3 * width)
        + linear(rows, width, width)
        + linear(rows, width, 4 * width)
        + linear(rows, 4 * width, width)
        + Work(0, 2 * batch * tokens**2 * width)
    )
    return maps + block * head.depth


def dit_time(head: DiTConfig, rows: int) -> Work:
    """The embedding of `rows` diffusion times: 256 sinusoids, then two linear maps."""
    return linear(rows, 256, head.width) + linear(rows, head.width, head.width)


def dit_condition(head: DiTConfig, cognition_width: int, rows: int) -> Work:
    """The embedding of `rows` cognition features."""
    return linear(rows, cognition_width, head.width)
