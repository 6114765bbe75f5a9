"""Parts of a plan take the MACs that the cost model gives, counted by torch on the meta device."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from efficientvla_ros.acceleration import network_work as networks
from efficientvla_ros.acceleration.channel_patterns import ChannelCounts, channel_counts
from efficientvla_ros.acceleration.compact_layer import CompactLayer, LayerRows
from efficientvla_ros.acceleration.cost_model import Workload, WorkloadError, tick_cost
from efficientvla_ros.acceleration.plan_counts import PlanCounts
from efficientvla_ros.acceleration.token_options import TokenOptions
from efficientvla_ros.acceleration.token_scores import score_and_run
from efficientvla_ros.acceleration.token_selector import TokenSelector
from efficientvla_ros.acceleration.width_pruning import slice_mlp
from efficientvla_ros.models.config import CONFIGS, TABLETOP_PICK
from efficientvla_ros.models.dit import DiT
from efficientvla_ros.models.llama import LlamaLayer

PROMPT = 30
GROUPED = replace(TABLETOP_PICK.llm, kv_heads=2)
OPENVLA = CONFIGS['openvla-7b']


def macs(run) -> int:
    with FlopCounterMode(display=False) as mode, torch.inference_mode():
        run()
    return mode.get_total_flops() // 2


def meta(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, device='meta')


def layer_of(llm) -> LlamaLayer:
    with torch.device('meta'):
        return LlamaLayer(llm)


def cost(config, plan: PlanCounts, **settings):
    return tick_cost(config, Workload(PROMPT, plan=plan, **settings))


def passes(config, plan: PlanCounts, component: str = 'llm'):
    return {run.name: run for run in cost(config, plan)[component].passes}


@pytest.mark.parametrize('llm', [TABLETOP_PICK.llm, GROUPED, CONFIGS['cogact-base'].llm])
def test_scoring_layer(llm):
    tokens, rows = 64 + PROMPT, PROMPT - 1
    layer, x = layer_of(llm), meta(1, tokens, llm.width)
    rope = (meta(1, 1, tokens, llm.head_dim),) * 2
    mask = meta(1, rows, dtype=torch.bool)
    counted = macs(lambda: score_and_run(layer, x, rope, mask))
    plain = networks.llama_layer(llm, tokens, tokens, causal=False)
    assert counted == (plain + networks.attention_scores(llm, rows, tokens)).macs


@pytest.mark.parametrize('diversity', ['key', 'greedy'])
@pytest.mark.parametrize('method', ['efficientvla', 'fastv', 'random'])
def test_choice_of_tokens(method, diversity):
    options = TokenOptions(14, method, diversity=diversity)
    selector = TokenSelector(options, 64)
    scores, hidden = torch.rand(1, 64), torch.rand(1, 64, TABLETOP_PICK.llm.width)
    counted = macs(lambda: selector(scores, hidden))
    chosen = passes(TABLETOP_PICK, PlanCounts(tokens=options))['token selection'].macs
    scored = networks.attention_scores(TABLETOP_PICK.llm, PROMPT - 1, 64 + PROMPT).macs
    assert chosen == counted + (0 if method == 'random' else scored)
    assert (counted > 0) == (method == 'efficientvla')


def test_narrow_mlp():
    llm, kept = TABLETOP_PICK.llm, 264
    layer, tokens = layer_of(llm), 40
    whole = layer.mlp
    narrow = slice_mlp(
        whole.to_empty(device='cpu'), torch.arange(kept), torch.zeros(llm.mlp_width)
    )
    x = torch.rand(1, tokens, llm.width)
    spared = macs(lambda: whole(x)) - macs(lambda: narrow(x))
    wide, cut = (networks.llama_layer(llm, tokens, tokens, mlp_width=w) for w in (None, kept))
    assert wide.macs - cut.macs == spared
    assert wide.weights - cut.weights == sum(p.numel() for p in whole.parameters()) - sum(
        p.numel() for p in narrow.parameters()
    )


@pytest.mark.parametrize(
    'llm', [TABLETOP_PICK.llm, GROUPED, replace(TABLETOP_PICK.llm, kv_heads=1)]
)
@pytest.mark.parametrize('ratio', [0.25, 0.6])
def test_layer_on_slots(llm, ratio):
    counts, tokens = channel_counts(llm, ratio), 40
    rows = LayerRows(LlamaLayer(llm).requires_grad_(False))
    layer = CompactLayer(rows, torch.arange(counts.mlp), torch.arange(counts.heads))
    x = torch.rand(1, tokens, llm.width)
    rope = (torch.rand(tokens, llm.head_dim),) * 2
    with sdpa_kernel(SDPBackend.MATH):  # the other kernels of a CPU are not counted
        counted = macs(lambda: layer(x, rope))
    sizes = PlanCounts(channels=counts).layer_sizes()
    work = networks.llama_layer(llm, tokens, tokens, causal=False, **sizes)
    assert counted == work.macs
    slots = networks.slot_values(llm, counts.mlp, counts.heads)
    shared = work.weights - 2 * llm.width - slots  # keys and values of a whole layer
    assert shared in (0, 2 * llm.width * llm.kv_heads * llm.head_dim)
    held = [buffer for part in (layer.mlp, layer.self_attn) for buffer in part.slots.buffers]
    assert slots == sum(buffer.numel() for buffer in held)
    whole = {weight.data_ptr() for weight in rows.layer.parameters()}
    parts = (*rows.mlp, rows.query, rows.key, rows.value, rows.out)
    copies = sum(part.numel() for part in parts if part.data_ptr() not in whole)
    assert copies == networks.row_copies(llm)


def test_layers_on_slots_are_held_beside_the_whole_ones():
    counts = channel_counts(OPENVLA.llm, 0.25)
    dense, plan = cost(OPENVLA, PlanCounts()), cost(OPENVLA, PlanCounts(channels=counts))
    assert plan['llm'].parameters / dense['llm'].parameters == pytest.approx(2.06, abs=5e-3)
    assert plan['llm'].macs / dense['llm'].macs == pytest.approx(0.75, abs=1e-3)
    assert plan['llm'].bytes_read / dense['llm'].bytes_read == pytest.approx(0.75, abs=1e-3)
    assert plan.cache_bytes == 0.75 * dense.cache_bytes


def test_the_layer_that_scores_tokens_keeps_its_heads():
    counts = channel_counts(TABLETOP_PICK.llm, 0.5)
    scored, unscored = (
        passes(TABLETOP_PICK, PlanCounts(tokens=TokenOptions(14, method), channels=counts))
        for method in ('efficientvla', 'random')
    )
    tokens = 64 + PROMPT
    whole, compact = (
        networks.llama_layer(
            TABLETOP_PICK.llm, tokens, tokens, mlp_width=counts.mlp, mlp_bias=False, heads=heads
        )
        for heads in (None, counts.heads)
    )
    name = 'prefill, all tokens'
    assert scored[name].work == compact * 2 + whole
    assert unscored[name].work == compact * 3


def test_reused_sampling_step():
    config = replace(TABLETOP_PICK.head, depth=0)
    with torch.device('meta'):
        head = DiT(config, 128)
    x, condition = meta(2, config.horizon, config.action_dim), meta(2, config.width)
    counted = macs(lambda: head.denoise(x, condition))
    assert networks.dit_step(TABLETOP_PICK.head, 2, blocks=False).macs == counted
    run = passes(TABLETOP_PICK, PlanCounts(cache_interval=5), 'action_head')
    assert run['reused sampling step'].macs == 8 * counted
    assert run['sampling step'].times == 2


def test_layers_up_to_the_scoring_one_see_all_tokens():
    run = passes(TABLETOP_PICK, PlanCounts(8, TokenOptions(14)))
    for name, layers, tokens in (('all', 3, 64 + PROMPT), ('kept', 4, 14 + PROMPT)):
        expected = networks.llama_layers(TABLETOP_PICK.llm, layers, tokens)
        if name == 'kept':
            # The last one of five computes the last position only.
            expected += networks.llama_layer(TABLETOP_PICK.llm, 1, tokens)
        assert run[f'prefill, {name} tokens'].macs == expected.macs


def test_layers_that_are_left_out_have_neither_work_nor_weights():
    dense, plan = (cost(TABLETOP_PICK, PlanCounts(layers))['llm'] for layers in (None, 8))
    layer = networks.llama_layer(TABLETOP_PICK.llm, 64 + PROMPT, 64 + PROMPT)
    assert dense.macs - plan.macs == 4 * layer.macs
    assert dense.parameters - plan.parameters == 4 * layer.weights
    assert dense.bytes_read - plan.bytes_read == 2 * 4 * layer.weights


def test_keys_and_values_of_dropped_tokens_are_not_kept():
    dense, plan = cost(OPENVLA, PlanCounts()), cost(OPENVLA, PlanCounts(22, TokenOptions(56)))
    one = 2 * 4096 * 2  # key and value of a layer and position in bfloat16
    assert dense.cache_bytes == one * 32 * (286 + 6)
    assert plan.cache_bytes == one * (3 * (286 + 6) + 19 * (86 + 6))
    steps = [run for run in plan['llm'].passes if run.name == 'decoding step']
    assert [run.cache_bytes for run in steps] == [
        one * (3 * (286 + step) + 19 * (86 + step)) for step in range(6)
    ]


def test_counts_of_the_whole_model_are_the_dense_plan():
    for config in (
        *CONFIGS.values(),
        replace(TABLETOP_PICK, llm=replace(TABLETOP_PICK.llm, layers=2)),
    ):
        whole = PlanCounts(config.llm.layers, mlp_width=config.llm.mlp_width)
        assert cost(config, whole) == cost(config, PlanCounts())


@pytest.mark.parametrize(
    ('config', 'plan', 'message'),
    [
        (TABLETOP_PICK, PlanCounts(13), 'layers to keep is 13, expected 4 .. 12'),
        (TABLETOP_PICK, PlanCounts(3), 'layers 0, 1, 2, 11 are protected'),
        (
            TABLETOP_PICK,
            PlanCounts(tokens=TokenOptions(65)),
            'kept tokens are 65, expected at most 64',
        ),
        (TABLETOP_PICK, PlanCounts(8, scoring_layer=12), 'expected 0 .. 11'),
        (TABLETOP_PICK, PlanCounts(tokens=TokenOptions(9), scoring_layer=12), 'expected 0 .. 10'),
        (
            TABLETOP_PICK,
            PlanCounts(tokens=TokenOptions(9), scoring_layer=11),
            'with layers after it',
        ),
        (TABLETOP_PICK, PlanCounts(mlp_width=353), 'MLP channels kept are 353, expected 1 to 352'),
        (
            TABLETOP_PICK,
            PlanCounts(channels=ChannelCounts(8, 9)),
            'heads kept are 9, expected 1 to',
        ),
        (TABLETOP_PICK, PlanCounts(cache_interval=0), 'cache interval is 0, expected at least 1'),
        (OPENVLA, PlanCounts(cache_interval=5), 'openvla-7b has no diffusion head'),
    ],
)
def test_counts_beyond_the_model_are_refused(config, plan, message):
    with pytest.raises(WorkloadError, match=message):
        cost(config, plan)


def test_original_code_has_no_plan():
    with pytest.raises(WorkloadError, match='expected the dense plan'):
        Workload(original=True, plan=PlanCounts(8))
