"""Llama decoder with the parameter names of the released files."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from efficientvla_ros.models.config import LlamaConfig
from efficientvla_ros.models.kv_cache import KVCache, LayerCache

Rope = tuple[Tensor, Tensor]
"""Cosines and sines, [S or B, 1, S, head_dim]."""


class RMSNorm(nn.Module):
    """Root-mean-square norm; statistics in float32 as in the reference."""

    def __init__(self, width: int, eps: float) -> None:
        """Creates unit gains."""
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalises [..., D]."""
        value = x.float()
        value = value * torch.rsqrt(value.pow(2).mean(-1, keepdim=True) + self.eps)
        return self.weight * value.to(x.dtype)


class RotaryTable(nn.Module):
    """Cosines and sines of rotary positions (RoFormer, rotate-half layout)."""

    def __init__(self, config: LlamaConfig) -> None:
        """Fills the table for all positions of `config`."""
        super().__init__()
        # On the CPU even while a model is built on the meta device: the table is no weight.
        # Angles are rounded to float32 as in the reference, whose weights have seen them so.
        even = torch.arange(0, config.head_dim, 2, device='cpu').float()
        frequency = 1.0 / config.rope_theta ** (even / config.head_dim)
        positions = torch.arange(config.max_positions, device='cpu').float()
        angle = torch.outer(positions, frequency)
        angle = torch.cat((angle, angle), dim=-1)  # [positions, head_dim]
        self.register_buffer('cos', angle.cos(), persistent=False)
        self.register_buffer('sin', angle.sin(), persistent=False)

    def forward(self, positions: Tensor, dtype: torch.dtype) -> Rope:
        """Looks up positions [S] or [B, S]; returns [S or B, 1, S, head_dim] ready to use."""
        return tuple(table[positions].unsqueeze(-3).to(dtype) for table in (self.cos, self.sin))


def last_rope(rope: Rope) -> Rope:
    """The part of the last position."""
    return rope[0][..., -1:, :], rope[1][..., -1:, :]


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Applies rotary positions to [B, heads, S, head_dim]."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


class LlamaAttention(nn.Module):
    """Grouped-query attention with rotary positions."""

    def __init__(self, config: LlamaConfig) -> None:
        """Creates the four projections."""
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = config.heads, config.kv_heads, config.head_dim
        kv_width = config.kv_heads * config.head_dim
        self.q_proj = nn.Linear(config.width, config.width, bias=False)
        self.k_proj = nn.Linear(config.width, kv_width, bias=False)
        self.v_proj = nn.Linear(config.width, kv_width, bias=False)
        self.o_proj = nn.Linear(config.width, config.width, bias=False)

    def forward(
        self,
        x: Tensor,
        rope: Rope,
        mask: Tensor | None,
        cache: LayerCache | None = None,
        last_position_only: bool = False,
    ) -> Tensor:
        """Mixes tokens.

        Args:
            x: tokens [B, S, D].
            rope: what `RotaryTable` gives for them.
            mask: True marks visible keys; None means causal.
            cache: takes the new keys and values; those it holds are seen as well.
            last_position_only: the last token is the only query; all are keys.

        Returns:
            [B, S, D], or [B, 1, D] for the last position only.
        """
        k, v = self.keys_and_values(x, rope, cache)
        if last_position_only:
            x, rope = x[:, -1:], last_rope(rope)
            mask = None if mask is None else mask[..., -1:, :]
        q = rotate(self._split(self.q_proj(x), self.heads), *rope)
        # A single query is the newest position and sees every key.
        causal = mask is None and q.shape[2] > 1
        mixed = F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=causal, enable_gqa=self.heads != k.shape[1]
        )
        return self.o_proj(mixed.transpose(1, 2).flatten(2))

    def keys_and_values(
        self, x: Tensor, rope: Rope, cache: LayerCache | None = None
    ) -> tuple[Tensor, Tensor]:
        """What the queries see, [B, H, S, head_dim] each; what `cache` holds comes first.

        Query heads share them evenly: H divides `heads`. Arguments as for `forward`.
        """
        k = rotate(self._split(self.k_proj(x), self.kv_heads), *rope)
        v = self._split(self.v_proj(x), self.kv_heads)
        return (k, v) if cache is None else cache.append(k, v)

    def _split(self, x: Tensor, heads: int) -> Tensor:
        # [B, S, heads * head_dim] -> [B, heads, S, head_dim]
        return x.unflatten(-1, (heads, self.head_dim)).transpose(1, 2)


