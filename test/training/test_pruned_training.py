"""Training leaves out what an accelerated policy leaves out, and nothing else."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from efficientvla_ros.models.cogact import CogACT
from efficientvla_ros.models.tokenizer import PAD
from efficientvla_ros.training.losses import Batch, attention_loss
from efficientvla_ros.training.pruned import (
    SCORING_LAYER,
    draw_layer_count,
    draw_layers,
    draw_tokens,
    pruned_cognition,
)
from efficientvla_ros.training.settings import TrainSettings

EVERYTHING = TrainSettings(pruned_layers=0, pruned_tokens=(1.0, 1.0))


@pytest.fixture(scope='module')
def model(tiny_policy) -> CogACT:
    return tiny_policy(6, 2, 2)


@pytest.fixture(scope='module')
def visual() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 16, 32, dtype=torch.float64, generator=generator)


TEXTS = torch.tensor([[4, 5, 6, 2], [7, 8, 2, PAD]])


def test_nothing_left_out_is_the_policy_itself(model, visual):
    found, _ = pruned_cognition(model, visual, TEXTS, EVERYTHING, np.random.default_rng(0))
    for row, ids in enumerate(([1, 4, 5, 6, 2], [1, 7, 8, 2])):
        expected = model.cognition(visual[row : row + 1], torch.tensor([ids]))
        assert torch.allclose(found[row], expected[0], atol=1e-12)


@pytest.mark.parametrize('seed', range(6))
def test_padding_does_not_matter(model, visual, seed):
    some = TrainSettings(pruned_layers=3, pruned_tokens=(0.2, 0.5))
    padded = torch.cat((TEXTS, torch.full((2, 3), PAD)), dim=1)
    first, second = (
        pruned_cognition(model, visual, texts, some, np.random.default_rng(seed))[0]
        for texts in (TEXTS, padded)
    )
    assert torch.allclose(first, second, atol=1e-12)


def test_what_is_left_out_changes_the_feature_and_gradients_still_flow(model, visual):
    # Seeds whose draws leave out layers and tokens.
    some = TrainSettings(pruned_layers=3, pruned_tokens=(0.2, 0.2))
    dense, _ = pruned_cognition(model, visual, TEXTS, EVERYTHING, np.random.default_rng(0))
    changed = 0
    for seed in range(8):
        source = visual.clone().requires_grad_()
        found, _ = pruned_cognition(model, source, TEXTS, some, np.random.default_rng(seed))
        found.square().sum().backward()
        assert torch.isfinite(source.grad).all() and source.grad.abs().sum() > 0
        changed += not torch.allclose(found, dense)
    assert changed >= 5


# Attention ------------------------------------------------------------------------------------


def _batch(target, gripper, place, reference) -> Batch:
    nothing = torch.zeros(1)
    keypoints = torch.full((1, 3, 2), -1.0)
    keypoints[0, 1] = torch.tensor(place)
    return Batch(
        images=nothing,
        texts=nothing,
        actions=nothing,
        object_ids=nothing,
        reference_ids=torch.tensor([[reference]]),
        object_pixels=torch.tensor([[target]]),
        gripper_pixel=torch.tensor([gripper]),
        keypoints=keypoints,
    )


def test_attention_is_wanted_on_target_gripper_and_place():
    relevance = torch.ones(1, 16)
    relevance[0, [0, 5, 15]] = torch.tensor([4.0, 2.0, 1.0])
    share = relevance[0] / relevance.sum()
    seen = (0.1, 0.1), (0.3, 0.3), (0.99, 0.99)
    for reference, cells in ((1, [0, 5, 15]), (-1, [0, 5])):
        found = attention_loss(relevance, _batch(*seen, reference))
        torch.testing.assert_close(found, -share[cells].log().mean())
    # Out of the picture there is nothing to look at.
    found = attention_loss(relevance, _batch((0.1, 0.1), (-0.1, 0.3), (0.5, 1.2), 1))
    torch.testing.assert_close(found, -share[0].log())
    assert torch.isfinite(attention_loss(torch.zeros(1, 16), _batch(*seen, 1)))


def test_the_attention_loss_teaches_where_to_look(model, visual):
    some = TrainSettings(pruned_layers=0, pruned_tokens=(0.3, 0.3))
    queries = model.llm_backbone.llm.model.layers[SCORING_LAYER].self_attn.q_proj.weight
    losses = []
    start = queries.detach().clone()
    batch = _batch((0.1, 0.1), (0.6, 0.3), (0.9, 0.9), 1)
    for _ in range(30):
        _, relevance = pruned_cognition(
            model, visual[:1], TEXTS[:1], some, np.random.default_rng(1)
        )
        loss = attention_loss(relevance, batch)
        (gradient,) = torch.autograd.grad(loss, queries)
        with torch.no_grad():
            queries -= 0.5 * gradient
        losses.append(float(loss))
    with torch.no_grad():
        queries.copy_(start)
    assert losses[-1] < losses[0] - 0.1


@settings(max_examples=50, deadline=None)
@given(depth=st.integers(1, 32), gone=st.integers(0, 8), seed=st.integers(0, 1000))
def test_early_layers_always_run_and_so_many_are_left_out(depth, gone, seed):
    rng = np.random.default_rng(seed)
    layers = draw_layers(torch.from_numpy(rng.random(depth)), gone, rng)
    assert list(layers) == sorted(set(layers))
    assert list(layers[: SCORING_LAYER + 1]) == list(range(min(depth, SCORING_LAYER + 1)))
    assert len(layers) == depth - min(gone, max(0, depth - SCORING_LAYER - 1))


def test_layers_are_left_out_by_importance_and_chance():
    # Ten that do next to nothing, every second one, among eleven that do much.
    importance = torch.full((24,), 0.01)
    importance[3:23:2] = 0.0003
    counts = np.zeros(24)
    for seed in range(200):
        layers = draw_layers(importance, 7, np.random.default_rng(seed))
        counts[[layer for layer in range(24) if layer not in layers]] += 1
    assert (counts[3:23:2] > 100).all() and (counts[3:23:2] < 180).all()
    assert 0 < counts[4:24:2].sum() < 0.1 * counts.sum()


@settings(max_examples=50, deadline=None)
@given(most=st.integers(0, 12), seed=st.integers(0, 1000))
def test_half_of_the_most_layers_or_more_are_left_out_or_none(most, seed):
    gone = draw_layer_count(most, np.random.default_rng(seed))
    assert gone == 0 or most / 2 <= gone <= most


@settings(max_examples=50, deadline=None)
@given(patches=st.integers(1, 256), seed=st.integers(0, 1000))
def test_kept_tokens_lie_in_the_span_or_are_all(patches, seed):
    keep = draw_tokens(patches, (0.25, 0.5), np.random.default_rng(seed))
    assert keep == patches or max(1, round(0.25 * patches)) <= keep <= max(1, round(0.5 * patches))
