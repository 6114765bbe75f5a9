"""Slots: weights of the chosen channels or heads, contiguous and at fixed addresses.

A compact network runs on buffers that hold the rows of a fixed number of items (channels of a
feed-forward network, or attention heads), one item in each slot. A new choice overwrites only the
slots whose item has gone, so shapes, addresses and everything prepared for them stay valid, and
the cost grows with the change alone. The order of items in the slots has no influence on what the
network computes, apart from the rounding of sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from efficientvla_ros.acceleration.layer_pruning import PruningError


@dataclass(frozen=True, eq=False)
class SlotDelta:
    """Slots to overwrite, and what goes there.

    Attributes:
        slots: int64 [N], ascending.
        items: int64 [N], ascending: item `items[n]` goes to slot `slots[n]`.
    """

    slots: Tensor
    items: Tensor

    def __len__(self) -> int:
        """Number of slots to overwrite."""
        return len(self.slots)


@torch.no_grad()
def slot_deltas(held: Tensor, wanted: Tensor, total: int) -> list[SlotDelta]:
    """What has to be overwritten to get from one choice to another, in several layers at once.

    Items that stay keep their slots. The slots of those that go, ascending, take the new items,
    ascending.

    Args:
        held: item in each slot, int64 [L, K].
        wanted: items of the new choice in any order, each once, int64 [L, K].
        total: number of items to choose from.

    Returns:
        One delta per layer, on the device of `held`. On CUDA the host waits for them.

    Raises:
        PruningError: the choice is of another size, out of range or has an item twice.
    """
    if wanted.shape != held.shape or wanted.dtype != torch.int64:
        raise PruningError(
            f'new choice is {wanted.dtype} {tuple(wanted.shape)}, '
            f'expected torch.int64 {tuple(held.shape)}'
        )
    wanted = wanted.to(held.device)
    if ((wanted < 0) | (wanted >= total)).any():
        raise PruningError(f'new choice has items out of range, expected 0 .. {total - 1}')
    rows = torch.zeros(2, len(held), total, dtype=torch.bool, device=held.device)
    present, needed = rows[0].scatter_(1, held, True), rows[1].scatter_(1, wanted, True)
    stale, fresh = ~needed.gather(1, held), needed & ~present
    counts = torch.stack((stale.sum(1), fresh.sum(1))).tolist()
    if counts[0] != counts[1]:
        raise PruningError('new choice has an item twice, expected each once')
    # Both lists run through the layers in order and have the same number of entries in each.
    slots = stale.nonzero()[:, 1].split(counts[0])
    items = fresh.nonzero()[:, 1].split(counts[1])
    return [SlotDelta(*pair) for pair in zip(slots, items)]


class SlotBuffers:
    """One set of slots with several buffers, which always hold the same items.

    Attributes:
        buffers: one per source, [K, rows, D], contiguous; never allocated again.
        held: item in each slot, int64 [K], on the device of the buffers.
        total: number of items to choose from.
    """

    def __init__(self, sources: Sequence[Tensor], items: Tensor) -> None:
        """Allocates the buffers and fills them.

        Args:
            sources: weights of all items, each [total, rows, D] of any strides; kept, not copied.
            items: for the slots in their order, each once, int64 [K].

        Raises:
            PruningError: there are no such items.
        """
        self._sources = tuple(source.detach() for source in sources)
        self.total = len(self._sources[0])
        if items.ndim != 1 or not 1 <= len(items) <= self.total:
            raise PruningError(
                f'{items.numel()} items for slots, expected 1 .. {self.total} in one dimension'
            )
        # Whoever updates the slots later may do so in another mode than whoever makes them.
        with torch.inference_mode(False):
            self.held = torch.empty(len(items), dtype=torch.int64, device=self._sources[0].device)
            self.buffers = tuple(
                torch.empty(len(items), *part.shape[1:], dtype=part.dtype, device=part.device)
                for part in self._sources
            )
        self.pack(items)

    def __len__(self) -> int:
        """Number of slots."""
        return len(self.held)

    @property
    def num_bytes(self) -> int:
        """Size of all buffers."""
        return sum(buffer.numel() * buffer.element_size() for buffer in self.buffers)

    def delta(self, wanted: Tensor) -> SlotDelta:
        """What `apply` needs to hold the items `wanted` [K]; see `slot_deltas`."""
        return slot_deltas(self.held.unsqueeze(0), wanted.unsqueeze(0), self.total)[0]

    @torch.no_grad()
    def pack(self, items: Tensor) -> int:
        """Fills every slot: item `items[n]` in slot n; returns the bytes written.

        Raises:
            PruningError: they are not as many as slots, out of range, or not each once.
        """
        items = items.to(self.held.device)
        if items.shape != self.held.shape or items.dtype != torch.int64:
            raise PruningError(
                f'items for slots are {items.dtype} {tuple(items.shape)}, '
                f'expected torch.int64 {tuple(self.held.shape)}'
            )
        if items.min() < 0 or items.max() >= self.total or len(items.unique()) != len(items):
            raise PruningError(
                f'items for slots are out of range or repeated, '
                f'expected 0 .. {self.total - 1}, each once'
            )
        for source, buffer in zip(self._sources, self.buffers):
            torch.index_select(source, 0, items, out=buffer)
        self.held.copy_(items)
        return self.num_bytes

    @torch.no_grad()
    def apply(self, delta: SlotDelta) -> int:
        """Overwrites the slots of a delta in every buffer; returns the bytes written.

        The delta must have been computed from the items that are held now.
        """
        if not len(delta):
            return 0
        for source, buffer in zip(self._sources, self.buffers):
            buffer.index_copy_(0, delta.slots, source.index_select(0, delta.items))
        self.held.index_copy_(0, delta.slots, delta.items)
        return self.num_bytes // len(self) * len(delta)
