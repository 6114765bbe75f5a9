"""The networks of transformers with the weights of ours, under the names it gives them."""

from torch import nn

from efficientvla_ros.models.config import LlamaConfig, ViTConfig
from efficientvla_ros.models.llama import LlamaModel
from efficientvla_ros.models.vision import ViT


def siglip_oracle(tower: ViT, config: ViTConfig, image_size: int, patch: int) -> nn.Module:
    from transformers import SiglipVisionConfig, SiglipVisionModel

    oracle = SiglipVisionModel(
        SiglipVisionConfig(
            hidden_size=config.width,
            num_hidden_layers=config.depth,
            num_attention_heads=config.heads,
            intermediate_size=config.mlp_width,
            image_size=image_size,
            patch_size=patch,
            hidden_act='gelu',
            layer_norm_eps=1e-6,
            vision_use_head=False,
        )
    )
    state = tower.state_dict()
    mapped = {
        'embeddings.patch_embedding.weight': state['patch_embed.proj.weight'],
        'embeddings.patch_embedding.bias': state['patch_embed.proj.bias'],
        'embeddings.position_embedding.weight': state['pos_embed'][0],
    }
    for i in range(config.blocks_used):
        ours, theirs = f'blocks.{i}', f'encoder.layers.{i}'
        attention = [f'self_attn.{name}_proj' for name in 'qkv']
        mapped |= _split_qkv(state, f'{ours}.attn', theirs, attention)
        pairs = {
            'norm1': 'layer_norm1',
            'norm2': 'layer_norm2',
            'mlp.fc1': 'mlp.fc1',
            'mlp.fc2': 'mlp.fc2',
            'attn.proj': 'self_attn.out_proj',
        }
        mapped |= _renamed(state, ours, theirs, pairs)
    if any(name.startswith('vision_model.') for name in oracle.state_dict()):
        mapped = {f'vision_model.{name}': value for name, value in mapped.items()}
    return _loaded(oracle, mapped)


def dino_oracle(tower: ViT, config: ViTConfig, image_size: int, patch: int) -> nn.Module:
    from transformers import Dinov2WithRegistersConfig, Dinov2WithRegistersModel

    oracle = Dinov2WithRegistersModel(
        Dinov2WithRegistersConfig(
            hidden_size=config.width,
            num_hidden_layers=config.depth,
            num_attention_heads=config.heads,
            mlp_ratio=config.mlp_width // config.width,
            image_size=image_size,
            patch_size=patch,
            num_register_tokens=config.prefix_tokens - 1,
            hidden_act='gelu',
            layer_norm_eps=1e-6,
        )
    )
    state, names = tower.state_dict(), set(oracle.state_dict())
    patches = state['pos_embed']
    # The released files have no position for the class token: nothing is added to it.
    positions = patches.new_zeros(1, 1 + patches.shape[1], config.width)
    positions[:, 1:] = patches
    mapped = {
        'embeddings.patch_embeddings.projection.weight': state['patch_embed.proj.weight'],
        'embeddings.patch_embeddings.projection.bias': state['patch_embed.proj.bias'],
        'embeddings.position_embeddings': positions,
        'embeddings.cls_token': state['cls_token'],
        'embeddings.register_tokens': state['reg_token'],
    }
    for i in range(config.blocks_used):
        ours = f'blocks.{i}'
        roots = (f'encoder.layer.{i}', f'encoder.layers.{i}', f'layer.{i}')
        theirs = next(root for root in roots if f'{root}.norm1.weight' in names)
        new_names = f'{theirs}.attention.q_proj.weight' in names
        attention = (
            [f'attention.{name}_proj' for name in 'qkv']
            if new_names
            else [f'attention.attention.{name}' for name in ('query', 'key', 'value')]
        )
        mapped |= _split_qkv(state, f'{ours}.attn', theirs, attention)
        output = 'attention.o_proj' if new_names else 'attention.output.dense'
        pairs = {name: name for name in ('norm1', 'norm2', 'mlp.fc1', 'mlp.fc2')}
        mapped |= _renamed(state, ours, theirs, {**pairs, 'attn.proj': output})
        for k in (1, 2):
            mapped[f'{theirs}.layer_scale{k}.lambda1'] = state[f'{ours}.ls{k}.gamma']
    return _loaded(oracle, mapped)


def llama_config(config: LlamaConfig):
    from transformers import LlamaConfig as OracleConfig

    return OracleConfig(
        hidden_size=config.width,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        num_key_value_heads=config.kv_heads,
        intermediate_size=config.mlp_width,
        vocab_size=config.vocab_size,
        rms_norm_eps=config.rms_eps,
        max_position_embeddings=config.max_positions,
    )


def llama_oracle(model: LlamaModel, config: LlamaConfig) -> nn.Module:
    from transformers import LlamaModel as Oracle

    return _loaded(Oracle(llama_config(config)), model.state_dict(), strict=True)


def causal_oracle(llm: nn.Module, config: LlamaConfig) -> nn.Module:
    """The language model with its next-token head."""
    from transformers import LlamaForCausalLM

    return _loaded(LlamaForCausalLM(llama_config(config)), llm.state_dict(), strict=True)


def _split_qkv(state: dict, source: str, target: str, names: list[str]) -> dict:
    parts = {}
    for kind in ('weight', 'bias'):
        for name, value in zip(names, state[f'{source}.qkv.{kind}'].chunk(3)):
            parts[f'{target}.{name}.{kind}'] = value
    return parts


def _renamed(state: dict, source: str, target: str, pairs: dict[str, str]) -> dict:
    return {
        f'{target}.{theirs}.{kind}': state[f'{source}.{ours}.{kind}']
        for ours, theirs in pairs.items()
        for kind in ('weight', 'bias')
    }


def _loaded(oracle: nn.Module, state: dict, strict: bool = False) -> nn.Module:
    # Not strict for the towers: their last block and final norm are of no influence and not ours.
    result = oracle.load_state_dict(state, strict=strict, assign=True)
    assert not result.unexpected_keys
    return oracle.eval().requires_grad_(False)
