"""Going on with the kept tokens is hiding the others from all that comes after."""

import pytest
import torch

from efficientvla_ros.acceleration.token_scores import row_mask, score_and_run
from efficientvla_ros.acceleration.token_selection import select_tokens, sequence_index, take
from efficientvla_ros.models.config import LlamaConfig
from efficientvla_ros.models.llama import LlamaModel

PATCHES, PROMPT, SCORING = 25, 8, 1
LENGTH = PATCHES + PROMPT


@pytest.fixture(scope='module')
def decoder():
    torch.manual_seed(0)
    config = LlamaConfig(
        width=64, layers=5, heads=4, kv_heads=2, mlp_width=96, vocab_size=8, max_positions=64
    )
    model = LlamaModel(config).eval().requires_grad_(False)
    for layer in model.layers:
        layer.self_attn.q_proj.weight.mul_(4.0)
    return model


def pruned(model, x, keep):
    """Last hidden state, and the indices of what was kept."""
    rope = model.rotary(torch.arange(LENGTH), x.dtype)
    rows = row_mask('instruction', PROMPT, (2, 6)).expand(len(x), -1)
    for layer in model.layers[:SCORING]:
        x = layer(x, rope)
    x, scores = score_and_run(model.layers[SCORING], x, rope, rows)
    kept = select_tokens(scores, x[:, 1 : 1 + PATCHES], keep).kept
    index = sequence_index(kept, PATCHES, LENGTH)
    x, rope = take(x, index), model.rotary(index, x.dtype)
    for layer in model.layers[SCORING + 1 :]:
        x = layer(x, rope)
    return model.norm(x[:, -1]), kept


def masked(model, x, kept):
    """The same by hiding dropped patches from later layers instead of removing them."""
    rope = model.rotary(torch.arange(LENGTH), x.dtype)
    seen = torch.ones(len(x), LENGTH, dtype=torch.bool)
    seen[:, 1 : 1 + PATCHES] = False
    seen.scatter_(1, kept + 1, True)
    causal = torch.ones(LENGTH, LENGTH, dtype=torch.bool).tril()
    for index, layer in enumerate(model.layers):
        hidden = causal & seen[:, None, None, :] | torch.eye(LENGTH, dtype=torch.bool)
        x = layer(x, rope, hidden if index > SCORING else None)
    return model.norm(x[:, -1])


@pytest.mark.parametrize('keep', [1, 6, 24])
def test_removing_patches_is_hiding_them_at_their_old_positions(decoder, keep):
    x = torch.randn(3, LENGTH, 64, generator=torch.Generator().manual_seed(keep))
    found, kept = pruned(decoder, x, keep)
    assert len({tuple(row) for row in kept.tolist()}) > 1 or keep > 20  # each sample its own
    assert torch.allclose(found, masked(decoder, x, kept), atol=1e-5)


def test_keeping_all_patches_is_the_dense_decoder_to_the_last_bit(decoder):
    x = torch.randn(2, LENGTH, 64, generator=torch.Generator().manual_seed(9))
    found, kept = pruned(decoder, x, PATCHES)
    assert kept.tolist() == [list(range(PATCHES))] * 2
    assert torch.equal(found, decoder(x)[:, -1])


def test_dropped_patches_matter_only_through_the_first_layers(decoder):
    """Guards against a mask that hides nothing: without pruning the result differs."""
    x = torch.randn(1, LENGTH, 64, generator=torch.Generator().manual_seed(1))
    found, _ = pruned(decoder, x, 6)
    assert not torch.allclose(found, decoder(x)[:, -1], atol=1e-3)
