"""Image augmentation: the policy must not depend on the exact pixel or the exact light."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

MAX_SHIFT = 1 / 28
"""Largest shift as a part of the image: 4 of 112 pixels."""


def augment(images: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Shifts every image by whole pixels and changes its light.

    Args:
        images: float32 [B, 3, S, S], values in [0, 1].
        rng: source of randomness.

    Returns:
        Images of the same shape, and the shift [B, 2] (x, y) as fractions of the image.
    """
    batch, _, size, _ = images.shape
    most = round(MAX_SHIFT * size)
    shift = rng.integers(-most, most + 1, (batch, 2))
    shift[rng.random(batch) < 0.25] = 0
    padded = F.pad(images, (most,) * 4, mode='replicate')
    starts = most - shift
    moved = torch.stack(
        [padded[i, :, y : y + size, x : x + size] for i, (x, y) in enumerate(starts)]
    )
    return _relight(moved, rng), torch.as_tensor(
        shift / size, dtype=torch.float32, device=images.device
    )


def _relight(images: Tensor, rng: np.random.Generator) -> Tensor:
    def draw(low: float, high: float, *shape: int) -> Tensor:
        values = rng.uniform(low, high, shape).astype(np.float32)
        return torch.from_numpy(values).to(images.device)

    batch = len(images)
    gain = draw(0.75, 1.25, batch, 1, 1, 1) * draw(0.95, 1.05, batch, 3, 1, 1)
    contrast = draw(0.85, 1.15, batch, 1, 1, 1)
    mean = images.mean(dim=(2, 3), keepdim=True)
    lit = ((images - mean) * contrast + mean) * gain
    seed = int(rng.integers(2**31))
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(seed))
    return (lit + noise.to(images.device) * draw(0.0, 0.03, batch, 1, 1, 1)).clamp(0.0, 1.0)
