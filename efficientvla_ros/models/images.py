"""Camera image to network input."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def resize_image(image: np.ndarray, size: int) -> np.ndarray:
    """Resizes uint8 [H, W, 3] to [size, size, 3] without keeping the aspect ratio.

    Bicubic with antialiasing on uint8: within two levels of Pillow's, which the released
    checkpoints were trained with. An image that already has the size is returned as it is.
    """
    if image.shape[:2] == (size, size):
        return image
    source = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1).unsqueeze(0)
    resized = F.interpolate(source, (size, size), mode='bicubic', antialias=True)
    return resized[0].permute(1, 2, 0).numpy()


def to_input(image: np.ndarray, size: int) -> Tensor:
    """Maps uint8 [H, W, 3] to float32 [1, 3, size, size] with values in [0, 1]."""
    resized = np.ascontiguousarray(resize_image(image, size))
    return torch.from_numpy(resized).permute(2, 0, 1).unsqueeze(0).float() / 255.0
