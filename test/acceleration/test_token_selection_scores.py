"""Relevance is the attention that text pays to patches, read beside the layer's own output."""

import pytest
import torch
from naive_selection import naive_attention

from efficientvla_ros.acceleration.token_counts import SelectionError
from efficientvla_ros.acceleration.token_scores import relevance, row_mask, score_and_run
from efficientvla_ros.models.config import LlamaConfig
from efficientvla_ros.models.kv_cache import KVCache
from efficientvla_ros.models.llama import LlamaModel

PATCHES, TEXT = 9, 6
LENGTH = 1 + PATCHES + TEXT


def decoder(kv_heads=2, dtype=torch.float32) -> LlamaModel:
    torch.manual_seed(kv_heads)
    config = LlamaConfig(
        width=32, layers=2, heads=4, kv_heads=kv_heads, mlp_width=48, vocab_size=8,
        max_positions=32,
    )  # fmt: skip
    model = LlamaModel(config).to(dtype).eval().requires_grad_(False)
    for layer in model.layers:  # attention that is far from even
        layer.self_attn.q_proj.weight.mul_(6.0)
        layer.input_layernorm.weight.uniform_(0.5, 1.5)
    return model


def sequence(model, batch=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    dtype = model.norm.weight.dtype
    x = torch.randn(batch, LENGTH, 32, generator=generator, dtype=torch.float64).to(dtype)
    return x, model.rotary(torch.arange(LENGTH), dtype)


@pytest.mark.parametrize('kv_heads', [1, 2, 4])
@pytest.mark.parametrize('rows', [[1, 2], [0, 3, 5], [5], list(range(TEXT))])
def test_it_is_the_naive_attention_summed_over_text_rows(kv_heads, rows):
    model = decoder(kv_heads, torch.float64)
    x, rope = sequence(model)
    mask = torch.zeros(2, TEXT, dtype=torch.bool)
    mask[:, rows] = True
    found = relevance(model.layers[0], x, rope, mask)
    for sample in range(2):
        attention = naive_attention(model.layers[0], x[sample]).mean(0)
        expected = sum(attention[1 + PATCHES + row, 1 : 1 + PATCHES] for row in rows)
        # Rotary angles are rounded to float32 as in the reference.
        assert torch.allclose(found[sample], torch.from_numpy(expected), rtol=0, atol=1e-6)


def test_the_direction_is_from_text_to_patches():
    """A patch that text looks for scores, though no patch can see any text."""
    model = decoder(4)
    x, rope = sequence(model, batch=1)
    layer = model.layers[0]
    attention = naive_attention(layer, x[0]).mean(0)
    assert (attention[1 : 1 + PATCHES, 1 + PATCHES :] == 0).all()  # the paper's own direction
    rows = torch.ones(1, TEXT, dtype=torch.bool)
    before = relevance(layer, x, rope, rows)
    assert before.min() > 0
    # Only text changes: the scores follow it.
    changed = x.clone()
    changed[:, -1] += 3.0
    last = row_mask('last', 1 + TEXT, (1, 2))
    assert not torch.allclose(
        relevance(layer, x, rope, last), relevance(layer, changed, rope, last)
    )
    first = torch.zeros_like(last)
    first[:, 0] = True
    assert torch.equal(relevance(layer, x, rope, first), relevance(layer, changed, rope, first))


def test_each_sample_has_its_own_rows_and_none_gives_zero():
    model = decoder()
    x, rope = sequence(model, batch=3)
    rows = torch.zeros(3, TEXT, dtype=torch.bool)
    rows[0, 1], rows[1, 3:5] = True, True
    found = relevance(model.layers[1], x, rope, rows)
    for sample in range(2):
        alone = relevance(model.layers[1], x[sample : sample + 1], rope, rows[sample : sample + 1])
        assert torch.allclose(found[sample], alone[0], atol=1e-6)
    assert (found[2] == 0).all()


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize('kv_heads', [2, 4])
def test_scoring_while_running_leaves_the_output_as_it_is(dtype, kv_heads):
    model = decoder(kv_heads, dtype)
    x, rope = sequence(model)
    rows = row_mask('prompt', 1 + TEXT, (1, 2)).expand(2, -1)
    out, scores = score_and_run(model.layers[0], x, rope, rows)
    assert torch.equal(out, model.layers[0](x, rope))
    assert scores.dtype == torch.float32
    assert torch.allclose(scores, relevance(model.layers[0], x, rope, rows), rtol=1e-2, atol=1e-3)


def test_scoring_while_running_fills_the_cache():
    model = decoder()
    x, rope = sequence(model)
    rows = torch.ones(2, TEXT, dtype=torch.bool)
    ours, theirs = (KVCache(model_config(), LENGTH, batch=2) for _ in range(2))
    out, _ = score_and_run(model.layers[0], x, rope, rows, cache=ours.layer(0))
    assert torch.equal(out, model.layers[0](x, rope, None, theirs.layer(0)))
    for mine, other in zip((ours.layer(0).keys, ours.layer(0).values),
                           (theirs.layer(0).keys, theirs.layer(0).values)):  # fmt: skip
        assert torch.equal(mine, other) and mine.abs().sum() > 0


def model_config() -> LlamaConfig:
    return LlamaConfig(width=32, layers=2, heads=4, kv_heads=2, mlp_width=48, vocab_size=8)


def test_a_mask_is_followed():
    model = decoder()
    x, rope = sequence(model)
    rows = torch.ones(2, TEXT, dtype=torch.bool)
    causal = torch.ones(LENGTH, LENGTH, dtype=torch.bool).tril()
    layer = model.layers[0]
    plain = relevance(layer, x, rope, rows)
    assert torch.allclose(relevance(layer, x, rope, rows, causal), plain, atol=1e-6)
    hidden = causal.clone()
    hidden[:, 3] = False  # patch 2 is seen by nobody
    for mask in (hidden, hidden.expand(2, 1, -1, -1)):
        assert (relevance(layer, x, rope, rows, mask)[:, 2] == 0).all()
        out, scores = score_and_run(layer, x, rope, rows, mask)
        assert torch.equal(out, layer(x, rope, mask)) and (scores[:, 2] == 0).all()


def test_rows_of_a_prompt():
    # BOS, 2 words of the template, 3 of the instruction, 1 appended id
    span, length = (3, 6), 7
    assert row_mask('instruction', length, span).int().tolist() == [[0, 0, 1, 1, 1, 0]]
    assert row_mask('prompt', length, span).all()
    assert row_mask('last', length, span).int().tolist() == [[0, 0, 0, 0, 0, 1]]
    with pytest.raises(SelectionError, match="'words', expected one of instruction, prompt"):
        row_mask('words', length, span)
