"""Energies, their history and scores are those of a naive float64 computation."""

from __future__ import annotations

import pytest
import torch
from calibration_helpers import random_samples, small_policy
from small_models import small_config

from efficientvla_ros.acceleration.calibration import calibrate, embed
from efficientvla_ros.acceleration.channel_scores import (
    ChannelHistory,
    ChannelValues,
    EnergyBuffer,
    channel_scores,
    energy,
    head_scores,
    initial_energies,
    squared_weight_norms,
    unknown_energies,
)
from efficientvla_ros.models.cogact import CogACT
from efficientvla_ros.models.config import LlamaConfig
from efficientvla_ros.models.llama import LlamaModel
from efficientvla_ros.models.random_weights import init_weights

CONFIG = LlamaConfig(width=16, layers=4, heads=4, kv_heads=2, mlp_width=24, vocab_size=8)


def values(layers: int = 3, seed: int = 0) -> ChannelValues:
    generator = torch.Generator().manual_seed(seed)
    return ChannelValues(
        torch.rand(layers, CONFIG.mlp_width, generator=generator) + 0.01,
        torch.rand(layers, CONFIG.width, generator=generator) + 0.01,
    )


def recorded(decoder: LlamaModel, x: torch.Tensor) -> tuple[EnergyBuffer, dict[str, list]]:
    """Runs a decoder; energies as the buffer takes them, and the inputs that they are of."""
    config = LlamaConfig(
        width=decoder.norm.weight.numel(), mlp_width=decoder.layers[0].mlp.down_proj.in_features
    )
    buffer = EnergyBuffer(config, len(decoder.layers))
    inputs: dict[str, list] = {'mlp': [], 'attention': []}
    for place, layer in enumerate(decoder.layers):

        def on_mlp(module, arguments, place=place):
            buffer.write_mlp(place, arguments[0])
            inputs['mlp'].append(arguments[0].double())

        def on_attention(module, arguments, place=place):
            buffer.write_attention(place, arguments[0])
            inputs['attention'].append(arguments[0].double())

        layer.mlp.down_proj.register_forward_pre_hook(on_mlp)
        layer.self_attn.o_proj.register_forward_pre_hook(on_attention)
    decoder(x)
    return buffer, inputs


def naive_energy(x: torch.Tensor) -> torch.Tensor:
    positions, channels = x.shape
    return torch.tensor(
        [sum(x[s, k].item() ** 2 for s in range(positions)) / positions for k in range(channels)],
        dtype=torch.float64,
    )


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_energy_is_the_mean_square_over_the_sequence_in_float32(dtype):
    x = (3.0 * torch.randn(1, 13, 7)).to(dtype)
    found = energy(x)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), naive_energy(x[0].double()), rtol=1e-6, atol=0)


def test_energy_does_not_depend_on_how_many_tokens_there_are():
    x = torch.randn(1, 8, 5, dtype=torch.float64)
    torch.testing.assert_close(energy(torch.cat((x, x, x), dim=1)), energy(x))


def test_a_buffer_keeps_its_memory():
    buffer = EnergyBuffer(CONFIG, 2)
    before = [part.data_ptr() for part in buffer.values]
    for place in range(2):
        buffer.write_mlp(place, torch.full((1, 5, CONFIG.mlp_width), place + 1.0))
        buffer.write_attention(place, torch.full((1, 3, CONFIG.width), place + 2.0))
    assert [part.data_ptr() for part in buffer.values] == before
    assert buffer.values.mlp.unique(dim=1).tolist() == [[1.0], [4.0]]
    assert buffer.values.attention.unique(dim=1).tolist() == [[4.0], [9.0]]


@pytest.mark.parametrize('kv_heads', [4, 2, 1])
def test_scores_of_a_running_decoder_are_the_unfactored_ones_in_float64(kv_heads):
    # Probe Pruning scores weight by weight, W^2 times the feature, and takes the norm over the
    # outputs, for a head over the channels of the head as well.
    alpha = 0.7
    config = small_config(kv_heads)
    policy = init_weights(CogACT(config), 3).eval().requires_grad_(False)
    decoder = policy.llm_backbone.llm.model
    profile = calibrate(policy, random_samples(2), source='random')
    layers = range(config.llm.layers)
    buffer, inputs = recorded(decoder, embed(policy, random_samples(5)[4]))

    history = ChannelHistory(initial_energies(profile, layers), alpha)
    fused, finite = history.add(buffer.values)
    scores = channel_scores(squared_weight_norms(decoder, layers), fused)
    heads = head_scores(scores.attention, config.llm.heads)

    assert finite.all()
    for layer in layers:
        before = profile.mlp_mean_square[layer]
        feature = alpha * before + (1 - alpha) * naive_energy(inputs['mlp'][layer][0])
        weight = decoder.layers[layer].mlp.down_proj.weight.double()
        expected = (weight.square() * feature).square().sum(0).sqrt()
        torch.testing.assert_close(scores.mlp[layer].double(), expected, rtol=1e-5, atol=0)

        before = profile.attention_mean_square[layer]
        feature = alpha * before + (1 - alpha) * naive_energy(inputs['attention'][layer][0])
        weight = decoder.layers[layer].self_attn.o_proj.weight.double()
        by_head = (weight.square() * feature).unflatten(1, (config.llm.heads, -1))
        expected = by_head.square().sum((0, 2)).sqrt()
        torch.testing.assert_close(heads[layer].double(), expected, rtol=1e-5, atol=0)


