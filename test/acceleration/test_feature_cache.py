"""The residual cache equals frozen block outputs; off is the plain sampler, bit for bit."""

import pytest
import torch
from small_models import small_config

from efficientvla_ros.acceleration.feature_cache import ResidualCache, full_steps
from efficientvla_ros.models.cogact import CogACT
from efficientvla_ros.models.dit import DiT
from efficientvla_ros.models.random_weights import init_weights


@pytest.fixture(scope='module')
def model() -> CogACT:
    found = init_weights(CogACT(small_config()), seed=3).double().eval().requires_grad_(False)
    # An untrained head predicts almost nothing, and reusing it would change almost nothing.
    found.action_model.net.final_layer.linear.weight.mul_(10.0)
    return found


def inputs(batch: int = 1):
    generator = torch.Generator().manual_seed(5)
    cognition = torch.randn(batch, 64, generator=generator, dtype=torch.float64)
    noise = torch.randn(batch, 6, 7, generator=generator, dtype=torch.float64)
    return cognition, noise


class FrozenBlocks:
    """As the paper says it: at reused steps every block adds the two outputs that it stored."""

    def __init__(self, net: DiT, full: set[int]) -> None:
        self.net, self.full, self.step, self.stored = net, full, 0, {}

    def __call__(self, tokens):
        for index, block in enumerate(self.net.blocks):
            if self.step in self.full:
                attention = block.attn(block.norm1(tokens))
                mixed = tokens + attention
                self.stored[index] = (attention, block.mlp(block.norm2(mixed)))
            attention, mlp = self.stored[index]
            tokens = tokens + attention + mlp
        self.step += 1
        return tokens


@pytest.mark.parametrize(
    ('steps', 'interval', 'expected'),
    [(10, 5, (0, 5)), (10, 1, tuple(range(10))), (10, 3, (0, 3, 6, 9)), (5, 10, (0,)), (0, 5, ())],
)
def test_the_first_step_and_every_nth_after_it_are_full(steps, interval, expected):
    assert full_steps(steps, interval) == expected


@pytest.mark.parametrize('guidance', [1.0, 1.5])
@pytest.mark.parametrize('batch', [1, 2])
@pytest.mark.parametrize(('steps', 'interval'), [(10, 5), (10, 3), (5, 2), (10, 10)])
def test_one_residual_equals_frozen_outputs_of_every_block(
    model, steps, interval, batch, guidance
):
    net, full = model.action_model.net, full_steps(steps, interval)
    sampler = model.sampler(steps=steps, guidance=guidance)
    cache = ResidualCache(net.run_blocks, full)
    found = sampler(*inputs(batch), cache)
    expected = sampler(*inputs(batch), FrozenBlocks(net, set(full)))
    assert (found - expected).abs().max() <= 1e-6 * expected.abs().max()
    assert cache.full_steps_run == len(full)
    assert (found - sampler(*inputs(batch))).abs().max() > 1e-4


def test_with_an_interval_of_one_nothing_changes(model):
    sampler = model.sampler()
    cache = ResidualCache(model.action_model.net.run_blocks, full_steps(10, 1))
    assert torch.equal(sampler(*inputs(), cache), sampler(*inputs()))
    assert cache.full_steps_run == 10


def test_a_chunk_does_not_depend_on_the_one_before(model):
    sampler = model.sampler()
    cache = ResidualCache(model.action_model.net.run_blocks, full_steps(10, 5))
    first = sampler(*inputs(), cache)
    cache.begin()
    cognition, noise = inputs()
    sampler(cognition + 1.0, -noise, cache)
    cache.begin()
    assert torch.equal(sampler(*inputs(), cache), first)
    assert cache.full_steps_run == 2


def test_a_threshold_refreshes_where_the_input_has_changed_that_much(model):
    net, sampler = model.action_model.net, model.sampler()
    counts, seen = [], []

    def blocks(tokens):
        seen.append(tokens)
        return net.run_blocks(tokens)

    for threshold in (1e-12, 0.15, 0.4, 1e6):
        cache = ResidualCache(blocks, (0, 5), threshold)
        sampler(*inputs(), cache)
        counts.append(cache.full_steps_run)
    assert counts[0] == 10 and counts[-1] == 2
    assert counts == sorted(counts, reverse=True) and 2 < counts[1] < 10


def test_the_change_is_relative_and_adds_up_until_a_full_step():
    inputs_seen = []

    def blocks(tokens):
        inputs_seen.append(float(tokens.mean()))
        return tokens + 1.0

    cache = ResidualCache(blocks, (0,), threshold=0.25)
    for value in (1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7):
        cache(torch.full((2, 3, 4), value))
    # 0.1 / 1.0 + 0.1 / 1.1 + 0.1 / 1.2 = 0.274 at the fourth; 0.219 from there to the seventh.
    assert inputs_seen == pytest.approx([1.0, 1.3, 1.7])
