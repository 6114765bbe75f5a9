"""Narrower feed-forward networks: channels are cut out, their mean effect stays as a bias.

EfficientVLA removes a quarter of the intermediate channels of every layer that runs (arXiv
2506.10100). Which ones is scored as in FLAP (arXiv 2312.11983):

    score(k) = Var(x_k) * ||W_down[:, k]||^2,

x_k being channel k of the down projection's input. A channel that hardly varies can go although
it is large: its mean contribution is a constant, which the down projection keeps as

    bias = W_down[:, removed] @ mean(x[removed]).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from efficientvla_ros.acceleration.layer_pruning import PruningError
from efficientvla_ros.models.llama import LlamaMlp

_WIDE = 1024
_WIDE_MULTIPLE, _NARROW_MULTIPLE = 64, 8


def kept_channel_count(width: int, ratio: float) -> int:
    """Channels that stay when a share of them goes.

    The count is rounded to the nearest multiple of 64 (of 8 below 1024 channels), which matrix
    multiplications are fast with; half a multiple is rounded up. 11008 channels at 0.25 give
    8256, the published count.

    Args:
        width: intermediate channels of the network.
        ratio: share that goes, 0 (none) up to but without 1.

    Raises:
        PruningError: the ratio is out of range.
    """
    if not (math.isfinite(ratio) and 0.0 <= ratio < 1.0):
        raise PruningError(f'MLP ratio is {ratio!r}, expected 0 or more and below 1')
    if ratio == 0.0:
        return width
    multiple = _WIDE_MULTIPLE if width >= _WIDE else _NARROW_MULTIPLE
    steps = math.floor((1.0 - ratio) * width / multiple + 0.5)
    return min(width, max(1, steps) * multiple)


def channel_scores(down_weight: Tensor, variance: Tensor) -> Tensor:
    """FLAP's score of the intermediate channels of one layer.

    Args:
        down_weight: weight of the down projection [D, M].
        variance: of its input by channel [M].

    Returns:
        float64 [M] on the CPU.
    """
    squared_norm = down_weight.float().square().sum(0)
    return variance.double().cpu() * squared_norm.double().cpu()


def kept_channels(scores: Tensor, count: int) -> Tensor:
    """The `count` channels with the highest scores [M]; int64 [count], ascending.

    Among equal scores the lower index stays.
    """
    if not 1 <= count <= len(scores):
        raise PruningError(f'channels to keep is {count}, expected 1 .. {len(scores)}')
    order = torch.sort(scores, descending=True, stable=True).indices
    return order[:count].sort().values


class SlicedMlp(nn.Module):
    """SwiGLU feed-forward network with fewer intermediate channels and an output bias."""

    def __init__(self, gate: Tensor, up: Tensor, down: Tensor, bias: Tensor) -> None:
        """Takes weights gate and up [M, D], down [D, M], and bias [D] as they are."""
        super().__init__()
        self.gate_proj = _linear(gate)
        self.up_proj = _linear(up)
        self.down_proj = _linear(down, bias)

    def forward(self, x: Tensor) -> Tensor:
        """Maps [..., D] to [..., D]."""
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


@torch.no_grad()
def slice_mlp(mlp: LlamaMlp, kept: Tensor, mean: Tensor) -> LlamaMlp | SlicedMlp:
    """Cuts a network down to some of its channels; the original stays as it is.

    The result gives what the original would give if each removed channel were replaced by its
    mean.

    Args:
        mlp: the whole network.
        kept: channels that stay, int64 [K], ascending.
        mean: mean of every channel over the calibration frames [M].

    Returns:
        A network of its own on the same device and of the same type, with contiguous weights;
        the original itself where all channels stay.
    """
    width = mlp.down_proj.in_features
    if len(mean) != width:
        raise PruningError(f'channel means have {len(mean)} values, expected {width}')
    if len(kept) == width:
        return mlp
    down = mlp.down_proj.weight
    kept = kept.to(down.device)
    is_removed = torch.ones(width, dtype=torch.bool, device=down.device)
    is_removed[kept] = False
    removed = is_removed.nonzero().squeeze(1)
    bias = down[:, removed].double() @ mean.to(down.device).double()[removed]
    return SlicedMlp(
        mlp.gate_proj.weight[kept],
        mlp.up_proj.weight[kept],
        down[:, kept].contiguous(),
        bias.to(down.dtype),
    )


def _linear(weight: Tensor, bias: Tensor | None = None) -> nn.Linear:
    # Made on the meta device: the weights given are the only ones that take memory.
    out_features, in_features = weight.shape
    layer = nn.Linear(in_features, out_features, bias=bias is not None, device='meta')
    layer.weight = nn.Parameter(weight, requires_grad=False)
    if bias is not None:
        layer.bias = nn.Parameter(bias, requires_grad=False)
    return layer
