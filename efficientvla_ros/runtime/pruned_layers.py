"""Compact layers of a plan, which ticks run and another thread changes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from weakref import WeakValueDictionary

from torch import Tensor, nn

from efficientvla_ros.acceleration.channel_patterns import ChannelPattern
from efficientvla_ros.acceleration.compact_layer import (
    CompactLayer,
    LayerDelta,
    LayerRows,
    layer_deltas,
)
from efficientvla_ros.models.llama import LlamaModel


class RowSources:
    """What slots are filled from, for each decoder layer; plans share it."""

    def __init__(self, decoder: LlamaModel) -> None:
        """Takes the whole layers; rows are made when they are asked for."""
        self._layers = decoder.layers
        self._rows: WeakValueDictionary[int, LayerRows] = WeakValueDictionary()

    def __getitem__(self, index: int) -> LayerRows:
        """Rows of decoder layer `index`."""
        rows = self._rows.get(index)
        if rows is None:
            rows = self._rows[index] = LayerRows(self._layers[index])
        return rows


class PrunedLayers:
    """Compact layers with a pattern that changes layer by layer.

    A tick takes all layers it can get before it runs any, and gives them back afterwards. It
    never waits: a layer that is being changed at this moment, or whose last change failed, runs
    whole in that tick. So all parts of a layer belong to one pattern, and none changes while a
    tick is reading.

    Attributes:
        layers: the compact layers.
        made_at: for each, the tick whose frame its pattern was chosen from.
        rows: what their slots are filled from.
    """

    def __init__(
        self,
        rows: Sequence[LayerRows],
        pattern: ChannelPattern,
        made_at: int = 0,
        whole_heads: int | None = None,
        between: Callable[[], None] = lambda: None,
    ) -> None:
        """Allocates and fills all slots.

        Args:
            rows: of the layers, in order.
            pattern: what stays, a row for each.
            made_at: the tick it was chosen from.
            whole_heads: place of the layer whose heads all stay, since tokens are scored by
                them; None for none.
            between: called before each layer.
        """
        self.rows = tuple(rows)
        self._whole_heads = whole_heads
        layers = []
        for place, row in enumerate(self.rows):
            between()
            # A layer that keeps all heads, or all channels, runs its own.
            heads = None if place == whole_heads else pattern.heads[place]
            layers.append(
                CompactLayer(
                    row,
                    _unless_all(pattern.mlp[place], len(row.mlp[0])),
                    _unless_all(heads, row.layer.self_attn.heads),
                )
            )
        self.layers = tuple(layers)
        self.made_at = [made_at] * len(layers)
        self._locks = tuple(threading.Lock() for _ in layers)

    @property
    def oldest(self) -> int:
        """The tick that the oldest pattern among the layers was chosen from."""
        return min(self.made_at)

    @property
    def num_bytes(self) -> int:
        """Size of all slots."""
        return sum(layer.num_bytes for layer in self.layers)

    def take(self) -> Taken:
        """Takes the layers for one tick."""
        got = tuple(
            lock.acquire(blocking=False) and self._usable(place)
            for place, lock in enumerate(self._locks)
        )
        return Taken(self, got)

    def deltas(self, pattern: ChannelPattern) -> list[LayerDelta]:
        """What each layer has to overwrite for a new pattern; on CUDA the host waits for it."""
        return layer_deltas(self.layers, pattern.mlp, pattern.heads)

    def apply(
        self, place: int, delta: LayerDelta, made_at: int, finish: Callable[[], None]
    ) -> int:
        """Changes one layer while no tick reads it; returns the bytes written.

        Args:
            place: which.
            delta: its part of `deltas`.
            made_at: the tick whose frame the new pattern was chosen from.
            finish: waits until the device has written all of it.
        """
        with self._locks[place]:
            written = self.layers[place].apply_delta(delta)
            finish()
            self.made_at[place] = made_at
        return written

    def _usable(self, place: int) -> bool:
        if self.layers[place].intact:
            return True
        self._locks[place].release()
        return False

    def _release(self, got: Sequence[bool]) -> None:
        for lock, is_held in zip(self._locks, got):
            if is_held:
                lock.release()


class Taken:
    """Layers as one tick runs them.

    Attributes:
        layers: compact ones, and whole ones where these were not to be had.
        whole: how many ran whole.
        oldest: the tick that the oldest pattern among them was chosen from.
    """

    def __init__(self, source: PrunedLayers, got: Sequence[bool]) -> None:
        """Takes which layers are held; see `PrunedLayers.take`."""
        self._source, self._got = source, tuple(got)
        self.layers: tuple[nn.Module, ...] = tuple(
            compact if is_held else rows.layer
            for compact, rows, is_held in zip(source.layers, source.rows, got)
        )
        self.whole = len(self._got) - sum(self._got)
        held = [made for made, is_held in zip(source.made_at, got) if is_held]
        self.oldest = min(held, default=source.oldest)

    @property
    def returned(self) -> bool:
        """Whether they have been given back."""
        return not self._got

    def give_back(self) -> None:
        """Lets the layers be changed again; harmless a second time."""
        got, self._got = self._got, ()
        self._source._release(got)


def _unless_all(kept: Tensor | None, total: int) -> Tensor | None:
    return None if kept is None or len(kept) == total else kept
