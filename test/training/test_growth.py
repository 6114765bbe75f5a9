"""A grown network computes what the small one did, and starts a training."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from efficientvla_ros.training.growth import grow_layers, origins
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
