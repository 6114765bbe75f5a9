"""Parts that exist during training only and are not exported."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class KeypointHead(nn.Module):
    """Finds the pixel of each object and of the gripper in the visual tokens.

    Teaches vision where things are long before the action loss does: a soft-max over patches
    for each keypoint, with an offset inside the patch.
    """

    def __init__(self, width: int, keypoints: int, side: int) -> None:
        """Creates the head for a grid of `side` x `side` tokens."""
        super().__init__()
        self.keypoints, self.side = keypoints, side
        self.linear = nn.Linear(width, 3 * keypoints)
        ticks = (torch.arange(side) + 0.5) / side
        centres = torch.stack((ticks.repeat(side), ticks.repeat_interleave(side)), dim=-1)
        self.register_buffer('centres', centres, persistent=False)

    def forward(self, visual: Tensor) -> tuple[Tensor, Tensor]:
        """Reads tokens [B, P, D].

        Returns:
            Positions [B, keypoints, 2] (x, y as fractions) and patch logits [B, keypoints, P].
        """
        out = self.linear(visual).view(*visual.shape[:2], self.keypoints, 3)
        logits = out[..., 0].transpose(1, 2)  # [B, keypoints, P]
        offset = out[..., 1:].transpose(1, 2) / self.side
        position = (logits.softmax(-1).unsqueeze(-1) * (self.centres + offset)).sum(2)
        return position, logits


class TrainingHeads(nn.Module):
    """Keypoints from vision; pixels and a directly regressed chunk from the cognition feature."""

    def __init__(self, width: int, objects: int, side: int, horizon: int, action_dim: int) -> None:
        """Creates the heads; keypoints are the objects in order, then the gripper."""
        super().__init__()
        self.horizon = horizon
        self.keypoint = KeypointHead(width, objects + 1, side)
        self.probe = _mlp(width, 4)
        self.direct = _mlp(width, horizon * action_dim)

    def chunk(self, cognition: Tensor) -> Tensor:
        """Maps features [..., D] to normalised actions [..., horizon, action_dim]."""
        return self.direct(cognition).unflatten(-1, (self.horizon, -1))


def _mlp(width: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, outputs))
