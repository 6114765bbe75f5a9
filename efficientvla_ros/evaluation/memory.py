"""Memory that a loaded policy takes."""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from torch import nn

_KIB = 1024


def memory_use(model: nn.Module) -> dict[str, int]:
    """Returns what the parameters and the process take at this moment, bytes.

    Args:
        model: the networks, on one device.

    Returns:
        `weights_bytes`: all parameters that were loaded; `rss_bytes` and `peak_rss_bytes`:
        resident memory of the process, now and at most since it started; on CUDA also
        `device_bytes` and `peak_device_bytes`: tensors on the device, now and at most.
    """
    import torch

    resident = psutil.Process().memory_info().rss
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _KIB
    found = {
        'weights_bytes': sum(p.nbytes for p in model.parameters() if not p.is_meta),
        'rss_bytes': resident,
        'peak_rss_bytes': max(peak, resident),  # the kernel updates its record now and then
    }
    device = next(p.device for p in model.parameters() if not p.is_meta)
    if device.type == 'cuda':
        found['device_bytes'] = torch.cuda.memory_allocated(device)
        found['peak_device_bytes'] = torch.cuda.max_memory_allocated(device)
    return found
