"""The papers' tables of parameters and arithmetic come out of the cost model."""

from __future__ import annotations

from dataclasses import replace

import pytest

from efficientvla_ros.acceleration.channel_patterns import channel_counts
from efficientvla_ros.acceleration.cost_conventions import ECOVLA, EFFICIENTVLA, OURS, cost_by
from efficientvla_ros.acceleration.cost_model import Workload, tick_cost
from efficientvla_ros.acceleration.network_work import llama_layers
from efficientvla_ros.acceleration.plan_counts import PlanCounts
from efficientvla_ros.acceleration.token_options import TokenOptions
from efficientvla_ros.acceleration.width_pruning import kept_channel_count
from efficientvla_ros.models.config import CONFIGS, LlamaConfig
from efficientvla_ros.models.layout import released_parameters

BASE = CONFIGS['cogact-base']
MLP_WIDTH = kept_channel_count(11008, 0.25)
DENSE = PlanCounts()


def cost(plan: PlanCounts, convention=EFFICIENTVLA, config=BASE):
    return cost_by(convention, config, Workload(plan=plan), released_parameters(config))


def kept(tokens: int, **others) -> PlanCounts:
    return PlanCounts(tokens=TokenOptions(tokens), **others)


def whole_method(layers: int, tokens: int) -> PlanCounts:
    return kept(tokens, layers=layers, mlp_width=MLP_WIDTH, cache_interval=5)


@pytest.mark.parametrize(
    ('size', 'layers', 'billions'),
    [
        ('small', None, 7.55), ('base', None, 7.63), ('large', None, 7.85),
        ('small', 22, 4.78), ('base', 22, 4.86), ('large', 22, 5.08), ('base', 28, 5.87),
    ],
)  # fmt: skip
def test_parameters(size, layers, billions):
    plan = DENSE if layers is None else whole_method(layers, 56)
    assert cost(plan, config=CONFIGS[f'cogact-{size}']).parameters / 1e9 == pytest.approx(
        billions,
        abs=0.0065,  # some of them are cut off, not rounded, to two places
    )


def test_profile_of_the_modules():
    dense = cost(DENSE)
    vision = dense['dino'].macs + dense['siglip'].macs + dense['projector'].macs
    language = dense['llm'].macs + dense['lm_head'].macs
    assert 2e-9 * vision == pytest.approx(405.50, rel=1e-3)
    assert 2e-9 * language == pytest.approx(3726.55, rel=1e-3)
    assert 2e-9 * dense['action_head'].macs == pytest.approx(57.96, rel=1e-3)
    assert dense['dino'].parameters + dense['siglip'].parameters + dense[
        'projector'
    ].parameters == pytest.approx(802.3e6, rel=1e-4)
    assert dense.flops / 1e12 == pytest.approx(4.19, rel=1e-2)


@pytest.mark.parametrize(('tokens', 'tera'), [(56, 1.76), (72, 1.96), (96, 2.25), (112, 2.45)])
def test_flops_with_fewer_tokens(tokens, tera):
    assert cost(kept(tokens)).flops / 1e12 == pytest.approx(tera, rel=1e-2)


@pytest.mark.parametrize(('scoring_layer', 'lowest'), [(0, 0.06), (1, 0.03), (3, -0.06)])
def test_no_other_scoring_layer_gives_the_published_flops(scoring_layer, lowest):
    deviation = 1 - cost(kept(56, scoring_layer=scoring_layer)).flops / 1.76e12
    assert abs(deviation) > 0.03
    assert deviation > lowest


@pytest.mark.parametrize(
    ('layers', 'tokens', 'percent'),
    [(22, 56, 28.9), (28, 56, 32.9), (22, 112, 38.2), (28, 112, 45.1)],
)
def test_flops_of_the_whole_method(layers, tokens, percent):
    share = cost(whole_method(layers, tokens)).flops / cost(DENSE).flops
    assert 100 * share == pytest.approx(percent, rel=2e-2)


@pytest.mark.parametrize(('tokens', 'percent'), [(56, 42.0), (112, 58.5)])
def test_flops_of_fastv_and_of_the_random_drop(tokens, percent):
    for method in ('fastv', 'random'):
        plan = PlanCounts(tokens=TokenOptions(tokens, method=method))
        share = cost(plan).flops / cost(DENSE).flops
        assert 100 * share == pytest.approx(percent, rel=1e-2)


