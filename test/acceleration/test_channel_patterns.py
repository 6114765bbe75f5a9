"""The channels with the highest scores stay, and the choice follows the frames."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_models import small_config

from efficientvla_ros.acceleration.channel_patterns import (
    AdaptivePatterns,
    ChannelCounts,
    channel_counts,
    choose,
    kept_kv_heads,
    layer_rows,
    rescaled_ratio,
)
from efficientvla_ros.acceleration.channel_scores import (
    ChannelHistory,
    ChannelValues,
    squared_weight_norms,
    unknown_energies,
)
from efficientvla_ros.acceleration.layer_pruning import PruningError
from efficientvla_ros.models.cogact import CogACT
from efficientvla_ros.models.config import LlamaConfig
from efficientvla_ros.models.random_weights import init_weights

CONFIG = LlamaConfig(width=16, layers=3, heads=4, kv_heads=2, mlp_width=24, vocab_size=8)
COUNTS = ChannelCounts(mlp=16, heads=3)


def values(seed: int = 0) -> ChannelValues:
    generator = torch.Generator().manual_seed(seed)
    return ChannelValues(
        torch.rand(CONFIG.layers, CONFIG.mlp_width, generator=generator) + 0.1,
        torch.rand(CONFIG.layers, CONFIG.width, generator=generator) + 0.1,
    )


def ones() -> ChannelValues:
    return ChannelValues(*(torch.ones_like(part) for part in values()))


def patterns(initial: ChannelValues | None = None, alpha: float = 0.7) -> AdaptivePatterns:
    history = ChannelHistory(values() if initial is None else initial, alpha)
    return AdaptivePatterns(ones(), history, COUNTS, CONFIG.heads)


@pytest.mark.parametrize(
    ('config', 'ratio', 'heads', 'counts'),
    [
        (LlamaConfig(), 0.25, True, (8256, 24)),
        (LlamaConfig(), 0.40, True, (6592, 20)),
        (LlamaConfig(), 0.40, False, (6592, 32)),
        (LlamaConfig(), 0.0, True, (11008, 32)),
        (LlamaConfig(width=2048, heads=8, kv_heads=1, mlp_width=16384), 0.25, True, (12288, 6)),
        (LlamaConfig(width=2048, heads=8, kv_heads=1, mlp_width=16384), 0.375, True, (10240, 5)),
        (LlamaConfig(width=100, heads=100, kv_heads=1, mlp_width=40), 0.29, True, (32, 71)),
        (LlamaConfig(width=16, heads=2, kv_heads=1, mlp_width=40), 0.49, True, (24, 2)),
    ],
)
def test_counts_are_the_published_ones(config, ratio, heads, counts):
    assert channel_counts(config, ratio, heads) == counts


@pytest.mark.parametrize('ratio', [-0.1, 1.0, float('nan')])
def test_a_ratio_that_leaves_nothing_is_refused(ratio):
    with pytest.raises(PruningError, match='expected 0 or more and below 1'):
        channel_counts(LlamaConfig(), ratio)


@given(
    st.lists(st.lists(st.integers(0, 3), min_size=12, max_size=12), min_size=1, max_size=4),
    st.integers(1, 12),
    st.integers(1, 12),
)
def test_the_highest_scores_stay_and_the_lower_index_among_equals(rows, mlp, heads):
    scores = torch.tensor(rows, dtype=torch.float32)
    pattern = choose(scores, -scores, ChannelCounts(mlp, heads))
    for row, kept, kept_heads in zip(rows, pattern.mlp.tolist(), pattern.heads.tolist()):
        order = sorted(range(12), key=lambda k, row=row: (-row[k], k))
        assert kept == sorted(order[:mlp])
        order = sorted(range(12), key=lambda k, row=row: (row[k], k))
        assert kept_heads == sorted(order[:heads])


def test_more_than_there_is_cannot_be_kept():
    scores = torch.rand(2, 4)
    with pytest.raises(PruningError, match=r'channels to keep is 5, expected 1 \.\. 4'):
        choose(scores, scores, ChannelCounts(5, 1))
    with pytest.raises(PruningError, match=r'channels to keep is 0, expected 1 \.\. 4'):
        choose(scores, scores, ChannelCounts(1, 0))


@pytest.mark.parametrize(
    ('kv_heads', 'expected'),
    [
        (8, [[0, 1, 6, 7], [2, 3, 4, 5]]),
        (4, [[0, 3], [1, 2]]),
        (2, [[0, 1], [0, 1]]),
        (1, [[0], [0]]),
    ],
)
def test_a_kv_head_stays_while_any_of_its_query_heads_stays(kv_heads, expected):
    kept = torch.tensor([[0, 1, 6, 7], [2, 3, 4, 5]])
    found = kept_kv_heads(kept, query_heads=8, kv_heads=kv_heads)
    assert [row.nonzero().flatten().tolist() for row in found] == expected


def test_layers_that_are_skipped_make_the_others_lose_more():
    assert rescaled_ratio(0.25, 32, 0) == 0.25
    assert rescaled_ratio(0.25, 32, 3) * 29 == pytest.approx(0.25 * 32)
    assert layer_rows((0, 2, 3, 7), 3) == (3, 7)
    with pytest.raises(PruningError, match=r'takes 1\.20 of the others, expected below 1'):
        rescaled_ratio(0.4, 3, 2)
    with pytest.raises(PruningError, match=r'layers to skip is 3, expected 0 \.\. 2'):
        rescaled_ratio(0.4, 3, 3)


def test_a_channel_that_becomes_strong_is_kept_from_then_on():
    initial = values()
    initial.mlp[1, 5] = 0.0
    adaptive = patterns(initial)
    before = adaptive.pattern
    copy = [part.clone() for part in before]
    assert 5 not in before.mlp[1].tolist()
    frame = initial.clone()
    frame.mlp[1, 5] = 10.0
    after = adaptive.update(frame)
    assert after is adaptive.pattern
    assert 5 in after.mlp[1].tolist()
    assert torch.equal(after.mlp[[0, 2]], before.mlp[[0, 2]])
    assert all(map(torch.equal, before, copy))  # who still runs the old choice is not disturbed


@pytest.mark.parametrize('seed', range(5))
def test_a_frozen_choice_is_that_of_calibration(seed):
    initial = values(seed)
    pattern = patterns(initial).pattern
    heads = initial.attention.unflatten(1, (CONFIG.heads, -1)).square().sum(-1)
    assert torch.equal(pattern.mlp, choose(initial.mlp, heads, COUNTS).mlp)
    assert torch.equal(pattern.heads, choose(initial.mlp, heads, COUNTS).heads)


def test_a_head_is_judged_by_the_sum_of_its_squares():
    initial = ones()
    initial.attention[:] = 1.0
    initial.attention[0, 4:8] = torch.tensor([0.0, 0.0, 0.0, 1.9])  # 3.61 < 4 ones
    initial.attention[1, 4:8] = torch.tensor([0.0, 0.0, 0.0, 2.1])
    kept = patterns(initial).pattern.heads.tolist()
    assert kept[0] == [0, 2, 3]
    assert kept[1] == [0, 1, 2]


def test_a_layer_that_is_not_finite_keeps_its_choice_and_is_counted():
    adaptive = patterns(alpha=0.0)
    before = adaptive.pattern
    frame = values(seed=1)
    expected = patterns(frame).pattern
    frame.attention[1, 3] = torch.nan
    after = adaptive.update(frame)
    for found, old, new in zip(after, before, expected):
        assert torch.equal(found[1], old[1])
        assert torch.equal(found[[0, 2]], new[[0, 2]])
    assert adaptive.rejected == 1
    adaptive.history.values.mlp[0, 0] = torch.nan
    adaptive.update(values(seed=2))
    assert adaptive.rejected == 2
    assert torch.equal(adaptive.pattern.mlp[0], after.mlp[0])
    last = values(seed=3)
    assert all(map(torch.equal, adaptive.update(last), patterns(last).pattern))
    assert adaptive.rejected == 2


def test_without_calibration_weights_decide_until_the_first_frame():
    norms = values(seed=4)
    history = ChannelHistory(unknown_energies(CONFIG, CONFIG.layers))
    adaptive = AdaptivePatterns(norms, history, COUNTS, CONFIG.heads)
    expected = patterns(norms)  # whose weights are all equal
    assert all(map(torch.equal, adaptive.pattern, expected.pattern))
    frame = values(seed=5)
    product = ChannelValues(norms.mlp * frame.mlp, norms.attention * frame.attention)
    assert all(map(torch.equal, adaptive.update(frame), patterns(product).pattern))


@pytest.mark.parametrize('kv_heads', [4, 1])
def test_leaving_out_the_lowest_scores_changes_a_layer_least(kv_heads):
    config = small_config(kv_heads).llm
    policy = init_weights(CogACT(small_config(kv_heads)), 0).requires_grad_(False)
    decoder = policy.llm_backbone.llm.model
    layer = decoder.layers[0]
    generator = torch.Generator().manual_seed(0)
    scale = torch.linspace(0.2, 2.0, config.mlp_width)[
        torch.randperm(config.mlp_width, generator=generator)
    ]
    x = torch.randn(40, config.mlp_width, generator=generator) * scale
    frame = ChannelValues(x.square().mean(0)[None], torch.ones(1, config.width))
    norms = squared_weight_norms(decoder, (0,))
    counts = ChannelCounts(config.mlp_width // 2, config.heads)
    adaptive = AdaptivePatterns(norms, ChannelHistory(frame), counts, config.heads)
    kept = torch.zeros(config.mlp_width)
    kept[adaptive.pattern.mlp[0]] = 1.0
    whole = layer.mlp.down_proj(x)
    good = (layer.mlp.down_proj(x * kept) - whole).norm()
    bad = (layer.mlp.down_proj(x * (1.0 - kept)) - whole).norm()
    assert good < 0.6 * bad
