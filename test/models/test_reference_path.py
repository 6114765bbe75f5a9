"""What is left out or computed once changes nothing: the plain path gives the same numbers."""

import pytest
import torch
from small_models import small_config

from efficientvla_ros.models.cogact import CogACT
from efficientvla_ros.models.config import TABLETOP_PICK
from efficientvla_ros.models.diffusion import DiffusionSampler
from efficientvla_ros.models.random_weights import init_weights
from efficientvla_ros.models.reference import (
    reference_actions,
    reference_cognition,
    reference_sample,
)

TOLERANCE = 1e-5


def error(found: torch.Tensor, expected: torch.Tensor) -> float:
    assert found.shape == expected.shape
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.fixture(scope='module', params=[small_config(), small_config(2), TABLETOP_PICK])
def policy(request) -> CogACT:
    return init_weights(CogACT(request.param), seed=7).eval().requires_grad_(False)


@pytest.fixture
def inputs(policy) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    config = policy.config
    size, head = config.image_size, config.head
    return {
        'image': torch.rand(2, 3, size, size, generator=generator),
        'token_ids': torch.randint(0, 64, (2, 7), generator=generator),
        'noise': torch.randn(2, head.horizon, head.action_dim, generator=generator),
    }


def test_image_to_normalised_actions(policy, inputs):
    assert error(policy(**inputs), reference_actions(policy, **inputs)) <= TOLERANCE


def test_the_last_layer_at_the_last_position_only(policy, inputs):
    visual = policy.visual_tokens(inputs['image'])
    found = policy.cognition(visual, inputs['token_ids'])
    assert error(found, reference_cognition(policy, visual, inputs['token_ids'])) <= TOLERANCE


@pytest.mark.parametrize('layers', [[], [1], [0, 2], [2, 1, 0]])
def test_the_last_of_chosen_layers_at_the_last_position_only(policy, inputs, layers):
    x = policy.input_embeddings(policy.visual_tokens(inputs['image']), inputs['token_ids'])
    decoder = policy.llm_backbone.llm.model
    found = decoder(x, layers=layers, last_position_only=True)
    assert error(found, decoder(x, layers=layers)[:, -1:]) <= TOLERANCE


def test_the_last_position_sees_what_a_mask_leaves_it(policy, inputs):
    x = policy.input_embeddings(policy.visual_tokens(inputs['image']), inputs['token_ids'])
    decoder = policy.llm_backbone.llm.model
    mask = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).tril()
    mask[-1, 3:6] = False
    found = decoder(x, mask=mask, last_position_only=True)
    assert error(found, decoder(x, mask=mask)[:, -1:]) <= TOLERANCE
    assert error(found, decoder(x)[:, -1:]) > TOLERANCE


@pytest.mark.parametrize('steps', [1, 2, 3, 10, 25, 100])
@pytest.mark.parametrize('guidance', [0.5, 1.0, 1.5, 4.0])
def test_sampling_with_constants_computed_once(policy, inputs, steps, guidance):
    options = {'steps': steps, 'guidance': guidance}
    cognition = torch.randn(2, policy.config.llm.width)
    found = policy.sampler(**options)(cognition, inputs['noise'])
    expected = reference_sample(policy, cognition, inputs['noise'], **options)
    assert error(found, expected) <= TOLERANCE


def test_a_sampler_keeps_no_state_between_chunks(policy, inputs):
    sampler: DiffusionSampler = policy.sampler()
    first, second = torch.randn(2, 2, policy.config.llm.width)
    once = sampler(first, inputs['noise'])
    sampler(second, inputs['noise'])
    assert torch.equal(sampler(first, inputs['noise']), once)
