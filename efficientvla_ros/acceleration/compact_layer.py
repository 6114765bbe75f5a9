"""Decoder layers that run on slots: fewer MLP channels, fewer attention heads, fixed addresses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from efficientvla_ros.acceleration.layer_pruning import PruningError
from efficientvla_ros.acceleration.slot_buffers import SlotBuffers, SlotDelta, slot_deltas
from efficientvla_ros.models.kv_cache import LayerCache
from efficientvla_ros.models.llama import LlamaAttention, LlamaLayer, LlamaMlp, Rope


class RowLinear(nn.Module):
    """Linear map whose weight is stored by input channel, so that a channel is one row."""

    def __init__(self, rows: Tensor) -> None:
        """Takes the transposed weight [in, out] as it is."""
        super().__init__()
        self.rows = nn.Parameter(rows, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """Maps [..., in] to [..., out]."""
        return x @ self.rows


class LayerRows:
    """The weights of a whole decoder layer by channel and by head: what slots are filled from.

    One of these serves all compact layers made from the same whole one.
    """

    def __init__(self, layer: LlamaLayer, copy: bool = True) -> None:
        """Takes a layer's weights, which must not change or move afterwards.

        Args:
            layer: the whole layer.
            copy: whether the down and output projections are kept transposed beside the
                originals: updates then read whole rows, for the memory of the two. Without it
                they gather columns.

        Raises:
            PruningError: the layer's feed-forward network is not the whole one.
        """
        mlp, attention = layer.mlp, layer.self_attn
        if not isinstance(mlp, LlamaMlp) or mlp.down_proj.weight.is_meta:
            raise PruningError(
                'slots need the whole feed-forward network, this layer has a narrow one'
            )
        self.layer = layer
        down, out = (proj.weight.detach().t() for proj in (mlp.down_proj, attention.o_proj))
        if copy:
            down, out = down.contiguous(), out.contiguous()
        self.mlp = tuple(
            weight.detach().unsqueeze(1)
            for weight in (mlp.gate_proj.weight, mlp.up_proj.weight, down)
        )
        self.query, self.key, self.value, self.out = (
            weight.detach().unflatten(0, (-1, attention.head_dim))
            for weight in (
                attention.q_proj.weight,
                attention.k_proj.weight,
                attention.v_proj.weight,
                out,
            )
        )


class CompactMlp(nn.Module):
    """SwiGLU feed-forward network on the intermediate channels in its slots."""

    def __init__(self, rows: LayerRows, channels: Tensor) -> None:
        """Allocates slots for channels, int64 [K], and fills them in this order."""
        super().__init__()
        self.slots = SlotBuffers(rows.mlp, channels)
        gate, up, down = (buffer.squeeze(1) for buffer in self.slots.buffers)
        self.gate_proj, self.up_proj, self.down_proj = _linear(gate), _linear(up), RowLinear(down)

    def forward(self, x: Tensor) -> Tensor:
        """Maps [..., D] to [..., D]."""
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class CompactAttention(LlamaAttention):
    """Attention on the query heads in its slots.

    Shapes must not depend on the choice of heads, but how many key/value heads the chosen ones
    read does where query heads share them. So these stay whole as long as they are not more than
    the slots; otherwise (always where every query head has its own) each slot holds the keys and
    values of its query head as well.
    """

    def __init__(self, rows: LayerRows, heads: Tensor) -> None:
        """Allocates slots for query heads, int64 [H], and fills them in this order."""
        nn.Module.__init__(self)
        whole = rows.layer.self_attn
        self.head_dim, self.heads = whole.head_dim, len(heads)
        self._group = whole.heads // whole.kv_heads
        self._own = whole.kv_heads > len(heads)
        sources = [rows.query, rows.out]
        if self._own:
            sources += [per_query_head(part, self._group) for part in (rows.key, rows.value)]
        self.slots = SlotBuffers(sources, heads)
        query, out, *own = (buffer.flatten(0, 1) for buffer in self.slots.buffers)
        self.q_proj, self.o_proj = _linear(query), RowLinear(out)
        self.k_proj, self.v_proj = map(_linear, own) if own else (whole.k_proj, whole.v_proj)
        self.kv_heads = self.heads if own else whole.kv_heads

    def keys_and_values(
        self, x: Tensor, rope: Rope, cache: LayerCache | None = None
    ) -> tuple[Tensor, Tensor]:
        """As for the whole layer, a head for each slot; `cache` may have room for more heads."""
        if self._own and cache is not None:
            room = (part[:, : self.kv_heads] for part in (cache.keys, cache.values))
            cache = LayerCache(*room, cache.length)
        k, v = super().keys_and_values(x, rope, cache)
        if self._own or self.kv_heads == 1:
            return k, v
        index = self.slots.held // self._group
        return k.index_select(1, index), v.index_select(1, index)


@dataclass(frozen=True, eq=False)
class LayerDelta:
    """What an update overwrites in one layer.

    Attributes:
        version: of the layer that it was computed for.
        mlp: slots of the feed-forward network; None where that has none.
        heads: slots of attention; likewise.
    """

    version: int
    mlp: SlotDelta | None
    heads: SlotDelta | None

    def __len__(self) -> int:
        """Number of slots to overwrite, of both kinds."""
        return sum(len(part) for part in (self.mlp, self.heads) if part is not None)


class CompactLayer(LlamaLayer):
    """Decoder layer whose feed-forward network, attention or both run on slots.

    It shares with the whole layer what it leaves whole. Its parameters stay where they are:
    moving or casting the module breaks it.

    An update must not run while the layer does; whoever calls `apply_delta` sees to that.

    Attributes:
        mlp_slots: of the feed-forward network; None where that is whole.
        head_slots: of attention; likewise.
        version: number of complete updates.
        intact: False while an update is under way, and after one that failed.
    """

    def __init__(
        self, rows: LayerRows, channels: Tensor | None = None, heads: Tensor | None = None
    ) -> None:
        """Allocates slots and fills them.

        Args:
            rows: weights of the whole layer.
            channels: MLP channels that stay, int64 [K]; None leaves the network whole.
            heads: query heads that stay, int64 [H]; None leaves attention whole.

        Raises:
            PruningError: there are no such channels or heads.
        """
        nn.Module.__init__(self)
        whole = rows.layer
        self.self_attn = whole.self_attn if heads is None else CompactAttention(rows, heads)
        self.mlp = whole.mlp if channels is None else CompactMlp(rows, channels)
        self.input_layernorm = whole.input_layernorm
        self.post_attention_layernorm = whole.post_attention_layernorm
        self.mlp_slots = None if channels is None else self.mlp.slots
        self.head_slots = None if heads is None else self.self_attn.slots
        both = (self.mlp_slots, self.head_slots)
        self._slots = tuple(slots for slots in both if slots is not None)
        self.version, self.intact = 0, True
        self.train(whole.training)

    @property
    def num_bytes(self) -> int:
        """Size of all slots, and what filling them anew writes."""
        return sum(slots.num_bytes for slots in self._slots)

    def apply_delta(self, delta: LayerDelta) -> int:
        """Overwrites the slots of a delta from `layer_deltas`; returns the bytes written.

        After an update that failed, whatever made it fail, all slots are filled anew.

        Raises:
            PruningError: the layer has been updated since the delta was computed.
        """
        if delta.version != self.version:
            raise PruningError(
                f'update is for version {delta.version} of a layer that has version {self.version}'
            )
        was_intact, self.intact = self.intact, False
        parts = [part for part in (delta.mlp, delta.heads) if part is not None]
        written = sum(slots.apply(part) for slots, part in zip(self._slots, parts))
        if not was_intact:
            written += sum(slots.pack(slots.held.clone()) for slots in self._slots)
        self.version += 1
        self.intact = True
        return written


def layer_deltas(
    layers: Sequence[CompactLayer], channels: Tensor | None, heads: Tensor | None
) -> list[LayerDelta]:
    """What each of some layers has to overwrite for a new choice, computed for all at once.

    Args:
        layers: those with slots of a kind have equally many.
        channels: MLP channels that stay, int64 [L, K]; rows of layers without slots for them are
            ignored, and None is enough where no layer has any.
        heads: query heads that stay, int64 [L, H]; likewise.

    Raises:
        PruningError: the choice does not fit the slots.
    """
    mlp = _deltas([layer.mlp_slots for layer in layers], channels)
    attention = _deltas([layer.head_slots for layer in layers], heads)
    return [LayerDelta(layer.version, *pair) for layer, *pair in zip(layers, mlp, attention)]


def per_query_head(weight: Tensor, group: int) -> Tensor:
    """The key or value head that each query head reads: [kv_heads, ...] to [heads, ...]."""
    return weight if group == 1 else weight.repeat_interleave(group, 0)


def _deltas(slots: list[SlotBuffers | None], wanted: Tensor | None) -> list[SlotDelta | None]:
    deltas: list[SlotDelta | None] = [None] * len(slots)
    places = [place for place, part in enumerate(slots) if part is not None]
    if not places:
        return deltas
    if wanted is None or len(wanted) != len(slots):
        rows = 'nothing' if wanted is None else f'{len(wanted)} rows'
        raise PruningError(f'new choice has {rows} for {len(slots)} layers with slots')
    held = torch.stack([slots[place].held for place in places])
    for place, delta in zip(places, slot_deltas(held, wanted[places], slots[places[0]].total)):
        deltas[place] = delta
    return deltas


def _linear(weight: Tensor) -> nn.Linear:
    # Made on the meta device: the weight given is the only one that takes memory.
    out_features, in_features = weight.shape
    layer = nn.Linear(in_features, out_features, bias=False, device='meta')
    layer.weight = nn.Parameter(weight, requires_grad=False)
    return layer
