"""Llama decoder with the parameter names of the released files."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from efficientvla_ros.models.config import LlamaConfig


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
        exponent = torch.arange(0, config.head_dim, 2).double() / config.head_dim
        angle = torch.outer(
            torch.arange(config.max_positions).double(), config.rope_theta**-exponent
        )
        angle = torch.cat((angle, angle), dim=-1)  # [positions, head_dim]
        self.register_buffer('cos', angle.cos().float(), persistent=False)
        self.register_buffer('sin', angle.sin().float(), persistent=False)

    def forward(self, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Looks up positions [S] or [B, S]; returns [S or B, 1, S, head_dim] ready to use."""
        return tuple(table[positions].unsqueeze(-3).to(dtype) for table in (self.cos, self.sin))


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

    def forward(self, x: Tensor, rope: tuple[Tensor, Tensor], mask: Tensor | None) -> Tensor:
        """Mixes tokens [B, S, D]; `mask` None means causal, True marks visible keys."""
        batch, tokens, width = x.shape
        q = self.q_proj(x).view(batch, tokens, self.heads, self.head_dim).transpose(1, 2)
        k = self.k_proj(x).view(batch, tokens, self.kv_heads, self.head_dim).transpose(1, 2)
        v = self.v_proj(x).view(batch, tokens, self.kv_heads, self.head_dim).transpose(1, 2)
        q, k = rotate(q, *rope), rotate(k, *rope)
        mixed = F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=mask is None, enable_gqa=self.heads != self.kv_heads
        )
        return self.o_proj(mixed.transpose(1, 2).reshape(batch, tokens, width))


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

    def forward(self, x: Tensor, rope: tuple[Tensor, Tensor], mask: Tensor | None) -> Tensor:
        """Maps [B, S, D] to [B, S, D]."""
        x = x + self.self_attn(self.input_layernorm(x), rope, mask)
        return x + self.mlp(self.post_attention_layernorm(x))


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
    ) -> Tensor:
        """Runs the stack.

        Args:
            x: input embeddings [B, S, D].
            positions: rotary positions [S] or [B, S]; None counts from 0.
            mask: bool [S, S] or [B, 1, S, S], True where a query (row) sees a key
                (column); None is causal.
            layers: indices of the layers to run, in order; None runs all.

        Returns:
            Hidden states after the final norm, [B, S, D].
        """
        if positions is None:
            positions = torch.arange(x.shape[1], device=x.device)
        rope = self.rotary(positions, x.dtype)
        for index in range(len(self.layers)) if layers is None else layers:
            x = self.layers[index](x, rope, mask)
        return self.norm(x)


class LlamaCausal(nn.Module):
    """Holder that gives the stack its published name `model`.

    The cognition feature is a hidden state, so a CogACT policy needs no `lm_head`.
    """

    def __init__(self, config: LlamaConfig) -> None:
        """Creates the stack."""
        super().__init__()
        self.model = LlamaModel(config)


class LlmBackbone(nn.Module):
    """Holder that gives the language model its published name `llm`."""

    def __init__(self, config: LlamaConfig) -> None:
        """Creates the language model."""
        super().__init__()
        self.llm = LlamaCausal(config)
