"""What it costs to change the channels that are held in slots, against filling all slots anew."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from efficientvla_ros.evaluation.statistics import percentiles

if TYPE_CHECKING:
    from torch import Tensor

    from efficientvla_ros.acceleration.channel_patterns import ChannelPattern
    from efficientvla_ros.runtime.engine import Engine
    from efficientvla_ros.runtime.pruned_layers import PrunedLayers

CHANGES = 0.01, 0.05, 0.1, 0.2, 0.5
"""Shares of the MLP channels held that change."""

REPEATS = 20


def measure_slots(
    engine: Engine,
    ratio: float = 0.25,
    changes: Sequence[float] = CHANGES,
    repeats: int = REPEATS,
) -> dict[str, Any]:
    """Times changes of all layers of a model, by turns with filling all of their slots.

    Heads change as far as the share makes up whole ones, and what is left out differs from one
    repetition to the next. A choice made at random takes the place of one by scores: choosing is
    not part of what is measured.

    Args:
        engine: its model lends the weights.
        ratio: share of the channels that the slots leave out.
        changes: shares of the channels that change.
        repeats: of each measurement.

    Returns:
        `ratio`, `slots_bytes`, `repack_s` (percentiles), and for each share in `changes` its
        `share`, `heads` that change in every layer, `bytes` written, percentiles of `compare_s`
        (which slots are to be overwritten) and `write_s` (overwriting them), and `part_of_repack`,
        of the medians: `write` alone, and `update` with the comparison.
    """
    import torch

    from efficientvla_ros.acceleration.channel_baselines import random_pattern
    from efficientvla_ros.acceleration.channel_patterns import channel_counts
    from efficientvla_ros.runtime.pruned_layers import PrunedLayers, RowSources

    decoder, llm = engine.model.llm_backbone.llm.model, engine.config.llm
    device = decoder.norm.weight.device
    rows, depth = RowSources(decoder), len(decoder.layers)
    counts = channel_counts(llm, ratio)
    with torch.inference_mode():
        start = random_pattern(llm, depth, counts, 0, device)
        pruned = PrunedLayers([rows[index] for index in range(depth)], start)
        finish = torch.cuda.synchronize if device.type == 'cuda' else _nothing
        generator = torch.Generator().manual_seed(1)
        moves = {share: _move(counts, llm, share) for share in changes}
        found = {share: _Change(pruned, finish) for share in changes}
        repack: list[float] = []
        for repeat in range(repeats + 1):
            for share, change in found.items():
                pattern = _changed(pruned, llm, moves[share], generator)
                change.run(pattern, counts=repeat > 0)
            seconds = _timed(lambda: _repack(pruned), finish)
            if repeat:
                repack.append(seconds)
    whole = percentiles(repack)
    rows_of = [change.row(share, moves[share][1], whole['p50']) for share, change in found.items()]
    return {'ratio': ratio, 'slots_bytes': pruned.num_bytes, 'repack_s': whole, 'changes': rows_of}


class _Change:
    """Changes of one size."""

    def __init__(self, pruned: PrunedLayers, finish: Callable[[], None]) -> None:
        self._pruned, self._finish = pruned, finish
        self._compare: list[float] = []
        self._write: list[float] = []
        self._bytes = 0

    def run(self, pattern: ChannelPattern, counts: bool) -> None:
        deltas: list[Any] = []
        compare = _timed(lambda: deltas.extend(self._pruned.deltas(pattern)), self._finish)
        write = _timed(lambda: self._apply(deltas), self._finish)
        if counts:
            self._compare.append(compare)
            self._write.append(write)

    def row(self, share: float, heads: int, repack_s: float) -> dict[str, Any]:
        compare, write = percentiles(self._compare), percentiles(self._write)
        return {
            'share': share,
            'heads': heads,
            'bytes': self._bytes,
            'compare_s': compare,
            'write_s': write,
            'part_of_repack': {
                'write': write['p50'] / repack_s,
                'update': (write['p50'] + compare['p50']) / repack_s,
            },
        }

    def _apply(self, deltas: Sequence[Any]) -> None:
        self._bytes = sum(
            self._pruned.apply(place, delta, 0, _nothing) for place, delta in enumerate(deltas)
        )


def _move(counts: Any, llm: Any, share: float) -> tuple[int, int]:
    # Channels and heads that change, no more than there are outside the slots.
    channels = min(round(share * counts.mlp), llm.mlp_width - counts.mlp)
    return channels, min(round(share * counts.heads), llm.heads - counts.heads)


def _changed(
    pruned: PrunedLayers, llm: Any, move: tuple[int, int], generator: Any
) -> ChannelPattern:
    import torch

    from efficientvla_ros.acceleration.channel_patterns import ChannelPattern

    def kind(slots: Sequence[Any], total: int, change: int) -> Tensor:
        if slots[0] is None:  # nothing is left out of this kind
            return torch.arange(total).expand(len(slots), -1)
        return torch.stack([_swapped(part.held, total, change, generator) for part in slots])

    return ChannelPattern(
        kind([layer.mlp_slots for layer in pruned.layers], llm.mlp_width, move[0]),
        kind([layer.head_slots for layer in pruned.layers], llm.heads, move[1]),
    )


def _swapped(held: Tensor, total: int, change: int, generator: Any) -> Tensor:
    """Items [K] of which `change` are others than those held."""
    import torch

    inside = torch.zeros(total, dtype=torch.bool).index_fill_(0, held.cpu(), True)
    outside = (~inside).nonzero().flatten()
    new = outside[torch.randperm(len(outside), generator=generator)[:change]]
    items = held.cpu().clone()
    items[torch.randperm(len(items), generator=generator)[:change]] = new
    return items.sort().values.to(held.device)


def _repack(pruned: PrunedLayers) -> None:
    for layer in pruned.layers:
        for slots in (layer.mlp_slots, layer.head_slots):
            if slots is not None:
                slots.pack(slots.held.clone())


def _timed(work: Callable[[], object], finish: Callable[[], None]) -> float:
    finish()
    start = time.perf_counter()
    work()
    finish()
    return time.perf_counter() - start


def _nothing() -> None:
    """CPU work is done when it returns."""
