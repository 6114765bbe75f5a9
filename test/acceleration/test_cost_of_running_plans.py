"""The cost model's MACs are those that the engine runs for every preset, counted by torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from efficientvla_ros.acceleration.config import AccelerationConfig
from efficientvla_ros.acceleration.cost_model import Workload, decoder_stack, tick_cost
from efficientvla_ros.acceleration.fingerprint import fingerprint
from efficientvla_ros.acceleration.plan_counts import plan_counts
from efficientvla_ros.acceleration.presets import PRESETS, preset
from efficientvla_ros.acceleration.profile import CalibrationProfile
from efficientvla_ros.models.checkpoint import Checkpoint, random_checkpoint
from efficientvla_ros.models.config import CONFIGS, TABLETOP_PICK, OpenVLAConfig
from efficientvla_ros.models.openvla import OpenVLA
from efficientvla_ros.models.random_weights import init_weights
from efficientvla_ros.models.statistics import ActionStatistics
from efficientvla_ros.models.tokenizer import HashTokenizer
from efficientvla_ros.runtime.engine import Engine
from efficientvla_ros.types import Observation

MINI = CONFIGS['cogact-mini']
SMALL_OPENVLA = OpenVLAConfig(
    name='small-openvla',
    dino=TABLETOP_PICK.dino,
    siglip=TABLETOP_PICK.siglip,
    llm=TABLETOP_PICK.llm,
    image_size=112,
    projector_width=256,
    action_bins=16,
    action_vocab_end=TABLETOP_PICK.llm.vocab_size,
    suffix_ids=(2,),
)
INSTRUCTION = 'pick the red can'
OWN = AccelerationConfig(layers=9, tokens=20, tokens_diversity='greedy', cache_interval=4)


def random_profile(model) -> CalibrationProfile:
    llm = model.config.llm
    draw = torch.Generator().manual_seed(0)

    def values(*shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=draw, dtype=torch.float64)

    channels = (llm.layers, llm.mlp_width)
    return CalibrationProfile(
        model.config.name,
        fingerprint(model),
        'random',
        '2026-01-01T00:00:00+00:00',
        values(2, llm.layers),
        torch.zeros(2, dtype=torch.int64),
        values(*channels),
        1 + values(*channels),
        values(*channels),
        values(llm.layers, llm.width),
    )


def checkpoint_of(config) -> Checkpoint:
    if config.name in CONFIGS:
        return random_checkpoint(config.name, 'cpu', torch.float32, 0)
    model = init_weights(OpenVLA(config), 0).eval().requires_grad_(False)
    statistics = ActionStatistics.identity(config.action_dim)
    return Checkpoint(model, HashTokenizer(config.llm.vocab_size), statistics)


@pytest.fixture(scope='module', params=[MINI, SMALL_OPENVLA], ids=lambda config: config.name)
def engine(request) -> Engine:
    checkpoint = checkpoint_of(request.param)
    return Engine(checkpoint, profile=random_profile(checkpoint.model))


def counted_macs(engine: Engine) -> int:
    image = np.zeros((engine.image_size, engine.image_size, 3), np.uint8)
    observation = Observation({engine.camera_names[0]: image}, INSTRUCTION, stamp_ns=0)
    if engine.plan.config.adapts_channels:
        engine.infer(observation)  # the first tick of an episode runs dense
        assert engine.settle()
    # The other attention kernels of a CPU are not counted.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as mode:
        engine.infer(observation)
    return mode.get_total_flops() // 2


def hidden_pairs(config, workload: Workload) -> int:
    """MACs that torch counts for pairs that the causal mask hides; the cost model does not."""
    stack, llm = decoder_stack(config, workload), config.llm
    kept = workload.plan.kept_heads(config)
    # Of each layer, the positions and the heads that are left.
    layers = [
        (part.tokens, llm.heads if part.scores and place == part.layers - 1 else kept)
        for part in stack
        for place in range(part.layers)
    ]
    # The last layer has one query, which sees everything.
    return sum(2 * heads * llm.head_dim * (n * (n - 1) // 2) for n, heads in layers[:-1])


@pytest.mark.parametrize('name', [*PRESETS, 'own'])
def test_macs_of_a_tick(engine, name):
    config = engine.config
    acceleration = OWN if name == 'own' else preset(name, config)
    plan = engine.set_acceleration(acceleration)
    prompt = engine.prompt_length(INSTRUCTION)
    workload = Workload(prompt, dtype='float32', plan=plan_counts(config, acceleration))
    cost = tick_cost(config, workload)
    assert counted_macs(engine) == cost.macs + hidden_pairs(config, workload)

    counts = workload.plan
    assert len(plan.layers) == counts.kept_layers(config)
    widths = {config.llm.mlp_width} if plan.channels is None else set(map(len, plan.channels))
    assert plan.slots == counts.channels
    assert plan.slots is not None or widths == {counts.kept_channels(config)}
    assert plan.tokens == counts.tokens
    assert plan.scoring_layer == counts.scoring_layer
    assert len(plan.full_steps) == (counts.full_steps(plan.steps) if plan.steps else 0)
