"""The released sizes: built without memory they have the published parameters; run, they agree."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from efficientvla_ros.models.cogact import CogACT
from efficientvla_ros.models.config import CONFIGS
from efficientvla_ros.models.openvla import OpenVLA


def on_meta(name: str) -> CogACT | OpenVLA:
    with torch.device('meta'):
        return OpenVLA(CONFIGS[name]) if name.startswith('openvla') else CogACT(CONFIGS[name])


def parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ('name', 'head'),
    [('cogact-small', 12_476_807), ('cogact-base', 88_986_887), ('cogact-large', 307_764_231)],
)
def test_cogact_has_the_published_number_of_parameters(name, head):
    model = on_meta(name)
    count = {part: parameters(module) for part, module in model.named_children()}
    # The released head also has an unused embedder of past actions: Linear(7, width).
    assert count['action_model'] + 8 * model.config.head.width == head
    assert count['projector'] == 71_385_600
    # The cognition feature needs no next-token head.
    lm_head = model.config.llm.vocab_size * model.config.llm.width
    assert count['llm_backbone'] + lm_head == 6_738_939_904
    towers = model.vision_backbone
    assert parameters(towers.dino_featurizer) == 290_630_656
    assert parameters(towers.siglip_featurizer) == 397_200_544


def test_openvla_has_the_whole_language_model():
    model = on_meta('openvla-7b')
    assert parameters(model.llm_backbone) == 6_738_939_904
    assert 'llm_backbone.llm.lm_head.weight' in model.state_dict()


@pytest.mark.parametrize('name', ['tabletop-pick', 'cogact-base', 'openvla-7b'])
def test_on_the_meta_device_only_constant_tables_hold_memory(name):
    model = on_meta(name)
    assert {p.device.type for p in model.parameters()} == {'meta'}
    assert {(b.device.type, b.dtype) for b in model.buffers()} == {('cpu', torch.float32)}
    # Tables are no part of a checkpoint.
    assert set(model.state_dict()) == {name for name, _ in model.named_parameters()}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_networks_of_released_size_equal_transformers_within_twelve_gigabytes():
    program = Path(__file__).with_name('full_size_parity.py')
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path)}
    run = subprocess.run(
        [sys.executable, program], env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    result = json.loads(run.stdout)
    errors = result['errors']
    for exact in ('dino blocks', 'siglip blocks', 'decoder'):
        assert errors.pop(exact) == 0.0
    assert set(errors) == {'dino', 'siglip', 'projector', 'cognition', 'head'}
    assert max(errors.values()) <= 1e-5, errors
    assert result['peak_bytes'] < 12e9
