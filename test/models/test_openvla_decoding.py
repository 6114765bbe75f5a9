"""OpenVLA writes the tokens that transformers' greedy generation writes, through one cache."""

import itertools

import numpy as np
import pytest
import torch
from small_models import tiny_openvla
from transformers_oracles import causal_oracle

from efficientvla_ros.models.config import CONFIGS
from efficientvla_ros.models.openvla import OpenVLA, action_values
from efficientvla_ros.models.reference import reference_tokens


def example(model: OpenVLA, seed: int, length: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    size = model.config.image_size
    image = torch.rand(1, 3, size, size, generator=generator)
    ids = torch.randint(3, 64, (1, length), generator=generator)
    return image, torch.cat((torch.tensor([[1]]), ids), dim=1)


@pytest.mark.parametrize('kv_heads', [4, 2])
@pytest.mark.parametrize('seed', range(4))
def test_tokens_are_those_of_transformers_greedy_generation(kv_heads, seed):
    model = tiny_openvla(kv_heads, seed)
    image, ids = example(model, seed)
    oracle = causal_oracle(model.llm_backbone.llm, model.config.llm)
    x = model.input_embeddings(model.visual_tokens(image), ids)
    expected = oracle.generate(
        inputs_embeds=x,
        attention_mask=torch.ones(x.shape[:2], dtype=torch.long),
        max_new_tokens=7,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
    )
    found = model(image, ids)
    assert tuple(found.shape) == (1, 7) and torch.equal(found, expected[:, -7:])
    assert len(found.unique()) > 1


@pytest.mark.parametrize('seed', range(3))
def test_the_cache_changes_no_token(seed):
    model = tiny_openvla(seed=seed)
    image, ids = example(model, seed)
    assert torch.equal(model(image, ids), reference_tokens(model, image, ids))


def test_hidden_states_through_the_cache_equal_those_of_one_pass():
    llm = tiny_openvla().llm_backbone.llm.model
    model = tiny_openvla()
    x = torch.randn(1, 20, model.config.llm.width, generator=torch.Generator().manual_seed(0))
    cache = model.new_cache(prompt_length=8)
    parts = [llm(x[:, :17], cache=cache), *(llm(x[:, i : i + 1], cache=cache) for i in (17, 18))]
    found, expected = torch.cat(parts, dim=1), llm(x[:, :19])
    assert cache.length == 19
    assert float((found - expected).abs().max() / expected.abs().max()) <= 1e-5


def test_several_positions_behind_a_cache_in_use_are_refused():
    model = tiny_openvla()
    llm, cache = model.llm_backbone.llm.model, model.new_cache(prompt_length=8)
    x = torch.randn(1, 4, model.config.llm.width)
    llm(x, cache=cache)
    with pytest.raises(ValueError, match='2 positions follow a cache in use'):
        llm(x[:, :2], cache=cache)


def test_one_cache_serves_one_frame_after_another_without_new_memory():
    model = tiny_openvla()
    cache = model.new_cache(prompt_length=10)
    address = cache.layer(0).keys.data_ptr()
    # Every longer prompt leaves stale positions behind for the shorter one that follows.
    for seed, length in ((0, 9), (1, 4), (2, 9), (3, 1)):
        image, ids = example(model, seed, length)
        visual = model.visual_tokens(image)
        found = model.decode(model.prefill(visual, ids, cache), cache)
        assert torch.equal(found, model(image, ids))
    assert cache.layer(0).keys.data_ptr() == address
    assert cache.capacity == 16 + 10 + 6
    assert cache.num_bytes == 3 * 2 * 64 * 32 * 4  # layers, keys and values, width, room, float32


def test_several_images_decode_as_each_alone():
    model = tiny_openvla()
    examples = [example(model, seed) for seed in range(3)]
    together = model(*(torch.cat(parts) for parts in zip(*examples)))
    assert torch.equal(together, torch.cat([model(*one) for one in examples]))


@pytest.mark.parametrize(
    ('token', 'value'),
    [
        (31999, -1.0 + 1 / 255),  # the last id of the vocabulary is the lowest bin
        (31998, -1.0 + 3 / 255),
        (31745, 1.0 - 1 / 255),  # 255 bins lie between 256 edges
        (31744, 1.0 - 1 / 255),
        (31743, 1.0 - 1 / 255),  # ids below the action tokens are clipped ...
        (29871, 1.0 - 1 / 255),
        (32000, -1.0 + 1 / 255),  # ... and so is the padding of the vocabulary
        (32063, -1.0 + 1 / 255),
        (31872, 0.0),
    ],
)
def test_an_action_token_is_the_centre_of_its_bin(token, value):
    found = action_values(np.array([[token]]), CONFIGS['openvla-7b'])
    assert found.dtype == np.float64 and found.shape == (1, 1)
    assert found[0, 0] == pytest.approx(value, abs=1e-12)


def test_every_action_token_follows_the_recipe_of_the_released_code():
    edges = np.linspace(-1, 1, 256)
    centres = [(a + b) / 2 for a, b in itertools.pairwise(edges)]
    for token in range(31700, 32064):
        expected = centres[min(max(32000 - token - 1, 0), 254)]
        assert action_values(np.array(token), CONFIGS['openvla-7b']) == expected
