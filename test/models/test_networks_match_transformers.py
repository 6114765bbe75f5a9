"""Every network against an independent implementation: same weights, same numbers."""

import pytest
import torch
from small_models import IMAGE, PATCH, small_config
from transformers_oracles import dino_oracle, llama_oracle, siglip_oracle

from efficientvla_ros.models.cogact import CogACT
from efficientvla_ros.models.config import CONFIGS
from efficientvla_ros.models.llama import LlamaModel
from efficientvla_ros.models.random_weights import init_weights
from efficientvla_ros.models.vision import ViT

TOLERANCE = 1e-5
ORACLES = {'dino': dino_oracle, 'siglip': siglip_oracle}


@pytest.fixture(scope='module')
def policy() -> CogACT:
    model = init_weights(CogACT(small_config()), seed=3).eval()
    generator = torch.Generator().manual_seed(1)
    for value in model.parameters():
        # Norm gains and biases away from one and zero, so that leaving one out shows.
        if value.ndim == 1:
            value.data += 0.2 * torch.randn(value.shape, generator=generator)
    return model.requires_grad_(False)


@pytest.fixture(scope='module')
def image() -> torch.Tensor:
    return torch.rand(2, 3, IMAGE, IMAGE, generator=torch.Generator().manual_seed(0))


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize('name', ['siglip', 'dino'])
def test_a_tower_equals_transformers_at_the_second_to_last_block(policy, image, name):
    tower = getattr(policy.vision_backbone, f'{name}_featurizer')
    oracle = ORACLES[name](tower, getattr(policy.config, name), IMAGE, PATCH)
    hidden = oracle((image - tower.mean) / tower.std, output_hidden_states=True).hidden_states
    assert relative_error(tower(image), hidden[-2][:, tower.prefix_tokens :]) <= TOLERANCE


@pytest.mark.parametrize('name', ['siglip', 'dino'])
def test_the_blocks_of_a_tower_are_those_of_transformers_to_the_last_bit(policy, image, name):
    tower = getattr(policy.vision_backbone, f'{name}_featurizer')
    oracle = ORACLES[name](tower, getattr(policy.config, name), IMAGE, PATCH)
    hidden = oracle((image - tower.mean) / tower.std, output_hidden_states=True).hidden_states
    x = hidden[0]
    for block in tower.blocks:
        x = block(x)
    assert torch.equal(x, hidden[-2])


def test_towers_see_the_image_statistics_they_were_trained_with(policy, image):
    for name, mean, std in (
        ('dino', (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ('siglip', (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    ):
        released = CONFIGS['cogact-base']
        config = getattr(released, name)
        assert (config.mean, config.std) == (mean, std)
    fused = policy.vision_backbone(image)
    width = policy.config.dino.width
    assert torch.equal(fused[..., :width], policy.vision_backbone.dino_featurizer(image))
    assert torch.equal(fused[..., width:], policy.vision_backbone.siglip_featurizer(image))


@pytest.mark.parametrize('kv_heads', [4, 2, 1])
def test_the_decoder_is_the_llama_of_transformers_to_the_last_bit(kv_heads):
    config = small_config(kv_heads).llm
    torch.manual_seed(0)
    ours = LlamaModel(config).eval().requires_grad_(False)
    for value in ours.parameters():
        value.data += 0.1 * torch.randn_like(value)
    x = torch.randn(2, 49, config.width)
    expected = llama_oracle(ours, config)(inputs_embeds=x).last_hidden_state
    assert torch.equal(ours(x), expected)
    assert relative_error(ours(x, last_position_only=True), expected[:, -1:]) <= TOLERANCE


def test_a_convolution_and_the_patch_embedding_agree(policy, image):
    tower: ViT = policy.vision_backbone.siglip_featurizer
    expected = tower.patch_embed.proj(image).flatten(2).transpose(1, 2)
    assert relative_error(tower.patch_embed(image), expected) <= TOLERANCE


def test_names_are_those_of_the_released_files(policy):
    names = set(policy.state_dict())
    for name in (
        'vision_backbone.dino_featurizer.blocks.0.ls1.gamma',
        'vision_backbone.siglip_featurizer.blocks.2.attn.qkv.bias',
        'projector.projector.4.weight',
        'llm_backbone.llm.model.layers.2.mlp.down_proj.weight',
        'llm_backbone.llm.model.norm.weight',
        'action_model.net.z_embedder.uncondition',
        'action_model.net.t_embedder.mlp.2.bias',
        'action_model.net.final_layer.linear.weight',
    ):
        assert name in names
    # The block after the feature layer is never run, so it is never built.
    assert 'vision_backbone.siglip_featurizer.blocks.3.attn.qkv.bias' not in names
