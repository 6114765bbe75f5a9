"""A policy's vision towers and language model as transformers networks on the same weights."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType

import torch
from torch import Tensor, nn

from efficientvla_ros.models.config import LlamaConfig, ViTConfig
from efficientvla_ros.types import InputError

State = Mapping[str, Tensor]

_UNUSED_STD = 0.02
_NORM_EPS = 1e-6

_SIGLIP_BLOCK = {
    'norm1': 'layer_norm1',
    'norm2': 'layer_norm2',
    'attn.proj': 'self_attn.out_proj',
    'mlp.fc1': 'mlp.fc1',
    'mlp.fc2': 'mlp.fc2',
}
_DINO_BLOCK = {
    'norm1': 'norm1',
    'norm2': 'norm2',
    'attn.proj': 'attention.o_proj',
    'mlp.fc1': 'mlp.fc1',
    'mlp.fc2': 'mlp.fc2',
}


def transformers() -> ModuleType:
    """Returns the transformers library.

    Raises:
        InputError: it is not installed.
    """
    try:
        import transformers as library
    except ImportError as error:
        raise InputError(
            'the eager baseline needs transformers, which is not installed: '
            'pip install transformers'
        ) from error
    return library


def siglip_tower(config: ViTConfig, image_size: int, patch_size: int, state: State) -> nn.Module:
    """Builds SigLIP's tower with all its blocks.

    Args:
        config: the tower.
        image_size: side of the image, pixels.
        patch_size: side of a patch, pixels.
        state: the policy's tower by timm name, up to its second-to-last block.

    Returns:
        `SiglipVisionModel` without pooling head; blocks and norms that the policy does not
        have hold random weights.
    """
    library = transformers()
    with torch.device('meta'):
        tower = library.SiglipVisionModel(
            library.SiglipVisionConfig(
                hidden_size=config.width,
                num_hidden_layers=config.depth,
                num_attention_heads=config.heads,
                intermediate_size=config.mlp_width,
                image_size=image_size,
                patch_size=patch_size,
                hidden_act='gelu',
                layer_norm_eps=_NORM_EPS,
                vision_use_head=False,
            )
        )
    tensors = {
        'embeddings.patch_embedding.weight': state['patch_embed.proj.weight'],
        'embeddings.patch_embedding.bias': state['patch_embed.proj.bias'],
        'embeddings.position_embedding.weight': state['pos_embed'][0],
    }
    for i in range(config.blocks_used):
        tensors |= _block(state, f'blocks.{i}', f'encoder.layers.{i}', _SIGLIP_BLOCK, 'self_attn')
    _adopt(tower, tensors)
    patches = torch.arange((image_size // patch_size) ** 2, device=state['pos_embed'].device)
    tower.embeddings.position_ids = patches.unsqueeze(0)
    return tower


def dino_tower(config: ViTConfig, image_size: int, patch_size: int, state: State) -> nn.Module:
    """Builds DINOv2's tower with registers and all its blocks; arguments as `siglip_tower`.

    Returns:
        `Dinov2WithRegistersModel`; blocks and norms that the policy does not have hold random
        weights.

    Raises:
        InputError: transformers cannot build a tower of this shape.
    """
    library = transformers()
    ratio, rest = divmod(config.mlp_width, config.width)
    if rest or not config.layer_scale or not config.prefix_tokens:
        raise InputError(
            'the eager baseline takes a DINOv2 tower with registers, layer scale and an MLP of a '
            f'whole multiple of its width; the policy has {config}'
        )
    with torch.device('meta'):
        tower = library.Dinov2WithRegistersModel(
            library.Dinov2WithRegistersConfig(
                hidden_size=config.width,
                num_hidden_layers=config.depth,
                num_attention_heads=config.heads,
                mlp_ratio=ratio,
                image_size=image_size,
                patch_size=patch_size,
                num_register_tokens=config.prefix_tokens - 1,
                hidden_act='gelu',
                layer_norm_eps=_NORM_EPS,
            )
        )
    # transformers gives the class token a position of its own, DINOv2 with registers has none.
    positions = state['pos_embed']
    no_position = torch.zeros_like(positions[:, :1])
    tensors = {
        'embeddings.patch_embeddings.projection.weight': state['patch_embed.proj.weight'],
        'embeddings.patch_embeddings.projection.bias': state['patch_embed.proj.bias'],
        'embeddings.position_embeddings': torch.cat((no_position, positions), dim=1),
        'embeddings.cls_token': state['cls_token'],
        'embeddings.register_tokens': state['reg_token'],
    }
    for i in range(config.blocks_used):
        ours, theirs = f'blocks.{i}', f'encoder.layer.{i}'
        tensors |= _block(state, ours, theirs, _DINO_BLOCK, 'attention')
        for k in (1, 2):
            tensors[f'{theirs}.layer_scale{k}.lambda1'] = state[f'{ours}.ls{k}.gamma']
    _adopt(tower, tensors)
    return tower


def llama(config: LlamaConfig, state: State) -> nn.Module:
    """Builds the language model with its output matrix.

    Args:
        config: the language model.
        state: the policy's decoder by its published name, `model.layers...`.

    Returns:
        `LlamaForCausalLM`; an `lm_head` that the policy does not have is random.
    """
    library = transformers()
    settings = library.LlamaConfig(
        hidden_size=config.width,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        num_key_value_heads=config.kv_heads,
        intermediate_size=config.mlp_width,
        vocab_size=config.vocab_size,
        rms_norm_eps=config.rms_eps,
        rope_theta=config.rope_theta,
        max_position_embeddings=config.max_positions,
        tie_word_embeddings=False,
        pad_token_id=0,
    )
    with torch.device('meta'):
        model = library.LlamaForCausalLM(settings)
    _adopt(model, dict(state))
    # The frequencies are no parameters: they are computed anew, off the meta device.
    rotary = type(model.model.rotary_emb)(settings)
    model.model.rotary_emb = rotary.to(state['model.norm.weight'].device)
    return model


def _block(state: State, ours: str, theirs: str, parts: dict[str, str], attention: str) -> dict:
    """Maps one transformer block; q, k and v are row ranges of the fused matrix, not copies."""
    tensors = {}
    for kind in ('weight', 'bias'):
        for name, value in zip('qkv', state[f'{ours}.attn.qkv.{kind}'].chunk(3)):
            tensors[f'{theirs}.{attention}.{name}_proj.{kind}'] = value
        for source, target in parts.items():
            tensors[f'{theirs}.{target}.{kind}'] = state[f'{ours}.{source}.{kind}']
    return tensors


def _adopt(module: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Gives a module on the meta device these tensors, and random ones where none is named."""
    like = next(iter(tensors.values()))
    generator = torch.Generator(like.device).manual_seed(0)
    for name, parameter in module.named_parameters():
        if name not in tensors:
            empty = torch.empty(parameter.shape, dtype=like.dtype, device=like.device)
            tensors[name] = empty.normal_(0.0, _UNUSED_STD, generator=generator)
    module.load_state_dict(tensors, strict=True, assign=True)
    module.requires_grad_(False).eval()
