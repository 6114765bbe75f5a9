"""Every network against an independent implementation: same weights, same numbers."""

import pytest
import torch

from efficientvla_ros.models.cogact import CogACT
from efficientvla_ros.models.config import HALF, CogACTConfig, DiTConfig, LlamaConfig, ViTConfig
from efficientvla_ros.models.llama import LlamaModel
from efficientvla_ros.models.random_weights import init_weights
from efficientvla_ros.models.vision import ViT

IMAGE, PATCH = 56, 14
PATCHES = (IMAGE // PATCH) ** 2
TOLERANCE = 1e-5


def small_config(kv_heads: int = 4) -> CogACTConfig:
    return CogACTConfig(
        name='small',
        dino=ViTConfig(32, 3, 4, 64, prefix_tokens=5, layer_scale=True),
        siglip=ViTConfig(48, 4, 4, 80),
        llm=LlamaConfig(
            width=64,
            layers=3,
            heads=4,
            kv_heads=kv_heads,
            mlp_width=96,
            vocab_size=64,
            max_positions=64,
        ),
        head=DiTConfig(width=32, depth=2, heads=4, horizon=6),
        image_size=IMAGE,
        projector_width=96,
        prompt_template='{instruction}',
        suffix_ids=(2,),
    )


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


def split_qkv(state: dict, source: str, target: str, names: list[str]) -> dict:
    parts = {}
    for kind in ('weight', 'bias'):
        for name, value in zip(names, state[f'{source}.qkv.{kind}'].chunk(3)):
            parts[f'{target}.{name}.{kind}'] = value
    return parts


def test_siglip_tower_equals_transformers_at_the_second_to_last_block(policy, image):
    from transformers import SiglipVisionConfig, SiglipVisionModel

    config = policy.config.siglip
    oracle = SiglipVisionModel(
        SiglipVisionConfig(
            hidden_size=config.width,
            num_hidden_layers=config.depth,
            num_attention_heads=config.heads,
            intermediate_size=config.mlp_width,
            image_size=IMAGE,
            patch_size=PATCH,
            hidden_act='gelu',
            layer_norm_eps=1e-6,
            vision_use_head=False,
        )
    ).eval()
    state = policy.vision_backbone.siglip_featurizer.state_dict()
    mapped = {
        'embeddings.patch_embedding.weight': state['patch_embed.proj.weight'],
        'embeddings.patch_embedding.bias': state['patch_embed.proj.bias'],
        'embeddings.position_embedding.weight': state['pos_embed'][0],
    }
    for i in range(config.blocks_used):
        ours, theirs = f'blocks.{i}', f'encoder.layers.{i}'
        mapped |= split_qkv(
            state, f'{ours}.attn', f'{theirs}.self_attn', ['q_proj', 'k_proj', 'v_proj']
        )
        for a, b in (
            ('norm1', 'layer_norm1'),
            ('norm2', 'layer_norm2'),
            ('mlp.fc1', 'mlp.fc1'),
            ('mlp.fc2', 'mlp.fc2'),
            ('attn.proj', 'self_attn.out_proj'),
        ):
            for kind in ('weight', 'bias'):
                mapped[f'{theirs}.{b}.{kind}'] = state[f'{ours}.{a}.{kind}']
    prefix = (
        'vision_model.' if any(k.startswith('vision_model.') for k in oracle.state_dict()) else ''
    )
    missing = oracle.load_state_dict({prefix + k: v for k, v in mapped.items()}, strict=False)
    assert not missing.unexpected_keys
    with torch.no_grad():
        hidden = oracle((image - 0.5) / 0.5, output_hidden_states=True).hidden_states[-2]
    found = policy.vision_backbone.siglip_featurizer(image)
    assert relative_error(found, hidden) <= TOLERANCE


def test_dino_tower_equals_transformers_at_the_second_to_last_block(policy, image):
    from transformers import Dinov2WithRegistersConfig, Dinov2WithRegistersModel

    config = policy.config.dino
    oracle = Dinov2WithRegistersModel(
        Dinov2WithRegistersConfig(
            hidden_size=config.width,
            num_hidden_layers=config.depth,
            num_attention_heads=config.heads,
            mlp_ratio=2,
            image_size=IMAGE,
            patch_size=PATCH,
            num_register_tokens=4,
            hidden_act='gelu',
            layer_norm_eps=1e-6,
        )
    ).eval()
    state = policy.vision_backbone.dino_featurizer.state_dict()
    zeros = torch.zeros(1, 1, config.width)
    mapped = {
        'embeddings.patch_embeddings.projection.weight': state['patch_embed.proj.weight'],
        'embeddings.patch_embeddings.projection.bias': state['patch_embed.proj.bias'],
        'embeddings.position_embeddings': torch.cat((zeros, state['pos_embed']), dim=1),
        'embeddings.cls_token': state['cls_token'],
        'embeddings.register_tokens': state['reg_token'],
    }
    names = set(oracle.state_dict())
    for i in range(config.blocks_used):
        ours = f'blocks.{i}'
        theirs = next(
            root
            for root in (f'encoder.layer.{i}', f'encoder.layers.{i}', f'layer.{i}')
            if f'{root}.norm1.weight' in names
        )
        attention = (
            ['q_proj', 'k_proj', 'v_proj']
            if f'{theirs}.attention.q_proj.weight' in names
            else ['attention.query', 'attention.key', 'attention.value']
        )
        output = 'o_proj' if f'{theirs}.attention.o_proj.weight' in names else 'output.dense'
        mapped |= split_qkv(state, f'{ours}.attn', f'{theirs}.attention', attention)
        for a, b in (
            ('norm1', 'norm1'),
            ('norm2', 'norm2'),
            ('mlp.fc1', 'mlp.fc1'),
            ('mlp.fc2', 'mlp.fc2'),
            ('attn.proj', f'attention.{output}'),
        ):
            for kind in ('weight', 'bias'):
                mapped[f'{theirs}.{b}.{kind}'] = state[f'{ours}.{a}.{kind}']
        for k in (1, 2):
            mapped[f'{theirs}.layer_scale{k}.lambda1'] = state[f'{ours}.ls{k}.gamma']
    missing = oracle.load_state_dict(mapped, strict=False)
    assert not missing.unexpected_keys
    with torch.no_grad():
        hidden = oracle((image - 0.5) / 0.5, output_hidden_states=True).hidden_states[-2]
    assert config.mean == HALF
    found = policy.vision_backbone.dino_featurizer(image)
    assert relative_error(found, hidden[:, 5:]) <= TOLERANCE


@pytest.mark.parametrize('kv_heads', [4, 2, 1])
def test_decoder_equals_transformers_llama(kv_heads):
    from transformers import LlamaConfig as OracleConfig
    from transformers import LlamaModel as OracleModel

    config = small_config(kv_heads).llm
    torch.manual_seed(0)
    ours = LlamaModel(config).eval().requires_grad_(False)
    oracle = OracleModel(
        OracleConfig(
            hidden_size=config.width,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            num_key_value_heads=config.kv_heads,
            intermediate_size=config.mlp_width,
            vocab_size=config.vocab_size,
            rms_norm_eps=config.rms_eps,
            max_position_embeddings=config.max_positions,
        )
    ).eval()
    for value in ours.parameters():
        value.data += 0.1 * torch.randn_like(value)
    result = oracle.load_state_dict(ours.state_dict(), strict=False)
    assert not result.unexpected_keys and not result.missing_keys
    x = torch.randn(2, 17, config.width)
    with torch.no_grad():
        expected = oracle(inputs_embeds=x).last_hidden_state
    assert relative_error(ours(x), expected) <= TOLERANCE


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


@pytest.mark.parametrize(
    ('name', 'head'),
    [('cogact-small', 12_476_807), ('cogact-base', 88_986_887), ('cogact-large', 307_764_231)],
)
def test_released_heads_have_the_published_number_of_parameters(name, head):
    from efficientvla_ros.models.config import CONFIGS

    config = CONFIGS[name]
    with torch.device('meta'):
        model = CogACT(config)
    count = {
        part: sum(p.numel() for p in module.parameters())
        for part, module in model.named_children()
    }
    # The released head also has an unused embedder of past actions: Linear(7, width).
    assert count['action_model'] + 8 * config.head.width == head
    assert count['projector'] == 71_385_600
    lm_head = config.llm.vocab_size * config.llm.width
    assert count['llm_backbone'] + lm_head == 6_738_939_904
    towers = {
        part: sum(p.numel() for p in module.parameters())
        for part, module in model.vision_backbone.named_children()
    }
    assert towers == {'dino_featurizer': 290_630_656, 'siglip_featurizer': 397_200_544}
