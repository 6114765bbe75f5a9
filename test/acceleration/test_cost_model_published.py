"""The cost model gives the published arithmetic of CogACT and reacts to a workload as it must."""

from __future__ import annotations

import pytest

from efficientvla_ros.acceleration.cost_model import Workload, WorkloadError, tick_cost
from efficientvla_ros.models.config import CONFIGS, TABLETOP_PICK
from efficientvla_ros.models.diffusion import ScheduleError

BASE = CONFIGS['cogact-base']
ORIGINAL = Workload(30, original=True)


def needed_passes(cost):
    """What the published arithmetic counts: neither dead blocks nor `lm_head`."""
    for part in cost.components:
        if part.name != 'lm_head':
            for run in part.passes:
                if run.name != 'unused block':
                    yield part, run


@pytest.mark.parametrize(
    ('component', 'giga_macs'),
    [('dino', 82.3), ('siglip', 109.5), ('projector', 18.3), ('llm', 1863), ('lm_head', 37.6)],
)
def test_macs_of_the_original_code(component, giga_macs):
    cost = tick_cost(BASE, ORIGINAL)
    assert cost[component].macs / 1e9 == pytest.approx(giga_macs, rel=3e-3)


@pytest.mark.parametrize(('component', 'giga_macs'), [('dino', 78.9), ('siglip', 105.4)])
def test_macs_of_the_blocks_that_are_needed(component, giga_macs):
    assert tick_cost(BASE, Workload(30))[component].macs / 1e9 == pytest.approx(
        giga_macs, rel=1e-3
    )


@pytest.mark.parametrize(('size', 'giga_macs'), [('small', 3.7), ('base', 29.0), ('large', 103)])
def test_macs_of_the_diffusion_heads(size, giga_macs):
    head = tick_cost(CONFIGS[f'cogact-{size}'], Workload(30))['action_head']
    assert head.macs / 1e9 == pytest.approx(giga_macs, rel=0.02 if size == 'small' else 1e-2)


@pytest.mark.parametrize(
    ('tokens', 'giga_macs'), [(280, 1824), (286, 1863), (290, 1889), (320, 2086)]
)
def test_macs_of_the_decoder_by_sequence_length(tokens, giga_macs):
    cost = tick_cost(BASE, Workload(tokens - BASE.num_patches, original=True))
    assert cost['llm'].macs / 1e9 == pytest.approx(giga_macs, rel=1e-3)


def test_base_takes_2095_giga_macs_where_all_positions_are_computed():
    total = sum(run.macs for _, run in needed_passes(tick_cost(BASE, ORIGINAL)))
    assert total / 1e9 == pytest.approx(2095, rel=1e-2)
    vision_language_action = (405.50, 3726.55, 57.96)  # GFLOP, arXiv 2506.10100
    assert 2 * total / 1e9 == pytest.approx(sum(vision_language_action), rel=1e-2)


def test_one_position_in_the_last_layer_saves_48_giga_macs():
    saved = tick_cost(BASE, ORIGINAL)['llm'].macs - tick_cost(BASE, Workload(30))['llm'].macs
    assert saved / 1e9 == pytest.approx(48, rel=0.02)


@pytest.mark.parametrize(
    ('component', 'millions'),
    [('dino', 290.630656), ('siglip', 397.200544), ('projector', 71.3856), ('llm', 6476.27)],
)
def test_parameters_that_are_needed(component, millions):
    assert tick_cost(BASE, Workload(30))[component].parameters / 1e6 == pytest.approx(
        millions, rel=1e-6
    )


def test_bytes_that_a_tick_reads():
    cost = tick_cost(BASE, Workload(30))
    assert cost['llm'].bytes_read / 1e9 == pytest.approx(12.95, rel=1e-3)
    assert (cost['dino'].bytes_read + cost['siglip'].bytes_read) / 1e9 == pytest.approx(
        1.38, rel=5e-3
    )


