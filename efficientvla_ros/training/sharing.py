"""What processes that train together exchange."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor


@torch.no_grad()
def sum_over_processes(tensors: Sequence[Tensor]) -> None:
    """Replaces each tensor by its sum over all processes, in one exchange.

    Args:
        tensors: of one type, the same shapes in the same order in every process.
    """
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    dist.all_reduce(flat)
    parts = flat.split([tensor.numel() for tensor in tensors])
    for tensor, part in zip(tensors, parts):
        tensor.copy_(part.view_as(tensor))
