"""The estimate of activation memory against the tensors that live while the networks run."""

from __future__ import annotations

import weakref

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from efficientvla_ros.acceleration.cost_model import Workload, tick_cost
from efficientvla_ros.acceleration.plan_counts import PlanCounts
from efficientvla_ros.acceleration.token_options import TokenOptions
from efficientvla_ros.acceleration.token_scores import score_and_run
from efficientvla_ros.acceleration.token_selection import select_tokens
from efficientvla_ros.models.cogact import CogACT
from efficientvla_ros.models.config import CONFIGS


class LiveBytes(TorchDispatchMode):
    """Adds up the storages that operations return for as long as they are alive."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._seen: weakref.WeakSet = weakref.WeakSet()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        known = {
            leaf.untyped_storage()
            for leaf in tree_leaves((args, kwargs))
            if isinstance(leaf, torch.Tensor)
        }
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                storage = leaf.untyped_storage()
                if storage not in known and storage not in self._seen:
                    self._seen.add(storage)
                    self.now += storage.nbytes()
                    weakref.finalize(storage, self._freed, storage.nbytes())
                    self.peak = max(self.peak, self.now)
        return result

    def _freed(self, size: int) -> None:
        self.now -= size


def peak(run) -> int:
    with torch.inference_mode(), LiveBytes() as live:
        run()
    return live.peak


@pytest.fixture(scope='module')
def model():
    with torch.device('meta'):
        return CogACT(CONFIGS['cogact-base']).to('meta').eval()


def test_tracker_frees_what_is_freed():
    def run():
        x = torch.empty(1000, device='meta')
        for _ in range(5):
            x = x + 1

    assert peak(run) == 2 * 4000


@pytest.mark.parametrize('part', ['dino', 'siglip', 'projector', 'llm', 'action_head'])
def test_estimate_is_near_what_lives(model, part):
    config = model.config
    cost = tick_cost(config, Workload(30, dtype='float32'))
    image = torch.empty(1, 3, 224, 224, device='meta')
    features = torch.empty(1, config.num_patches, config.vision_width, device='meta')
    visual = torch.empty(1, config.num_patches, config.llm.width, device='meta')
    ids = torch.empty(1, 30, dtype=torch.long, device='meta')
    cognition = torch.empty(1, config.llm.width, device='meta')
    sampler = model.sampler()
    runs = {
        'dino': lambda: model.vision_backbone.dino_featurizer(image),
        'siglip': lambda: model.vision_backbone.siglip_featurizer(image),
        'projector': lambda: model.projector(features),
        'llm': lambda: model.cognition(visual, ids),
        'action_head': lambda: sampler(cognition, torch.empty(1, 16, 7, device='meta')),
    }
    measured = peak(runs[part])
    assert cost[part].activation_bytes == pytest.approx(measured, rel=0.15)


@pytest.mark.parametrize('diversity', ['key', 'greedy'])
def test_estimate_is_near_what_lives_while_tokens_are_chosen(model, diversity):
    config, tokens = model.config, model.config.num_patches + 30
    layer = model.llm_backbone.llm.model.layers[2]
    x = torch.empty(1, tokens, config.llm.width, device='meta')
    rope = (torch.empty(1, 1, tokens, config.llm.head_dim, device='meta'),) * 2
    rows = torch.empty(1, 29, dtype=torch.bool, device='meta')

    def run():
        embeddings = x + 0  # held by the caller while the layers run
        hidden, scores = score_and_run(layer, x, rope, rows)
        select_tokens(scores, hidden[:, 1:257], 56, diversity=diversity)
        return embeddings

    plan = PlanCounts(tokens=TokenOptions(56, diversity=diversity))
    cost = tick_cost(config, Workload(30, dtype='float32', plan=plan))
    assert cost['llm'].activation_bytes == pytest.approx(peak(run), rel=0.15)