def test_float32_head_is_read_once_for_every_sampling_step():
    original = tick_cost(BASE, ORIGINAL)['action_head'].passes[-1]
    assert original.times == 10
    assert original.weight_bytes / 1e9 == pytest.approx(0.36, rel=0.02)
    ours = tick_cost(BASE, Workload(30))['action_head'].passes[-1]
    # Neither the embedding of times nor that of the condition is part of a step.
    assert original.weight_bytes - ours.weight_bytes == 4 * 768 * (4096 + 1 + 256 + 1 + 768 + 1)


@pytest.mark.parametrize(
    ('tera_flops', 'giga_bytes', 'milliseconds'),
    [(790, 4300, 5.66), (165, 1000, 26.9), (42.5, 205, 106), (258, 273, 60)],
)
def test_floor_times_of_the_dense_model(tera_flops, giga_bytes, milliseconds):
    # The published floors keep the head in bfloat16, half of the bytes counted here.
    floor = sum(
        max(
            2 * run.macs / (tera_flops * 1e12),
            run.bytes_read / (2 if part.name == 'action_head' else 1) / (giga_bytes * 1e9),
        )
        for part, run in needed_passes(tick_cost(BASE, ORIGINAL))
    )
    assert 1e3 * floor == pytest.approx(milliseconds, rel=0.015)


def test_floor_is_the_slower_of_arithmetic_and_memory_pass_by_pass():
    cost = tick_cost(BASE, Workload(30))
    unlimited = 1e30
    assert cost.floor_seconds(1e12, unlimited) == pytest.approx(cost.flops / 1e12)
    assert cost.floor_seconds(unlimited, 1e9) == pytest.approx(cost.bytes_read / 1e9)
    both = cost.floor_seconds(165e12, 1e12)
    assert max(cost.flops / 165e12, cost.bytes_read / 1e12) < both
    # Decoding steps of one token are bound by memory, although the prompt is not.
    decoder = tick_cost(CONFIGS['openvla-7b'], Workload(30))['llm']
    prefill, *steps = decoder.passes
    assert len(steps) == 6
    assert prefill.floor_seconds(165e12, 1e12) == 2 * prefill.macs / 165e12
    assert steps[0].floor_seconds(165e12, 1e12) == steps[0].bytes_read / 1e12


def test_policies_that_decode_keep_a_cache_and_the_others_do_not():
    assert tick_cost(BASE, Workload(30)).cache_bytes == 0
    kept = tick_cost(CONFIGS['openvla-7b'], Workload(30, dtype='float32')).cache_bytes
    assert kept == 2 * 32 * (286 + 6) * 4096 * 4


def test_type_of_the_weights_leaves_the_diffusion_head_alone():
    half, full = (tick_cost(BASE, Workload(30, dtype=t)) for t in ('bfloat16', 'float32'))
    assert full['llm'].bytes_read == 2 * half['llm'].bytes_read
    assert full['action_head'] == half['action_head']
    assert full.macs == half.macs


def test_guidance_of_one_computes_every_chunk_once():
    twice = tick_cost(BASE, Workload(30, guidance=1.5))['action_head'].passes[-1]
    once = tick_cost(BASE, Workload(30, guidance=1.0))['action_head'].passes[-1]
    assert twice.macs == 2 * once.macs
    assert twice.bytes_read == once.bytes_read


@pytest.mark.parametrize(
    ('config', 'settings', 'message'),
    [
        (BASE, {'prompt_tokens': 1}, '1 prompt tokens, expected at least 2'),
        (TABLETOP_PICK, {'prompt_tokens': 193}, 'model tabletop-pick takes at most 192'),
        (CONFIGS['openvla-7b'], {'prompt_tokens': 3835}, 'takes at most 3834'),
        (BASE, {'dtype': 'int3'}, "dtype 'int3' is unknown, expected one of float32, bfloat16"),
        (CONFIGS['openvla-7b'], {'ddim_steps': 10}, 'openvla-7b has no diffusion head'),
    ],
)
def test_workload_that_does_not_fit_is_refused(config, settings, message):
    with pytest.raises(WorkloadError, match=message):
        tick_cost(config, Workload(**settings))


def test_sampling_steps_that_do_not_divide_the_schedule_are_refused():
    with pytest.raises(ScheduleError, match='expected one of 1, 2, 3'):
        tick_cost(BASE, Workload(30, ddim_steps=11))
