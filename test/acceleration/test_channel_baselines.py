"""Wanda by channel and random choices: what adaptive channels are compared with."""

from __future__ import annotations

import torch
from calibration_helpers import small_policy, small_profile

from efficientvla_ros.acceleration.channel_baselines import (
    random_pattern,
    wanda_pattern,
    wanda_scores,
)
from efficientvla_ros.acceleration.channel_patterns import ChannelCounts
from efficientvla_ros.models.config import LlamaConfig

CONFIG = LlamaConfig(width=16, layers=3, heads=4, kv_heads=2, mlp_width=24, vocab_size=8)
COUNTS = ChannelCounts(mlp=16, heads=3)


def test_wanda_is_the_mean_weight_times_the_norm_of_the_input():
    policy = small_policy()
    profile = small_profile(policy)
    decoder, llm = policy.llm_backbone.llm.model, policy.config.llm
    layers = (0, 2, 4)
    scores = wanda_scores(decoder, profile, layers)
    kept = wanda_pattern(scores, ChannelCounts(64, 3), llm.heads)
    for row, layer in enumerate(layers):
        weight = decoder.layers[layer].mlp.down_proj.weight.double()
        expected = (weight.abs() * profile.mlp_mean_square[layer].sqrt()).mean(0)
        torch.testing.assert_close(scores.mlp[row].double(), expected, rtol=1e-5, atol=0)
        assert kept.mlp[row].tolist() == sorted(expected.argsort(descending=True)[:64].tolist())

        weight = decoder.layers[layer].self_attn.o_proj.weight.double()
        expected = (weight.abs() * profile.attention_mean_square[layer].sqrt()).mean(0)
        heads = expected.unflatten(0, (llm.heads, -1)).sum(1)
        assert kept.heads[row].tolist() == sorted(heads.argsort(descending=True)[:3].tolist())


def test_a_random_choice_is_that_of_its_seed_and_differs_between_layers():
    first, again = (random_pattern(CONFIG, 3, COUNTS, seed=1) for _ in range(2))
    other = random_pattern(CONFIG, 3, COUNTS, seed=2)
    assert all(map(torch.equal, first, again))
    assert not torch.equal(first.mlp, other.mlp)
    assert first.mlp.shape == (3, 16)
    assert first.heads.shape == (3, 3)
    assert not torch.equal(first.mlp[0], first.mlp[1])
    for part, size in ((first.mlp, CONFIG.mlp_width), (first.heads, CONFIG.heads)):
        assert (part.diff(dim=1) > 0).all()
        assert part.min() >= 0 and part.max() < size


def test_random_choices_keep_every_channel_equally_often():
    draws = 400
    kept = torch.zeros(CONFIG.mlp_width)
    for seed in range(draws):
        kept[random_pattern(CONFIG, 1, COUNTS, seed).mlp[0]] += 1
    share = kept / draws
    assert (share - COUNTS.mlp / CONFIG.mlp_width).abs().max() < 0.12
