"""Multiply-accumulates and weights of the single networks, from their sizes alone.

One MAC is one multiplication with one addition; FLOPs are twice the MACs. Matrix products and
attention are counted. Norms, activations, rotary positions and biases are not: they are
thousandths of the whole.
"""

from __future__ import annotations

from dataclasses import dataclass
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


def llama_layer(llm: LlamaConfig, queries: int, keys: int, cached: int = 0) -> Work:
    """A decoder layer.

    With width D, key and value width K and MLP width M: k and v take 2 D K MACs for each new
    key; q, o and the three MLP matrices 2 D^2 + 3 D M for each query; attention 2 D for each
    visible pair.

    Args:
        llm: sizes.
        queries: positions whose output is computed, the last ones of all.
        keys: positions whose key and value are computed.
        cached: positions in front of them whose key and value are there already.
    """
    width, kv_width = llm.width, llm.kv_heads * llm.head_dim
    total = cached + keys
    pairs = queries * total - queries * (queries - 1) // 2
    return (
        linear(queries, width, width, bias=False) * 2
        + linear(keys, width, kv_width, bias=False) * 2
        + linear(queries, width, llm.mlp_width, bias=False) * 3
        + Work(0, 2 * width * pairs, 2 * width)
    )


def llama(llm: LlamaConfig, tokens: int, *, cached: int = 0, all_positions: bool = False) -> Work:
    """The decoder stack with its final norm, without embedding and `lm_head`.

    Only the last position is used. Unless `all_positions` is set, the last layer computes
    queries, output and MLP for it alone, which saves 48 of its 58 GMAC for 286 tokens of a
    7-B model.
    """
    stack = llama_layer(llm, tokens, tokens, cached) * (llm.layers - 1)
    last = llama_layer(llm, tokens if all_positions else 1, tokens, cached)
    return stack + last + Work(weights=llm.width)


def dit_step(head: DiTConfig, batch: int) -> Work:
    """The noise predictor for `batch` chunks, its condition token being there already.

    With width D and T = 1 + horizon tokens: depth * (12 T D^2 + 2 T^2 D) MACs for each chunk,
    and the maps from and to actions.
    """
    width, tokens = head.width, 1 + head.horizon
    rows = batch * tokens
    block = (
        linear(rows, width, 3 * width)
        + linear(rows, width, width)
        + linear(rows, width, 4 * width)
        + linear(rows, 4 * width, width)
        + Work(0, 2 * batch * tokens**2 * width)
    )
    return (
        linear(batch * head.horizon, head.action_dim, width)
        + Work(weights=tokens * width)
        + block * head.depth
        + linear(rows, width, head.action_dim)
    )


def dit_time(head: DiTConfig, rows: int) -> Work:
    """The embedding of `rows` diffusion times: 256 sinusoids, then two linear maps."""
    return linear(rows, 256, head.width) + linear(rows, head.width, head.width)


def dit_condition(head: DiTConfig, cognition_width: int, rows: int) -> Work:
    """The embedding of `rows` cognition features."""
    return linear(rows, cognition_width, head.width)