def test_the_history_of_a_plan_is_that_of_its_layers():
    policy = small_policy(layers=5)
    profile = calibrate(policy, random_samples(2), source='random')
    found = initial_energies(profile, (0, 3, 4))
    assert found.mlp.dtype == torch.float32
    torch.testing.assert_close(found.mlp.double(), profile.mlp_mean_square[[0, 3, 4]])
    torch.testing.assert_close(found.attention.double(), profile.attention_mean_square[[0, 3, 4]])
    norms = squared_weight_norms(policy.llm_backbone.llm.model, (0, 3, 4))
    whole = squared_weight_norms(policy.llm_backbone.llm.model, range(5))
    assert torch.equal(norms.mlp, whole.mlp[[0, 3, 4]])


def test_calibration_and_ticks_measure_the_same_energy():
    policy = small_policy(layers=3)
    sample = random_samples(1)[0]
    profile = calibrate(policy, [sample], source='random')
    buffer, _ = recorded(policy.llm_backbone.llm.model, embed(policy, sample))
    initial = initial_energies(profile, range(3))
    torch.testing.assert_close(buffer.values.mlp, initial.mlp)
    torch.testing.assert_close(buffer.values.attention, initial.attention)


def assert_near(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found.double(), expected, rtol=2e-6, atol=0.0)


def test_a_frame_is_fused_with_the_history_before_it_joins_the_history():
    alpha, decay = 0.7, 0.99
    start = values()
    history = ChannelHistory(start, alpha, decay)
    memory = [part.data_ptr() for part in history.values]
    expected = [part.double() for part in start]
    for seed in range(1, 200):
        frame = values(seed=seed)
        fused = history.add(frame)
        assert fused.finite.all()
        for index, part in enumerate(frame):
            wanted = alpha * expected[index] + (1 - alpha) * part.double()
            assert_near(fused.energies[index], wanted)
            expected[index] = decay * expected[index] + (1 - decay) * part.double()
            assert_near(history.values[index], expected[index])
    assert [part.data_ptr() for part in history.values] == memory
    history.reset()
    assert all(map(torch.equal, history.values, start))


@pytest.mark.parametrize(('alpha', 'part'), [(0.0, 'frame'), (1.0, 'history')])
def test_the_ends_of_alpha_are_the_frame_alone_and_the_history_alone(alpha, part):
    start, frame = values(), values(seed=1)
    fused = ChannelHistory(start, alpha).add(frame).energies
    assert all(map(torch.equal, fused, frame if part == 'frame' else start))


@pytest.mark.parametrize('bad', [torch.nan, torch.inf])
@pytest.mark.parametrize('part', ['mlp', 'attention'])
def test_a_layer_whose_energies_are_not_finite_is_left_out_and_keeps_its_history(bad, part):
    start, frame = values(), values(seed=1)
    getattr(frame, part)[1, 2] = bad
    history = ChannelHistory(start)
    fused = history.add(frame)
    assert fused.finite.tolist() == [True, False, True]
    for found, before in zip(history.values, start):
        assert torch.equal(found[1], before[1])
        assert not torch.equal(found[0], before[0])
        assert found.isfinite().all()
    assert fused.energies.mlp[[0, 2]].isfinite().all()
    assert history.add(values(seed=2)).finite.all()


def test_a_history_that_is_not_finite_starts_again_from_calibration():
    start, frame = values(), values(seed=1)
    history = ChannelHistory(start, decay=0.9)
    history.values.attention[2, 0] = torch.nan
    assert history.add(frame).finite.tolist() == [True, True, False]
    for found, before, new in zip(history.values, start, frame):
        torch.testing.assert_close(found, 0.9 * before + 0.1 * new)
    assert history.add(values(seed=2)).finite.all()


def test_a_history_without_calibration_starts_with_the_first_finite_frame():
    history = ChannelHistory(unknown_energies(CONFIG, 3))
    first, second = values(seed=1), values(seed=2)
    broken = first.clone()
    broken.mlp[0, 0] = torch.nan
    fused = history.add(broken)
    assert fused.finite.tolist() == [False, True, True]
    torch.testing.assert_close(fused.energies.mlp[1:], first.mlp[1:])
    torch.testing.assert_close(history.values.mlp[1:], first.mlp[1:])
    assert history.add(second).finite.all()
    torch.testing.assert_close(history.values.mlp[0], second.mlp[0])
    torch.testing.assert_close(history.values.mlp[1], 0.99 * first.mlp[1] + 0.01 * second.mlp[1])
