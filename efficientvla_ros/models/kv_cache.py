"""Keys and values of the positions that a decoder has seen, in one block of memory."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from efficientvla_ros.models.config import LlamaConfig


@dataclass(frozen=True)
class LayerCache:
    """One layer's part of a cache.

    Attributes:
        keys: [B, kv_heads, capacity, head_dim], a view of the cache's memory.
        values: the same.
        length: positions held before the pass under way.
    """

    keys: Tensor
    values: Tensor
    length: int

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Writes [B, kv_heads, S, head_dim] in place; returns all positions up to the new end."""
        end = self.length + k.shape[2]
        self.keys[:, :, self.length : end].copy_(k)
        self.values[:, :, self.length : end].copy_(v)
        return self.keys[:, :, :end], self.values[:, :, :end]


class KVCache:
    """Keys and values of all layers; allocated once, written in place.

    Attributes:
        length: positions seen; set to 0 to begin a new sequence.
    """

    def __init__(
        self,
        config: LlamaConfig,
        capacity: int,
        *,
        batch: int = 1,
        device: torch.device | str = 'cpu',
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Allocates room for `capacity` positions."""
        shape = (config.layers, 2, batch, config.kv_heads, capacity, config.head_dim)
        self._memory = torch.zeros(shape, device=device, dtype=dtype)
        self.length = 0

    @property
    def capacity(self) -> int:
        """Positions that fit."""
        return self._memory.shape[4]

    @property
    def num_bytes(self) -> int:
        """Size of the memory."""
        return self._memory.numel() * self._memory.element_size()

    def layer(self, index: int, dropped: int = 0) -> LayerCache:
        """The part of decoder layer `index`.

        Args:
            index: of the layer in the model.
            dropped: positions of the prompt that never reached this layer.
        """
        keys, values = self._memory[index]
        return LayerCache(keys, values, max(0, self.length - dropped))
