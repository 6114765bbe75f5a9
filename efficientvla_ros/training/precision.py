"""Training steps in bfloat16 on a CPU, and memory that is kept between them."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

PRECISIONS = ('float32', 'bfloat16')

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_MMAP_THRESHOLD = 32 << 20
_NEVER = (1 << 31) - 1


@contextmanager
def precision(kind: str, device: torch.device) -> Iterator[None]:
    """Runs the products of a forward pass in `kind`, one of `PRECISIONS`; weights stay float32."""
    if kind == 'float32':
        yield
        return
    with torch.autocast(device.type, dtype=torch.bfloat16):
        if device.type == 'cpu':
            with _ExplicitAttention():
                yield
        else:
            yield


def bfloat16_is_slow(device: torch.device) -> bool:
    """Whether the processor is known to have no products in bfloat16: they are then emulated."""
    found = getattr(torch.cpu, 'get_capabilities', dict)() if device.type == 'cpu' else {}
    return found.get('architecture') == 'x86_64' and not (
        found.get('avx512_bf16') or found.get('amx_bf16')
    )


def keep_freed_memory() -> None:
    """Lets the C library keep what is freed, where it is glibc.

    Every step allocates the same activations again. Memory that goes back to the kernel between
    them has to be mapped and zeroed anew, which took a sixth of a step.
    """
    mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
        mallopt(_M_TRIM_THRESHOLD, _NEVER)


class _ExplicitAttention(TorchFunctionMode):
    """Attention as two products and a softmax.

    The backward pass of the fused kernel in bfloat16 takes four times as long on a CPU.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is F.scaled_dot_product_attention:
            return _attention(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    attn_mask: Tensor | None = None,
    is_causal: bool = False,
    enable_gqa: bool = False,
) -> Tensor:
    if enable_gqa:
        k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for x in (k, v))
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    if is_causal:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).tril()
    if attn_mask is not None:
        scores = scores.masked_fill(~attn_mask, float('-inf'))
    # Softmax in the products' type: autocast would go to float32 and back.
    with torch.autocast(q.device.type, enabled=False):
        return scores.softmax(-1).to(v.dtype) @ v
