"""Selection reads no value on the host: it runs where there are none, on the meta device."""

import pytest
import torch

from efficientvla_ros.acceleration.token_baselines import fastv
from efficientvla_ros.acceleration.token_scores import relevance, score_and_run
from efficientvla_ros.acceleration.token_selection import select_tokens, sequence_index, take
from efficientvla_ros.models.config import LlamaConfig
from efficientvla_ros.models.llama import LlamaModel

PATCHES, TEXT, KEEP = 16, 5, 6
LENGTH = 1 + PATCHES + TEXT


@pytest.mark.parametrize('diversity', ['key', 'greedy'])
@pytest.mark.parametrize('with_bonus', [False, True])
def test_no_value_is_needed_to_select(diversity, with_bonus):
    scores = torch.rand(2, PATCHES, device='meta')
    hidden = torch.rand(2, PATCHES, 8, device='meta')
    bonus = torch.zeros(1, PATCHES, device='meta') if with_bonus else None
    found = select_tokens(scores, hidden, KEEP, diversity=diversity, bonus=bonus)
    assert found.kept.shape == found.role.shape == (2, KEEP)
    x = torch.rand(2, LENGTH, 8, device='meta')
    left = take(x, sequence_index(found.kept, PATCHES, LENGTH))
    assert left.shape == (2, 1 + KEEP + TEXT, 8)
    assert fastv(scores, KEEP).kept.shape == (2, KEEP)


def test_no_value_is_needed_to_score():
    config = LlamaConfig(
        width=32, layers=1, heads=4, kv_heads=2, mlp_width=48, vocab_size=8, max_positions=32
    )
    with torch.device('meta'):
        model = LlamaModel(config)
        x, rows = torch.rand(2, LENGTH, 32), torch.ones(2, TEXT, dtype=torch.bool)
        rope = (torch.rand(1, LENGTH, 8), torch.rand(1, LENGTH, 8))
    assert relevance(model.layers[0], x, rope, rows).shape == (2, PATCHES)
    out, scores = score_and_run(model.layers[0], x, rope, rows)
    assert out.shape == x.shape and scores.shape == (2, PATCHES)