@pytest.mark.parametrize(('interval', 'full'), [(1, 10), (2, 5), (3, 4), (5, 2), (10, 1)])
def test_action_head_runs_in_full_at_every_interval(interval, full):
    plan = PlanCounts(cache_interval=interval)
    assert plan.full_steps(10) == full
    share = cost(plan)['action_head'].macs / cost(DENSE)['action_head'].macs
    assert share == pytest.approx(full / 10, abs=2e-3)


@pytest.mark.parametrize(('tokens', 'tera'), [(276, 1.81), (610, 4.05)])
def test_ecovla_counts_multiply_accumulates_of_the_decoder(tokens, tera):
    convention = replace(ECOVLA, prompt_tokens=tokens - BASE.num_patches)
    counted = cost(DENSE, convention)
    assert counted.macs / 1e12 == pytest.approx(tera, abs=0.005)
    assert [part.name for part in counted.components] == ['llm']


def test_ecovla_prompt_is_that_of_its_table():
    assert cost(DENSE, ECOVLA).macs / 1e12 == pytest.approx(1.81, abs=0.005)


def ecovla_share(ratio: float, tokens: int) -> float:
    """MACs of a tick with fewer channels over those of a whole one."""
    convention = replace(ECOVLA, prompt_tokens=tokens - BASE.num_patches)
    plan = PlanCounts(channels=channel_counts(BASE.llm, ratio))
    return cost(plan, convention).macs / cost(DENSE, convention).macs


@pytest.mark.parametrize(('ratio', 'share'), [(0.25, 0.750), (0.40, 0.608)])
def test_ecovla_keeps_its_ratio_of_the_decoder(ratio, share):
    assert ecovla_share(ratio, 276) == pytest.approx(share, abs=5e-4)


@pytest.mark.parametrize(
    ('ratio', 'tokens', 'percent', 'whole'),
    [
        (0.25, 276, 80.11, 0.20), (0.40, 276, 69.06, 0.21),
        (0.25, 276, 81.22, 0.25), (0.40, 276, 70.72, 0.25),
        (0.25, 610, 79.75, 0.19), (0.40, 610, 67.65, 0.17),
    ],
)  # fmt: skip
def test_published_macs_of_ecovla_are_those_with_a_share_of_whole_ticks(
    ratio, tokens, percent, whole
):
    # The share is the same at both ratios of a row, so all layers lose channels and heads.
    mixed = whole + (1.0 - whole) * ecovla_share(ratio, tokens)
    assert mixed == pytest.approx(percent / 100, abs=0.005)


def test_ecovla_count_of_gemma_2b():
    gemma = LlamaConfig(width=2048, layers=18, heads=8, kv_heads=1, mlp_width=16384)
    assert llama_layers(gemma, 18, 968, causal=False).macs / 1e12 == pytest.approx(1.99, abs=0.005)


def test_every_convention_counts_what_the_plan_leaves_out():
    for convention in (OURS, EFFICIENTVLA, ECOVLA):
        dense, plan = cost(DENSE, convention), cost(whole_method(22, 56), convention)
        layer = llama_layers(BASE.llm, 1, 1).weights
        mlp = 22 * 3 * 4096 * (11008 - MLP_WIDTH) - 22 * 4096  # with the bias that replaces it
        assert dense.parameters - plan.parameters == 10 * layer + mlp
        assert plan.bytes_read < dense.bytes_read
        assert plan.floor_seconds(165e12, 1e12) < dense.floor_seconds(165e12, 1e12)


def test_what_runs_is_less_than_what_papers_count_and_includes_the_scores():
    plan = whole_method(22, 56)
    ours = tick_cost(BASE, Workload(23, plan=plan))
    assert ours.flops < cost(plan).flops
    scores = next(run for run in ours['llm'].passes if run.name == 'token selection')
    assert scores.macs == 22 * 279 * 4096 + 256 * 4 * 4096


def test_decoding_steps_are_counted_in_every_convention():
    openvla = CONFIGS['openvla-7b']
    for convention in (EFFICIENTVLA, ECOVLA):
        counted = cost(DENSE, convention, openvla)
        assert [run.name for run in counted['llm'].passes].count('decoding step') == 6
    assert cost(DENSE, EFFICIENTVLA, openvla).parameters == sum(
        released_parameters(openvla).values()
    )
