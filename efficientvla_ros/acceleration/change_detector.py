"""How much the camera image has changed, by the features of the vision towers (EcoVLA)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


class ChangeDetector:
    """Compares features with those of the frame before and of the last update's frame.

    The similarity of two frames is the mean over visual tokens of the cosine between the features
    at the same place (EcoVLA, arXiv 2602.00780, equation 5). The last update's frame is compared
    with as well because a slow change never shows between neighbouring frames.
    """

    def __init__(self, tokens: int, width: int, device: torch.device | str = 'cpu') -> None:
        """Allocates memory for frames of `tokens` features of `width` channels."""
        self._frames = torch.zeros(2, tokens, width, device=device)
        self._newest = torch.zeros(tokens, width, device=device)
        self._similarity = torch.zeros(2, device=device)

    def observe(self, features: Tensor) -> Tensor:
        """Takes a frame.

        Args:
            features: of the vision towers, before the projector, [1, tokens, width].

        Returns:
            float32 [2] on the device, in [-1, 1]: similarity to the frame before and to the
            frame of the last `mark_update`. Not a number where the features are not finite. It
            means nothing before there are such frames. The next call overwrites it.
        """
        self._newest.copy_(F.normalize(features.detach()[0].float(), dim=-1))
        cosine = (self._frames * self._newest).sum(-1)  # [2, tokens]
        torch.mean(cosine, dim=1, out=self._similarity)
        self._frames[0].copy_(self._newest)
        return self._similarity

    def mark_update(self) -> None:
        """Says that the pattern is chosen anew from the frame that was observed last."""
        self._frames[1].copy_(self._newest)
