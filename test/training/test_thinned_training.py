"""Training leaves out channels as an adaptive policy does, and nothing else."""

import numpy as np
import pytest
import torch
from torch import nn

from efficientvla_ros.acceleration.channel_patterns import channel_counts
from efficientvla_ros.models.cogact import CogACT
from efficientvla_ros.training.settings import TrainSettings
from efficientvla_ros.training.thinned import thinned

ALWAYS = TrainSettings(thinned_steps=1.0, thinned_ratios=(0.5, 0.5))
NEVER = TrainSettings(thinned_steps=0.0)


@pytest.fixture(scope='module')
def model(tiny_policy) -> CogACT:
    return tiny_policy(4, 4, 2)


def seen(model: CogACT, settings: TrainSettings, seed: int) -> tuple[list, torch.Tensor]:
    """What the last projections of every layer get, [S, C] each, and the decoder's output."""
    inputs: list[torch.Tensor] = []
    layers = model.llm_backbone.llm.model.layers
    x = torch.randn(1, 9, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with thinned(model, settings, np.random.default_rng(seed)):
        hooks = [
            projection.register_forward_pre_hook(lambda _, args: inputs.append(args[0][0]))
            for layer in layers
            for projection in (layer.self_attn.o_proj, layer.mlp.down_proj)
        ]
        out = model.llm_backbone.llm.model(x)
    for hook in hooks:
        hook.remove()
    return inputs, out


def test_so_many_channels_and_whole_heads_are_left_out(model):
    llm = model.config.llm
    counts = channel_counts(llm, 0.5)
    inputs, _ = seen(model, ALWAYS, seed=0)
    for attention, mlp in zip(inputs[::2], inputs[1::2], strict=True):
        heads = attention.reshape(len(attention), llm.heads, llm.head_dim).abs().amax((0, 2)) > 0
        assert int(heads.sum()) == counts.heads
        channels = mlp.abs().amax(0) > 0
        assert int(channels.sum()) == counts.mlp


def test_the_model_is_itself_before_and_after(model):
    _, before = seen(model, NEVER, seed=0)
    _, inside = seen(model, ALWAYS, seed=0)
    _, after = seen(model, NEVER, seed=0)
    assert torch.equal(before, after)
    assert not torch.allclose(before, inside)
    hooks = [
        module for module in model.modules() if isinstance(module, nn.Linear)
        and module._forward_pre_hooks
    ]  # fmt: skip
    assert hooks == []


def test_draws_differ_between_steps_and_not_within_one(model):
    first, again, other = (seen(model, ALWAYS, seed)[1] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)


def test_without_a_random_factor_the_least_important_channels_go(model, monkeypatch):
    monkeypatch.setattr('efficientvla_ros.training.thinned._SPREAD', 0.0)
    projection = model.llm_backbone.llm.model.layers[0].mlp.down_proj
    whole: list[torch.Tensor] = []
    hook = projection.register_forward_pre_hook(lambda _, args: whole.append(args[0][0]))
    seen(model, NEVER, seed=0)
    hook.remove()
    inputs, _ = seen(model, TrainSettings(thinned_steps=1.0, thinned_ratios=(0.2, 0.2)), seed=0)
    weight = projection.weight.detach().numpy()
    kept = (inputs[1].abs().amax(0) > 0).numpy()
    # Heads of the first layer stay at this ratio, so that its MLP sees what it sees dense.
    assert channel_counts(model.config.llm, 0.2).heads == model.config.llm.heads
    x = whole[0].detach().numpy()
    scores = np.sqrt((weight**4).sum(0)) * (x**2).mean(0)
    best = np.argsort(-scores)[: channel_counts(model.config.llm, 0.2).mlp]
    assert set(np.flatnonzero(kept)) == set(best)
