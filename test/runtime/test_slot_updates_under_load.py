"""Ticks never see a layer that is half old and half new, however updates fall between them."""

from __future__ import annotations

import random
import threading
import time

import pytest
import torch

from efficientvla_ros.acceleration.channel_patterns import ChannelPattern
from efficientvla_ros.acceleration.compact_layer import CompactLayer, LayerRows
from efficientvla_ros.acceleration.slot_buffers import SlotBuffers
from efficientvla_ros.models.config import LlamaConfig
from efficientvla_ros.models.llama import LlamaModel
from efficientvla_ros.runtime.pruned_layers import PrunedLayers

LAYERS, CHANNELS, HEADS = 4, 48, 4
KEPT_CHANNELS, KEPT_HEADS = 32, 3
UPDATES, LENGTH = 40, 6


def stack(kv_heads: int) -> LlamaModel:
    config = LlamaConfig(
        width=32, layers=LAYERS, heads=HEADS, kv_heads=kv_heads, mlp_width=CHANNELS, vocab_size=8
    )
    generator = torch.Generator().manual_seed(0)
    model = LlamaModel(config).requires_grad_(False)
    for weight in model.parameters():
        weight.copy_(0.3 * torch.randn(weight.shape, generator=generator))
    return model


def random_pattern(generator: torch.Generator) -> ChannelPattern:
    return ChannelPattern(
        *(
            torch.stack(
                [torch.randperm(total, generator=generator)[:count] for _ in range(LAYERS)]
            )
            for total, count in ((CHANNELS, KEPT_CHANNELS), (HEADS, KEPT_HEADS))
        )
    )


def slot_orders(pruned: PrunedLayers, patterns: list[ChannelPattern]) -> list[list[tuple]]:
    """Items in the slots of each layer after each update, found one after the other."""

    def now() -> list[tuple]:
        return [
            (layer.mlp_slots.held.clone(), layer.head_slots.held.clone())
            for layer in pruned.layers
        ]

    orders = [now()]
    for pattern in patterns:
        for place, delta in enumerate(pruned.deltas(pattern)):
            pruned.apply(place, delta, 0, lambda: None)
        orders.append(now())
    return orders


@pytest.mark.parametrize('kv_heads', [4, 2])
def test_every_layer_of_every_tick_is_of_one_pattern_from_an_earlier_tick(monkeypatch, kv_heads):
    model = stack(kv_heads)
    generator = torch.Generator().manual_seed(1)
    first, *patterns = [random_pattern(generator) for _ in range(UPDATES + 1)]
    rows = [LayerRows(layer) for layer in model.layers]
    orders = slot_orders(PrunedLayers(rows, first), patterns)
    pruned = PrunedLayers(rows, first)
    tick, ends, wait = 0, threading.Event(), random.Random(2)

    apply = SlotBuffers.apply

    def slow_apply(self, delta):
        # Between feed-forward network and attention, and before the update counts.
        written = apply(self, delta)
        time.sleep(wait.uniform(0.0, 2e-4))
        return written

    def updates():
        try:
            for pattern in patterns:
                made_at = tick
                for place, delta in enumerate(pruned.deltas(pattern)):
                    pruned.apply(place, delta, made_at, lambda: time.sleep(1e-4))
        finally:
            ends.set()

    monkeypatch.setattr(SlotBuffers, 'apply', slow_apply)
    writer = threading.Thread(target=updates)
    writer.start()
    turns = model.rotary(torch.arange(LENGTH), torch.float32)
    seen = []
    while not ends.is_set():
        tick += 1
        taken = pruned.take()
        try:
            x = torch.randn(1, LENGTH, 32, generator=generator)
            for place, layer in enumerate(taken.layers):
                time.sleep(wait.choice([0.0, 1e-4]))
                out = layer(x, turns)
                if isinstance(layer, CompactLayer):
                    assert layer.intact
                    assert pruned.made_at[place] < tick
                    seen.append((place, layer.version, x, out))
                x = out
        finally:
            taken.give_back()
        time.sleep(wait.choice([0.0, 5e-4, 2e-3]))
    writer.join()

    assert [layer.version for layer in pruned.layers] == [UPDATES] * LAYERS
    assert len({version for _, version, _, _ in seen}) > 5
    for place, version, x, out in seen:
        alone = CompactLayer(rows[place], *orders[version][place])
        assert torch.equal(out, alone(x, turns)), f'layer {place} at version {version}'


def test_a_reader_without_the_lock_would_see_a_torn_layer(monkeypatch):
    model = stack(kv_heads=4)
    generator = torch.Generator().manual_seed(3)
    first, second = random_pattern(generator), random_pattern(generator)
    pruned = PrunedLayers([LayerRows(layer) for layer in model.layers], first)
    layer, turns = pruned.layers[0], model.rotary(torch.arange(LENGTH), torch.float32)
    x = torch.randn(1, LENGTH, 32, generator=generator)
    seen = []

    apply = SlotBuffers.apply

    def watched_apply(self, delta):
        taken = pruned.take()
        seen.append((layer(x, turns), layer.intact, taken.layers[0] is model.layers[0]))
        taken.give_back()
        return apply(self, delta)

    monkeypatch.setattr(SlotBuffers, 'apply', watched_apply)
    old = layer(x, turns)
    pruned.apply(0, pruned.deltas(second)[0], 1, lambda: None)
    new = layer(x, turns)
    torn, intact, runs_whole = seen[1]
    assert not torch.equal(torn, old)
    assert not torch.equal(torn, new)
    assert not intact
    assert runs_whole
