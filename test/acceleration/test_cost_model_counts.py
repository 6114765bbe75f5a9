"""The cost model's MACs are those that the networks run, counted by torch on the meta device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from efficientvla_ros.acceleration.cost_model import Component, Workload, tick_cost
from efficientvla_ros.models.cogact import CogACT
from efficientvla_ros.models.config import CONFIGS, TABLETOP_PICK, OpenVLAConfig
from efficientvla_ros.models.openvla import OpenVLA
from efficientvla_ros.models.placement import build_empty, weight_bytes
from efficientvla_ros.models.vision import ViTBlock

PROMPT = 30
GROUPED = replace(
    TABLETOP_PICK,
    name='grouped',
    llm=replace(TABLETOP_PICK.llm, kv_heads=2, layers=3),
    head=replace(TABLETOP_PICK.head, depth=2, horizon=5, action_dim=6),
)
SMALL_OPENVLA = OpenVLAConfig(
    name='small-openvla',
    dino=TABLETOP_PICK.dino,
    siglip=TABLETOP_PICK.siglip,
    llm=replace(TABLETOP_PICK.llm, kv_heads=1, layers=4),
    image_size=112,
    projector_width=256,
    action_dim=5,
)
DIFFUSION = [TABLETOP_PICK, GROUPED, CONFIGS['cogact-base']]


def macs(run: Callable[[], object]) -> tuple[int, int]:
    """Counts (matrix products with weights, attention) of what `run` does."""
    with FlopCounterMode(display=False) as mode, torch.inference_mode():
        run()
    counts = {str(op): flops for op, flops in mode.get_flop_counts()['Global'].items()}
    attention = counts.pop('aten.bmm', 0)
    assert set(counts) <= {'aten.mm', 'aten.addmm'}, counts
    return sum(counts.values()) // 2, attention // 2


def built(config) -> nn.Module:
    with torch.device('meta'):
        model = (OpenVLA if isinstance(config, OpenVLAConfig) else CogACT)(config)
    return model.to('meta').eval()


def inputs(config) -> tuple[Tensor, Tensor]:
    size = config.image_size
    image = torch.empty(1, 3, size, size, device='meta')
    return image, torch.empty(1, PROMPT, dtype=torch.long, device='meta')


def linear_and_attention(component: Component) -> tuple[int, int]:
    return (
        sum(part.times * part.work.linear_macs for part in component.passes),
        sum(part.times * part.work.attention_macs for part in component.passes),
    )


@pytest.mark.parametrize('config', [*DIFFUSION, CONFIGS['openvla-7b']], ids=lambda c: c.name)
def test_towers_and_projector(config):
    cost = tick_cost(config, Workload(PROMPT))
    model = built(config)
    image, _ = inputs(config)
    towers = model.vision_backbone
    for name, tower in (('dino', towers.dino_featurizer), ('siglip', towers.siglip_featurizer)):
        # The patch embedding is a batched product for torch, so only the sum can be compared.
        assert cost[name].macs == sum(macs(lambda tower=tower: tower(image)))
    features = towers(image)
    counted = macs(lambda: model.projector(features))
    assert linear_and_attention(cost['projector']) == counted


@pytest.mark.parametrize('config', DIFFUSION, ids=lambda c: c.name)
def test_language_model_of_a_diffusion_policy(config):
    linear, attention = linear_and_attention(tick_cost(config, Workload(PROMPT))['llm'])
    model = built(config)
    visual = torch.empty(1, config.num_patches, config.llm.width, device='meta')
    counted = macs(lambda: model.cognition(visual, inputs(config)[1]))
    assert linear == counted[0]
    # torch counts all S^2 pairs of a causal layer, the cost model the visible ones.
    tokens, width = config.num_patches + PROMPT, config.llm.width
    hidden = (config.llm.layers - 1) * 2 * width * tokens * (tokens - 1) // 2
    assert attention == counted[1] - hidden


@pytest.mark.parametrize('config', DIFFUSION, ids=lambda c: c.name)
@pytest.mark.parametrize(('steps', 'guidance'), [(10, 1.5), (4, 1.0)])
def test_diffusion_head(config, steps, guidance):
    workload = Workload(PROMPT, ddim_steps=steps, guidance=guidance)
    head = config.head
    sampler = built(config).sampler(steps=steps, guidance=guidance)
    cognition = torch.empty(1, config.llm.width, device='meta')
    noise = torch.empty(1, head.horizon, head.action_dim, device='meta')
    counted = macs(lambda: sampler(cognition, noise))
    assert linear_and_attention(tick_cost(config, workload)['action_head']) == counted


@pytest.mark.parametrize('config', [SMALL_OPENVLA, CONFIGS['openvla-7b']], ids=lambda c: c.name)
def test_decoding_of_action_tokens(config):
    cost = tick_cost(config, Workload(PROMPT))
    model = built(config)
    visual = torch.empty(1, config.num_patches, config.llm.width, device='meta')
    cache = model.new_cache(PROMPT)
    first = []
    prefill = macs(lambda: first.append(model.prefill(visual, inputs(config)[1], cache)))
    steps = macs(lambda: model.decode(first[0], cache))
    llm, logits = linear_and_attention(cost['llm']), linear_and_attention(cost['lm_head'])
    assert llm[0] + logits[0] == prefill[0] + steps[0]
    tokens, width = config.num_patches + PROMPT, config.llm.width
    hidden = (config.llm.layers - 1) * 2 * width * tokens * (tokens - 1) // 2
    assert llm[1] == prefill[1] + steps[1] - hidden
    assert cost.cache_bytes == cache.num_bytes // 2  # counted in bfloat16, allocated in float32


def test_original_code_runs_dead_blocks_all_positions_and_embeds_at_every_step():
    config = CONFIGS['cogact-base']
    cost = tick_cost(config, Workload(PROMPT, original=True))
    model = built(config)
    tokens = config.num_patches + PROMPT
    for name in ('dino', 'siglip'):
        tower = getattr(config, name)
        with torch.device('meta'):
            block = ViTBlock(tower)
        x = torch.empty(1, config.num_patches + tower.prefix_tokens, tower.width, device='meta')
        unused = next(part for part in cost[name].passes if part.name == 'unused block')
        assert unused.macs == sum(macs(lambda block=block, x=x: block(x)))
    x = torch.empty(1, tokens, config.llm.width, device='meta')
    linear, attention = macs(lambda: model.llm_backbone.llm.model(x))
    assert linear_and_attention(cost['llm'])[0] == linear
    assert cost['llm'].macs == linear + attention * (tokens + 1) // (2 * tokens)
    assert cost['lm_head'].macs == tokens * config.llm.width * config.llm.vocab_size
    shapes = ((2, config.head.horizon, config.head.action_dim), (2,), (2, config.llm.width))
    step = [torch.empty(shape, device='meta') for shape in shapes]
    assert cost['action_head'].macs == 10 * sum(macs(lambda: model.action_model.net(*step)))


@pytest.mark.parametrize('config', [*CONFIGS.values(), GROUPED], ids=lambda c: c.name)
def test_parameters_are_those_of_the_model(config):
    cost = tick_cost(config, Workload(PROMPT))
    model = built(config)
    assert cost.parameters == sum(p.numel() for p in model.parameters())
    assert cost['llm'].parameters + cost['embedding'].parameters == sum(
        p.numel() for p in model.llm_backbone.llm.model.parameters()
    )
    towers = model.vision_backbone
    assert cost['siglip'].parameters == sum(
        p.numel() for p in towers.siglip_featurizer.parameters()
    )


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize('config', CONFIGS.values(), ids=lambda c: c.name)
def test_memory_of_the_weights_is_what_loading_takes(config, dtype):
    cost = tick_cost(config, Workload(PROMPT, dtype=str(dtype).removeprefix('torch.')))
    assert cost.weight_bytes == weight_bytes(build_empty(config), dtype)
