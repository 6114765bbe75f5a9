"""A compact decoder layer gives what the whole one gives with the rest masked out."""

from __future__ import annotations

import pytest
import torch
from compact_helpers import (
    CHANNELS,
    DEVICES,
    HEADS,
    choice,
    compact,
    config,
    masked,
    random_layer,
    random_tokens,
    rope,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from efficientvla_ros.acceleration.compact_layer import CompactLayer, LayerRows, layer_deltas
from efficientvla_ros.acceleration.layer_pruning import PruningError
from efficientvla_ros.acceleration.token_scores import relevance, score_and_run
from efficientvla_ros.acceleration.width_pruning import slice_mlp
from efficientvla_ros.models.kv_cache import KVCache

KV_HEADS = [8, 4, 2, 1]


def update(layer: CompactLayer, channels: torch.Tensor, heads: torch.Tensor) -> int:
    device = layer.input_layernorm.weight.device
    delta = layer_deltas([layer], channels[None].to(device), heads[None].to(device))[0]
    return layer.apply_delta(delta)


@settings(deadline=None)
@given(
    seed=st.integers(0, 1000),
    kv_heads=st.sampled_from(KV_HEADS),
    channels=st.integers(1, CHANNELS) | st.none(),
    heads=st.integers(1, HEADS) | st.none(),
    last_only=st.booleans(),
)
def test_compact_equals_masked_dense_for_random_patterns(
    seed, kv_heads, channels, heads, last_only
):
    generator = torch.Generator().manual_seed(seed)
    layer = random_layer(kv_heads, torch.float64, seed=seed)
    channels = None if channels is None else choice(CHANNELS, channels, generator)
    heads = None if heads is None else choice(HEADS, heads, generator)
    x, turns = random_tokens(11, torch.float64), rope(11, torch.float64)
    out = compact(layer, channels, heads)(x, turns, None, None, last_only)
    expected = masked(layer, channels, heads)(x, turns, None, None, last_only)
    torch.testing.assert_close(out, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize(('dtype', 'tolerance'), [(torch.float32, 1e-5), (torch.bfloat16, 3e-2)])
@pytest.mark.parametrize('kv_heads', KV_HEADS)
def test_compact_equals_masked_dense_in_the_precisions_that_models_run_in(
    kv_heads, dtype, tolerance, device
):
    generator = torch.Generator().manual_seed(1)
    layer = random_layer(kv_heads, dtype, device)
    channels, heads = choice(CHANNELS, 72, generator), choice(HEADS, 6, generator)
    x = random_tokens(11, dtype, device)
    out = compact(layer, channels, heads)(x, rope(11, dtype, device))
    expected = masked(layer, channels, heads)(x.double(), rope(11, torch.float64, device))
    error = (out.double() - expected).norm() / expected.norm()
    assert out.dtype == dtype
    assert error < tolerance


@pytest.mark.parametrize('kv_heads', KV_HEADS)
def test_what_is_seen_follows_the_mask(kv_heads):
    generator = torch.Generator().manual_seed(2)
    layer = random_layer(kv_heads, torch.float64)
    heads = choice(HEADS, 3, generator)
    seen = torch.rand(11, 11, generator=generator) < 0.5
    seen |= torch.eye(11, dtype=torch.bool)
    x, turns = random_tokens(11, torch.float64), rope(11, torch.float64)
    out = compact(layer, None, heads)(x, turns, seen)
    torch.testing.assert_close(out, masked(layer, None, heads)(x, turns, seen))


def test_a_layer_without_slots_is_the_whole_one_to_the_last_bit():
    layer = random_layer()
    x, turns = random_tokens(11), rope(11)
    assert torch.equal(compact(layer, None, None)(x, turns), layer(x, turns))


@pytest.mark.parametrize('kv_heads', KV_HEADS)
@pytest.mark.parametrize('kept', [2, 5])
def test_token_by_token_with_a_cache_equals_the_whole_sequence(kv_heads, kept):
    generator = torch.Generator().manual_seed(3)
    layer = random_layer(kv_heads, torch.float64)
    channels, heads = choice(CHANNELS, 40, generator), choice(HEADS, kept, generator)
    small = compact(layer, channels, heads)
    x = random_tokens(9, torch.float64)
    expected = small(x, rope(9, torch.float64))
    cache = KVCache(config(kv_heads), 9, dtype=torch.float64)
    prompt = small(x[:, :6], rope(6, torch.float64), None, cache.layer(0))
    torch.testing.assert_close(prompt, expected[:, :6])
    for position in range(6, 9):
        cache.length = position
        turns = rope(1, torch.float64, start=position)
        step = small(x[:, position : position + 1], turns, None, cache.layer(0), True)
        torch.testing.assert_close(step, expected[:, position : position + 1])


@pytest.mark.parametrize('kv_heads', KV_HEADS)
def test_the_scoring_layer_of_token_selection_can_be_compact(kv_heads):
    generator = torch.Generator().manual_seed(4)
    layer = random_layer(kv_heads)
    small = compact(layer, choice(CHANNELS, 40, generator), choice(HEADS, 8, generator))
    x, turns = random_tokens(11), rope(11)
    rows = torch.ones(1, 3, dtype=torch.bool)
    out, scores = score_and_run(small, x, turns, rows)
    assert torch.equal(out, small(x, turns))
    # With all heads, whatever their order, the scores are those of the whole layer.
    torch.testing.assert_close(scores, relevance(layer, x, turns, rows))


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize('kv_heads', [8, 2])
def test_a_thousand_random_updates_leave_what_fresh_packing_makes(kv_heads, dtype, device):
    generator = torch.Generator().manual_seed(5)
    layer = random_layer(kv_heads, dtype, device)
    small = compact(layer, torch.arange(72), torch.arange(5))
    addresses = {name: part.data_ptr() for name, part in small.named_parameters()}
    for _ in range(1000):
        update(small, choice(CHANNELS, 72, generator), choice(HEADS, 5, generator))
    assert small.version == 1000
    fresh = compact(layer, small.mlp_slots.held.clone(), small.head_slots.held.clone())
    for (name, updated), packed in zip(small.named_parameters(), fresh.parameters()):
        assert torch.equal(updated, packed), name
    assert {name: part.data_ptr() for name, part in small.named_parameters()} == addresses
    x, turns = random_tokens(11, dtype, device), rope(11, dtype, device)
    assert torch.equal(small(x, turns), fresh(x, turns))


def test_gathering_columns_gives_the_same_slots_as_a_transposed_copy():
    layer = random_layer()
    generator = torch.Generator().manual_seed(6)
    pattern = choice(CHANNELS, 40, generator), choice(HEADS, 3, generator)
    both = [compact(layer, torch.arange(40), torch.arange(3), rows) for rows in (True, False)]
    for small in both:
        update(small, *pattern)
    for copied, gathered in zip(*(small.parameters() for small in both)):
        assert torch.equal(copied, gathered)


def test_an_update_at_five_percent_writes_a_twentieth_of_a_repack():
    layer = random_layer()
    small = compact(layer, torch.arange(80), torch.arange(8))
    wanted = torch.cat((torch.arange(76), torch.arange(92, 96)))
    written = update(small, wanted, torch.arange(8))
    assert written * 20 == small.mlp_slots.num_bytes
    assert small.num_bytes == small.mlp_slots.num_bytes + small.head_slots.num_bytes


def test_several_layers_are_updated_from_one_choice():
    generator = torch.Generator().manual_seed(7)
    whole = [random_layer(seed=seed) for seed in range(3)]
    # The second one keeps its attention whole.
    heads = [torch.arange(6), None, torch.arange(6)]
    layers = [compact(layer, torch.arange(72), part) for layer, part in zip(whole, heads)]
    channels = torch.stack([choice(CHANNELS, 72, generator) for _ in layers])
    heads = torch.stack([choice(HEADS, 6, generator) for _ in layers])
    for layer, delta in zip(layers, layer_deltas(layers, channels, heads)):
        layer.apply_delta(delta)
    for row, layer in enumerate(layers):
        assert set(layer.mlp_slots.held.tolist()) == set(channels[row].tolist())
    assert layers[1].head_slots is None
    for row in (0, 2):
        assert set(layers[row].head_slots.held.tolist()) == set(heads[row].tolist())


def test_a_choice_for_other_layers_is_refused():
    layers = [compact(random_layer(), torch.arange(72), None)]
    with pytest.raises(PruningError, match='has 2 rows for 1 layers'):
        layer_deltas(layers, torch.arange(72).repeat(2, 1), None)
    with pytest.raises(PruningError, match='has nothing for 1 layers'):
        layer_deltas(layers, None, torch.arange(8)[None])
    with pytest.raises(PruningError, match=r'\(1, 64\), expected torch.int64 \(1, 72\)'):
        layer_deltas(layers, torch.arange(64)[None], None)


def test_a_delta_from_before_another_update_is_refused():
    generator = torch.Generator().manual_seed(8)
    small = compact(random_layer(), torch.arange(72), None)
    old = layer_deltas([small], choice(CHANNELS, 72, generator)[None], None)[0]
    small.apply_delta(old)
    with pytest.raises(PruningError, match='for version 0 of a layer that has version 1'):
        small.apply_delta(old)
    assert small.intact


def test_an_update_that_fails_half_way_shows_and_the_next_one_repairs_it(monkeypatch):
    generator = torch.Generator().manual_seed(9)
    layer = random_layer()
    small = compact(layer, torch.arange(72), torch.arange(5))

    def fail(delta):
        small.head_slots.buffers[0].zero_()
        raise RuntimeError('out of memory')

    with monkeypatch.context() as broken:
        broken.setattr(small.head_slots, 'apply', fail)
        with pytest.raises(RuntimeError, match='out of memory'):
            update(small, choice(CHANNELS, 72, generator), choice(HEADS, 5, generator))
    assert not small.intact
    assert small.version == 0
    update(small, choice(CHANNELS, 72, generator), choice(HEADS, 5, generator))
    assert small.intact
    fresh = compact(layer, small.mlp_slots.held.clone(), small.head_slots.held.clone())
    for updated, packed in zip(small.parameters(), fresh.parameters()):
        assert torch.equal(updated, packed)


@pytest.mark.parametrize('made_in_inference', [True, False])
def test_layers_can_be_made_and_updated_in_different_modes(made_in_inference):
    generator = torch.Generator().manual_seed(10)
    layer, x, turns = random_layer(), random_tokens(11), rope(11)
    with torch.inference_mode(made_in_inference):
        small = compact(layer, torch.arange(72), torch.arange(5))
    with torch.inference_mode(not made_in_inference):
        update(small, choice(CHANNELS, 72, generator), choice(HEADS, 5, generator))
    fresh = compact(layer, small.mlp_slots.held.clone(), small.head_slots.held.clone())
    with torch.inference_mode():
        assert torch.equal(small(x, turns), fresh(x, turns))


def test_what_stays_whole_is_shared_and_transposed_weights_serve_all_ratios():
    layer = random_layer(kv_heads=2)
    rows = LayerRows(layer)
    quarter, half = (CompactLayer(rows, torch.arange(count), None) for count in (72, 48))
    assert quarter.self_attn is half.self_attn is layer.self_attn
    assert quarter.input_layernorm is layer.input_layernorm
    # Two query heads' worth of keys and values serve all slots, so nothing of them is copied.
    grouped = CompactLayer(rows, None, torch.arange(6))
    assert grouped.self_attn.k_proj is layer.self_attn.k_proj
    assert grouped.mlp is layer.mlp
    assert grouped.num_bytes == 2 * 6 * 8 * 64 * 4


def test_slots_need_the_whole_feed_forward_network():
    layer = random_layer()
    narrow = layer.with_mlp(slice_mlp(layer.mlp, torch.arange(8), torch.zeros(CHANNELS)))
    with pytest.raises(PruningError, match='need the whole feed-forward network'):
        LayerRows(narrow)
    layer.mlp.to('meta')
    with pytest.raises(PruningError, match='need the whole feed-forward network'):
        LayerRows(layer)
