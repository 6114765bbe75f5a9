"""Random weights are the same for the same seed, wherever and however the model was made."""

import pytest
import torch
from small_models import small_config, tiny_openvla

from efficientvla_ros.models.cogact import CogACT
from efficientvla_ros.models.config import TABLETOP_PICK
from efficientvla_ros.models.random_weights import init_weights

FIRST_VALUES = {
    'vision_backbone.dino_featurizer.patch_embed.proj.weight': [
        0.0759764090180397,
        0.021398546174168587,
    ],
    'vision_backbone.siglip_featurizer.pos_embed': [0.105690136551857, -0.13955408334732056],
    'llm_backbone.llm.model.layers.11.mlp.down_proj.weight': [
        0.0005500424304045737,
        0.009945778176188469,
    ],
    'action_model.net.z_embedder.uncondition': [0.05468331649899483, 0.35635441541671753],
    'action_model.net.final_layer.linear.weight': [0.004362988751381636, -0.0026133067440241575],
}


def allocated_anywhere(dtype: torch.dtype) -> CogACT:
    with torch.device('meta'):
        model = CogACT(small_config())
    rubbish = {
        name: torch.full(p.shape, float('nan'), dtype=dtype)
        for name, p in model.named_parameters()
    }
    model.load_state_dict(rubbish, assign=True)
    return model


def test_the_seed_decides():
    first, same, other = (
        init_weights(CogACT(small_config()), seed).state_dict() for seed in (1, 1, 2)
    )
    assert all(torch.equal(first[name], same[name]) for name in first)
    changed = [name for name in first if not torch.equal(first[name], other[name])]
    assert 'action_model.net.z_embedder.uncondition' in changed and len(changed) > 20


def test_memory_that_held_anything_is_filled_completely():
    expected = init_weights(CogACT(small_config()), seed=3).state_dict()
    found = init_weights(allocated_anywhere(torch.float32), seed=3).state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_another_type_gives_the_same_weights_rounded():
    expected = init_weights(CogACT(small_config()), seed=3).state_dict()
    found = init_weights(allocated_anywhere(torch.bfloat16), seed=3).state_dict()
    for name, value in expected.items():
        assert found[name].dtype == torch.bfloat16
        assert torch.allclose(found[name].float(), value, rtol=0.01, atol=1e-6)


def test_the_weights_that_training_has_always_started_from():
    state = init_weights(CogACT(TABLETOP_PICK), seed=5).state_dict()
    found = {name: state[name].flatten()[:2].tolist() for name in FIRST_VALUES}
    for name, values in FIRST_VALUES.items():
        assert found[name] == pytest.approx(values, abs=1e-6), name


def test_action_tokens_have_random_scores():
    model = tiny_openvla()
    assert float(model.llm_backbone.llm.lm_head.weight.std()) > 0.1


@pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA device')
def test_cuda_is_reproducible():
    first, same = (
        init_weights(CogACT(small_config()).to('cuda'), seed=1).state_dict() for _ in range(2)
    )
    assert all(torch.equal(first[name], same[name]) for name in first)
