"""A file larger than the model in memory is read without ever being in memory as a whole."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from checkpoint_writers import MINI_COGACT, MINI_OPENVLA, write_cogact, write_openvla

from efficientvla_ros.models.config import DiTConfig, LlamaConfig
from efficientvla_ros.models.placement import build_empty, required_bytes, weight_bytes

LLM = LlamaConfig(
    width=384, layers=12, heads=6, kv_heads=6, mlp_width=1152, vocab_size=32064, max_positions=128
)
COGACT = replace(MINI_COGACT, llm=LLM, head=DiTConfig(128, 2, 2))
OPENVLA = replace(MINI_OPENVLA, llm=LLM)
SLACK = 24 << 20
KEYS = ('bridge_orig',)

# Memory that belongs to no file; pages of the mapped file are the system's to take back.
MEASURE = """
import json, sys, torch
from efficientvla_ros.models import random_weights
from efficientvla_ros.models.checkpoint import load_checkpoint

def anonymous():
    fields = dict(line.split(':', 1) for line in open('/proc/self/status'))
    return int(fields['RssAnon'].split()[0]) * 1024

def look(*_):
    seen.append(anonymous())

seen = []
draw = random_weights._Normal.__call__
random_weights._Normal.__call__ = lambda *arguments: look(draw(*arguments))
load_checkpoint(sys.argv[1], random_weights=0)  # libraries are in memory after it
seen = [anonymous()]
model = load_checkpoint(
    sys.argv[2], dtype=torch.bfloat16, random_weights=json.loads(sys.argv[3]), progress=look
)
print(max(seen) - seen[0])
"""


def growth(small: Path, large: Path, seed: int | None) -> int:
    """Peak growth of a process that loads a folder in bfloat16, bytes."""
    command = [sys.executable, '-c', MEASURE, str(small), str(large), json.dumps(seed)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return int(done.stdout.splitlines()[-1])


@pytest.fixture(scope='module')
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp('small')
    write_cogact(folder, keys=KEYS)
    return folder


@pytest.mark.parametrize('kind', ['cogact', 'openvla'])
def test_loading_takes_the_memory_of_the_model_alone(tmp_path, small, kind):
    if kind == 'cogact':
        config = COGACT
        write_cogact(tmp_path, config, keys=KEYS)
    else:
        config = OPENVLA
        write_openvla(tmp_path, config, keys=KEYS, dtype=torch.float32)
    model = weight_bytes(build_empty(config), torch.bfloat16)
    size = sum(file.stat().st_size for file in tmp_path.rglob('*') if file.is_file())
    assert size > model + 3 * SLACK
    found = growth(small, tmp_path, seed=None)
    assert 0.9 * model < found < model + SLACK


def test_random_weights_take_one_tensor_more(tmp_path, small):
    write_cogact(tmp_path, COGACT, keys=KEYS)
    needed = required_bytes(COGACT, torch.bfloat16)
    found = growth(small, tmp_path, seed=0)
    assert weight_bytes(build_empty(COGACT), torch.bfloat16) < found < needed + SLACK