class LlamaMlp(nn.Module):
    """SwiGLU feed-forward network."""

    def __init__(self, config: LlamaConfig) -> None:
        """Creates the three projections."""
        super().__init__()
        self.gate_proj = nn.Linear(config.width, config.mlp_width, bias=False)
        self.up_proj = nn.Linear(config.width, config.mlp_width, bias=False)
        self.down_proj = nn.Linear(config.mlp_width, config.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Maps [..., D] to [..., D]."""
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class LlamaLayer(nn.Module):
    """Pre-norm decoder layer."""

    def __init__(self, config: LlamaConfig) -> None:
        """Creates attention and feed-forward network."""
        super().__init__()
        self.self_attn = LlamaAttention(config)
        self.mlp = LlamaMlp(config)
        self.input_layernorm = RMSNorm(config.width, config.rms_eps)
        self.post_attention_layernorm = RMSNorm(config.width, config.rms_eps)

    def forward(
        self,
        x: Tensor,
        rope: Rope,
        mask: Tensor | None = None,
        cache: LayerCache | None = None,
        last_position_only: bool = False,
    ) -> Tensor:
        """Maps [B, S, D] to [B, S, D], or [B, 1, D]; arguments as for `LlamaAttention`."""
        mixed = self.self_attn(self.input_layernorm(x), rope, mask, cache, last_position_only)
        x = x[:, -mixed.shape[1] :] + mixed
        return x + self.mlp(self.post_attention_layernorm(x))

    def with_mlp(self, mlp: nn.Module) -> LlamaLayer:
        """A layer that shares everything with this one but the feed-forward network."""
        layer = LlamaLayer.__new__(LlamaLayer)
        nn.Module.__init__(layer)
        layer.self_attn, layer.mlp = self.self_attn, mlp
        layer.input_layernorm = self.input_layernorm
        layer.post_attention_layernorm = self.post_attention_layernorm
        return layer.train(self.training)


class LlamaModel(nn.Module):
    """Decoder stack: embeddings in, normalised hidden states out."""

    def __init__(self, config: LlamaConfig) -> None:
        """Creates embedding, layers and final norm."""
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.width)
        self.layers = nn.ModuleList(LlamaLayer(config) for _ in range(config.layers))
        self.norm = RMSNorm(config.width, config.rms_eps)
        self.rotary = RotaryTable(config)

    def forward(
        self,
        x: Tensor,
        positions: Tensor | None = None,
        mask: Tensor | None = None,
        layers: Sequence[int] | None = None,
        *,
        cache: KVCache | None = None,
        last_position_only: bool = False,
    ) -> Tensor:
        """Runs the stack.

        Args:
            x: input embeddings [B, S, D].
            positions: rotary positions [S] or [B, S]; None counts on from the cache's length,
                or from 0.
            mask: bool [S, S] or [B, 1, S, S], True where a query (row) sees a key
                (column); None is causal.
            layers: indices of the layers to run, in order; None runs all.
            cache: keys and values of earlier positions; takes those of `x`. It must be empty,
                or S must be 1.
            last_position_only: the last layer computes queries, output projection and
                feed-forward network for the last position alone (keys and values for all),
                which is all that a caller needs who reads nothing else.

        Returns:
            Hidden states after the final norm, [B, S, D], or [B, 1, D] for the last position.

        Raises:
            ValueError: several positions follow a cache that holds some.
        """
        if cache is not None and cache.length and x.shape[1] > 1:
            raise ValueError(f'{x.shape[1]} positions follow a cache in use, expected one')
        order = range(len(self.layers)) if layers is None else layers
        if positions is None:
            start = 0 if cache is None else cache.length
            positions = torch.arange(start, start + x.shape[1], device=x.device)
        rope = self.rotary(positions, x.dtype)
        for step, index in enumerate(order):
            layer_cache = None if cache is None else cache.layer(index)
            only_last = last_position_only and step == len(order) - 1
            x = self.layers[index](x, rope, mask, layer_cache, only_last)
        if cache is not None:
            cache.length += positions.shape[-1]
        return self.norm(x[:, -1:] if last_position_only else x)


class LlamaCausal(nn.Module):
    """The stack under its published name `model`, and the head that scores next tokens.

    A cognition feature is a hidden state: policies that read nothing else have no `lm_head`.
    """

    def __init__(self, config: LlamaConfig, lm_head: bool) -> None:
        """Creates the stack and, if wanted, the head."""
        super().__init__()
        self.model = LlamaModel(config)
        if lm_head:
            self.lm_head = nn.Linear(config.width, config.vocab_size, bias=False)


class LlmBackbone(nn.Module):
    """Holder that gives the language model its published name `llm`."""

    def __init__(self, config: LlamaConfig, lm_head: bool = False) -> None:
        """Creates the language model."""
        super().__init__()
        self.llm = LlamaCausal(config, lm_head)
