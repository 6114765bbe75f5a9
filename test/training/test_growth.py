"""A grown network computes what the small one did, and starts a training."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from efficientvla_ros.models.llama import RMSNorm
from efficientvla_ros.training.growth import (
    grow_grid,
    grow_heads,
    grow_layers,
    grow_width,
    origins,
)
from efficientvla_ros.training.heads import TrainingHeads
from efficientvla_ros.types import InputError


@given(st.integers(1, 12), st.integers(0, 30))
def test_every_layer_stays_in_its_order_and_copies_follow_their_original(small, added):
    places = origins(small, small + added)
    assert len(places) == small + added
    assert [index for index, copy in places if not copy] == list(range(small))
    assert [index for index, _ in places] == sorted(index for index, _ in places)


def test_the_first_layers_and_the_last_one_get_no_copies():
    places = origins(12, 24)
    assert [index for index, _ in places[:3]] == [0, 1, 2]
    assert places[-1] == (11, False)
    copies = [sum(copy for index, copy in places if index == host) for host in range(12)]
    assert copies[0] == copies[1] == copies[11] == 0 and set(copies[2:11]) == {1, 2}


def test_the_grown_network_computes_the_same(tiny_policy):
    small, large = tiny_policy(3, 4, 2), tiny_policy(7, 4, 2)
    large.load_state_dict(grow_layers(small.state_dict(), 7))
    image = torch.rand(2, 3, 56, 56, dtype=torch.float64)
    x = small.visual_tokens(image)
    for features in (large.visual_tokens(image), x):
        wanted = small.llm_backbone.llm.model(x)
        torch.testing.assert_close(
            large.llm_backbone.llm.model(features), wanted, rtol=0, atol=1e-12
        )


def test_added_layers_can_learn(tiny_policy):
    large = tiny_policy(5, 4, 2)
    large.load_state_dict(grow_layers(tiny_policy(3, 4, 2).state_dict(), 5))
    hidden = large.llm_backbone.llm.model(torch.rand(1, 6, 32, dtype=torch.float64))
    hidden.square().sum().backward()
    for layer in large.llm_backbone.llm.model.layers:
        assert layer.mlp.down_proj.weight.grad.abs().max() > 0.0
        assert layer.self_attn.o_proj.weight.grad.abs().max() > 0.0


def test_nothing_shrinks(tiny_policy):
    with pytest.raises(InputError, match='the start has 3 decoder layers, expected at most 2'):
        grow_layers(tiny_policy(3, 4, 2).state_dict(), 2)


# Width ----------------------------------------------------------------------------------------


def _widened(tiny_policy):
    small, large = tiny_policy(3, 4, 2), tiny_policy(3, 6, 3, width=48, mlp=64)
    weights = grow_width(small.state_dict(), large.state_dict())
    large.load_state_dict(weights)
    for model in (small, large):
        for module in model.modules():
            if isinstance(module, RMSNorm):
                module.eps = 0.0  # it weighs differently in a wider network, by next to nothing
    return small, large


def test_the_widened_network_computes_the_same(tiny_policy):
    small, large = _widened(tiny_policy)
    image = torch.rand(2, 3, 56, 56, dtype=torch.float64)
    texts = torch.tensor([[5, 7, 2], [9, 4, 2]])
    features = [
        model.llm_backbone.llm.model(
            torch.cat(
                (
                    model.visual_tokens(image),
                    model.llm_backbone.llm.model.embed_tokens(texts),
                ),
                dim=1,
            )
        )
        for model in (small, large)
    ]
    # The statistics of the norms are in float32.
    torch.testing.assert_close(features[1][..., :32], features[0], rtol=0, atol=2e-6)
    assert not features[1][..., 32:].any()
    noisy, times = torch.rand(2, 4, 7, dtype=torch.float64), torch.tensor([3, 40])
    nets = small.action_model.net, large.action_model.net
    predicted = [net(noisy, times, x[:, -1]) for net, x in zip(nets, features)]
    torch.testing.assert_close(predicted[1], predicted[0], rtol=0, atol=2e-6)
    without = [net(noisy, times, net.z_embedder.uncondition.expand(2, -1)) for net in nets]
    torch.testing.assert_close(without[1], without[0], rtol=0, atol=1e-12)


def test_what_was_added_to_the_width_can_learn(tiny_policy):
    _, large = _widened(tiny_policy)
    x = torch.rand(1, 6, 48, dtype=torch.float64)
    large.llm_backbone.llm.model(x).square().sum().backward()
    for layer in large.llm_backbone.llm.model.layers:
        for projection in (layer.self_attn.o_proj, layer.mlp.down_proj):
            gradient = projection.weight.grad
            added = torch.ones_like(gradient, dtype=torch.bool)
            added[:32, : 32 if projection is layer.self_attn.o_proj else 48] = False
            assert gradient[added].abs().min() > 0.0


def test_widened_training_heads_give_the_same():
    torch.manual_seed(0)
    small, large = TrainingHeads(32, 5, 4, 8, 7), TrainingHeads(48, 5, 4, 8, 7)
    large.load_state_dict(grow_heads(small.state_dict(), large.state_dict()))
    narrow = torch.rand(3, 16, 32)
    wide = torch.nn.functional.pad(narrow, (0, 16))
    torch.testing.assert_close(large.chunk(wide), small.chunk(narrow))
    torch.testing.assert_close(large.probe(wide), small.probe(narrow))
    torch.testing.assert_close(large.keypoint(wide)[0], small.keypoint(narrow)[0])


def test_heads_with_other_outputs_are_left_alone():
    small, large = TrainingHeads(32, 5, 4, 8, 7), TrainingHeads(48, 5, 4, 16, 7)
    grown = grow_heads(small.state_dict(), large.state_dict())
    assert grown['direct.2.weight'].shape == small.direct[2].weight.shape
    assert not grown.keys() ^ large.state_dict().keys()


# Pictures -------------------------------------------------------------------------------------


def test_positions_keep_their_place_in_a_finer_grid(tiny_policy):
    weights = tiny_policy(3, 4, 2).state_dict()
    name = 'vision_backbone.dino_featurizer.pos_embed'
    rows, columns = torch.meshgrid(torch.arange(4.0), torch.arange(4.0), indexing='ij')
    place = torch.stack((rows, columns), dim=-1).reshape(1, 16, 2).double()
    weights[name] = weights[name].clone()
    weights[name][..., :2] = place
    grown = grow_grid(weights, 64)
    found = grown[name][..., :2].view(8, 8, 2)
    # Where no edge is near, the interpolated ramp is close to the ramp, on patches half as large.
    inner = (torch.arange(8.0).double() - 0.5)[3:5] / 2
    torch.testing.assert_close(found[3:5, 3:5, 0], inner[:, None].expand(2, 2), atol=0.1, rtol=0)
    torch.testing.assert_close(found[3:5, 3:5, 1], inner[None, :].expand(2, 2), atol=0.1, rtol=0)
    others = [key for key in weights if not key.endswith('pos_embed')]
    assert all(grown[key] is weights[key] for key in others)


def test_pictures_do_not_shrink(tiny_policy):
    weights = tiny_policy(3, 4, 2).state_dict()
    assert grow_grid(weights, 16)['vision_backbone.dino_featurizer.pos_embed'].shape[1] == 16
    with pytest.raises(InputError, match='has 4 x 4 visual tokens, expected at most 2 x 2'):
        grow_grid(weights, 4)
