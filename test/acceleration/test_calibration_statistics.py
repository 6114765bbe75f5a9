"""Calibration measures what its formulas say, and leaves the model as it was."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from calibration_helpers import random_samples, small_policy
from small_models import tiny_openvla

from efficientvla_ros.acceleration.calibration import (
    ActivationRecorder,
    calibrate,
    layer_importance,
)
from efficientvla_ros.acceleration.layer_pruning import greedy_layers, kept_after
from efficientvla_ros.acceleration.profile import ProfileError
from efficientvla_ros.models.images import to_input

PROTECTED = (0, 4)


def naive_statistics(model, samples) -> dict[str, np.ndarray]:
    """The definitions in loops over frames, layers and positions, without hooks."""
    decoder = model.llm_backbone.llm.model
    importance, mlp, attention = [], [], []
    for sample in samples:
        pixels = to_input(sample.image, model.config.image_size)
        x = model.input_embeddings(model.visual_tokens(pixels), sample.token_ids)
        rope = decoder.rotary(torch.arange(x.shape[1]), x.dtype)
        rows, inner, mixed = [], [], []
        for layer in decoder.layers:
            projected = []
            handle = layer.self_attn.o_proj.register_forward_hook(
                lambda module, given, output, into=projected: into.append((given[0], output))
            )
            layer.self_attn(layer.input_layernorm(x), rope, None)
            handle.remove()
            heads, update = projected[0]
            middle = x + update
            h = layer.post_attention_layernorm(middle)
            gate = torch.nn.functional.silu(layer.mlp.gate_proj(h))
            hidden = gate * layer.mlp.up_proj(h)
            after = middle + layer.mlp.down_proj(hidden)
            cosines = []
            for a, b in zip(x[0].double().numpy(), after[0].double().numpy()):
                cosines.append(a @ b / np.sqrt((a @ a) * (b @ b)))
            rows.append(1.0 - np.mean(cosines))
            inner.append(hidden[0].double().numpy())
            mixed.append(heads[0].double().numpy())
            x = after
        importance.append(rows)
        mlp.append(inner)
        attention.append(mixed)

    def over_frames(values, power):
        frames = [[(layer**power).mean(0) for layer in frame] for frame in values]
        return np.mean(frames, axis=0)

    return {
        'sample_importance': np.array(importance),
        'mlp_mean': over_frames(mlp, 1),
        'mlp_mean_square': over_frames(mlp, 2),
        'attention_mean_square': over_frames(attention, 2),
    }


def test_statistics_are_those_of_a_naive_computation():
    model, samples = small_policy(), random_samples(4)
    profile = calibrate(model, samples, source='random')
    for name, expected in naive_statistics(model, samples).items():
        np.testing.assert_allclose(getattr(profile, name), expected, rtol=1e-4, atol=1e-9)
    assert profile.episodes.tolist() == [0, 0, 1, 1]


def test_column_norms_are_those_of_the_down_projections():
    model = small_policy()
    profile = calibrate(model, random_samples(1), source='random')
    for layer, norms in zip(model.llm_backbone.llm.model.layers, profile.mlp_weight_norm):
        expected = [float(column @ column) for column in layer.mlp.down_proj.weight.double().T]
        np.testing.assert_allclose(norms, expected, rtol=1e-6)


def test_every_frame_counts_the_same_whatever_its_prompt_length():
    model, (short, _, long) = small_policy(), random_samples(3)
    assert short.token_ids.shape[1] < long.token_ids.shape[1]
    both = calibrate(model, [short, long], source='random')
    apart = [calibrate(model, [sample], source='random') for sample in (short, long)]
    for name in ('mlp_mean', 'mlp_mean_square', 'attention_mean_square'):
        mean = (getattr(apart[0], name) + getattr(apart[1], name)) / 2
        torch.testing.assert_close(getattr(both, name), mean, rtol=1e-12, atol=1e-15)


def test_a_batch_counts_as_its_samples():
    decoder = small_policy().llm_backbone.llm.model
    inputs = torch.randn(3, 9, 64, generator=torch.Generator().manual_seed(0))
    with ActivationRecorder(decoder) as together, torch.no_grad():
        decoder(inputs)
    with ActivationRecorder(decoder) as apart, torch.no_grad():
        for x in inputs:
            decoder(x[None])
    for name in ('sample_importance', 'mlp_mean', 'mlp_mean_square', 'attention_mean_square'):
        torch.testing.assert_close(
            getattr(together, name), getattr(apart, name), rtol=1e-4, atol=1e-9
        )


def test_calibration_changes_nothing_in_the_model():
    model, samples = small_policy(), random_samples(2)
    decoder = model.llm_backbone.llm.model
    x = torch.randn(1, 9, 64, generator=torch.Generator().manual_seed(1))
    before = decoder(x)
    calibrate(model, samples, source='random', greedy_protected=PROTECTED)
    assert torch.equal(decoder(x), before)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_hooks_are_removed_when_a_frame_fails():
    model = small_policy()
    samples = random_samples(1)
    too_long = torch.ones(1, 999, dtype=torch.int64)
    with pytest.raises(IndexError):
        calibrate(model, [type(samples[0])(samples[0].image, too_long)], source='random')
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_greedy_order_measures_anew_after_each_removal():
    model, samples = small_policy(), random_samples(3)
    decoder = model.llm_backbone.llm.model
    profile = calibrate(model, samples, source='random', greedy_protected=PROTECTED)
    order = profile.greedy_removals(PROTECTED)
    assert sorted(order) == [1, 2, 3]

    inputs = []
    for sample in samples:
        pixels = to_input(sample.image, model.config.image_size)
        inputs.append(model.input_embeddings(model.visual_tokens(pixels), sample.token_ids))

    def measure(layers):
        return layer_importance(decoder, inputs, layers).mean(0)

    running = [0, 1, 2, 3, 4]
    for removed in order:
        values = dict(zip(running, measure(tuple(running)).tolist()))
        assert removed == min(set(running) - set(PROTECTED), key=values.get)
        running.remove(removed)
    for keep in (2, 3, 4, 5):
        assert kept_after(order, 5, keep) == greedy_layers(measure, 5, keep, PROTECTED)


def test_importance_of_all_layers_is_the_profile_s():
    model, samples = small_policy(), random_samples(2)
    profile = calibrate(model, samples, source='random')
    inputs = []
    for sample in samples:
        pixels = to_input(sample.image, model.config.image_size)
        inputs.append(model.input_embeddings(model.visual_tokens(pixels), sample.token_ids))
    alone = layer_importance(model.llm_backbone.llm.model, inputs, tuple(range(5)))
    torch.testing.assert_close(alone, profile.sample_importance, rtol=0, atol=0)


def test_progress_counts_every_pass():
    seen = []
    calibrate(
        small_policy(),
        random_samples(2),
        source='random',
        greedy_protected=PROTECTED,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(done, 8) for done in range(1, 9)]


def test_calibration_without_frames_is_refused():
    with pytest.raises(ProfileError, match='no calibration frames, expected at least 1'):
        calibrate(small_policy(), [], source='random')


def test_a_frame_with_activations_that_are_not_finite_is_named():
    model, samples = small_policy(), random_samples(2)
    samples[1].token_ids[0, 1] = 7
    samples[0].token_ids[samples[0].token_ids == 7] = 8
    model.llm_backbone.llm.model.embed_tokens.weight[7] = float('nan')
    with pytest.raises(ProfileError, match='frame 1 gives activations that are not finite'):
        calibrate(model, samples, source='random')


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_a_policy_that_writes_tokens_is_measured_on_its_prompt(dtype):
    model, samples = tiny_openvla(kv_heads=2).to(dtype), random_samples(2)
    profile = calibrate(model, samples, source='random', greedy_protected=(0,))
    expected = naive_statistics(model, samples)
    rtol = 1e-4 if dtype == torch.float32 else 5e-2
    np.testing.assert_allclose(profile.mlp_mean_square, expected['mlp_mean_square'], rtol=rtol)
    assert profile.attention_mean_square.shape == (3, 64)
    assert sorted(profile.greedy_order.tolist()) == [1, 2]
