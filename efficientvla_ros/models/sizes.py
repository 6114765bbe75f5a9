"""Sizes of a checkpoint's networks, from its configuration and the shapes in its file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from typing import Any

from efficientvla_ros.models.config import (
    CONFIGS,
    PRISM_DINOSIGLIP_7B,
    CogACTConfig,
    ConfigError,
    DiTConfig,
    LlamaConfig,
    OpenVLAConfig,
    VLMConfig,
)
from efficientvla_ros.models.errors import CheckpointError
from efficientvla_ros.models.layout import COGACT, EMBEDDED, OPENVLA
from efficientvla_ros.models.sources import CONFIG_FILE, Source

Shapes = Mapping[str, tuple[int, ...]]

BASE_VLMS = {'prism-dinosiglip-224px+7b': PRISM_DINOSIGLIP_7B}
"""Vision-language models by the name under which CogACT's configuration refers to them."""

TOWERS = {
    'vit_large_patch14_reg4_dinov2.lvd142m': PRISM_DINOSIGLIP_7B['dino'],
    'vit_so400m_patch14_siglip_224': PRISM_DINOSIGLIP_7B['siglip'],
}
"""Vision towers by the name under which OpenVLA's configuration refers to them."""

_HEAD = 'action_model.net.'
_HEADS_BY_WIDTH = {384: 4, 768: 12, 1024: 16}
_HEAD_DIM = 64
_UNKNOWN_HEAD = CONFIGS['cogact-base'].head

_LLAMA_FIELDS = {
    'hidden_size': 'width',
    'num_hidden_layers': 'layers',
    'num_attention_heads': 'heads',
    'num_key_value_heads': 'kv_heads',
    'intermediate_size': 'mlp_width',
    'vocab_size': 'vocab_size',
    'rms_norm_eps': 'rms_eps',
    'rope_theta': 'rope_theta',
    'max_position_embeddings': 'max_positions',
}


def model_config(source: Source, shapes: Shapes) -> VLMConfig:
    """Sizes of a checkpoint's networks.

    The key `model` of `config.json` may describe them in full, as `to_dict` of `CogACTConfig`
    (`head` may be left out) or `OpenVLAConfig` gives it: an extension of the released layouts for
    vision-language models that this package does not know by name.

    Args:
        source: what `find_source` found.
        shapes: shapes by name in the file's layout, for the size of the diffusion head.

    Raises:
        CheckpointError: the configuration is incomplete or of another network.
    """
    try:
        if source.kind == EMBEDDED:
            return CogACTConfig.from_dict(source.description['model'])
        if source.kind == COGACT:
            return _cogact(source, shapes)
        return _openvla(source)
    except KeyError as error:
        raise CheckpointError(f'{source.folder / CONFIG_FILE} lacks the key {error}') from error
    except (ConfigError, TypeError, AttributeError) as error:
        raise CheckpointError(f'{source.folder / CONFIG_FILE}: {error}') from error


def head_config(shapes: Shapes, given: Mapping[str, Any] | None = None) -> DiTConfig:
    """Sizes of a diffusion head, from the shapes of its tensors.

    Each size is read from several tensors and the majority counts, so that one wrong tensor
    does not make all others look wrong.

    Args:
        shapes: shapes by name; those of the head begin with `action_model.net.`.
        given: fields that the configuration states; used for what shapes do not say.

    Raises:
        ConfigError: nobody knows how many attention heads a head of this width has.
    """
    base = replace(_UNKNOWN_HEAD, **(given or {}))
    head = {name[len(_HEAD) :]: s for name, s in shapes.items() if name.startswith(_HEAD)}
    if not head:
        return base
    blocks = {name.split('.')[1] for name in head if name.startswith('blocks.')}
    width = _vote(
        _sizes(head, 'blocks.0.attn.proj.bias', 0),
        _sizes(head, 't_embedder.mlp.2.bias', 0),
        _sizes(head, 'z_embedder.linear.bias', 0),
        _sizes(head, 'x_embedder.linear.bias', 0),
        _sizes(head, 'final_layer.linear.weight', 1),
        default=base.width,
    )
    action_dim = _vote(
        _sizes(head, 'final_layer.linear.bias', 0),
        _sizes(head, 'final_layer.linear.weight', 0),
        _sizes(head, 'x_embedder.linear.weight', 1),
        default=base.action_dim,
    )
    position = head.get('positional_embedding', ())
    horizon = position[0] - 1 if len(position) == 2 and position[1] == width else base.horizon
    return replace(
        base,
        width=width,
        depth=len(blocks),
        heads=_heads(width, given),
        horizon=horizon,
        action_dim=action_dim,
    )


def _heads(width: int, given: Mapping[str, Any] | None) -> int:
    if given and 'heads' in given:
        return given['heads']
    if width in _HEADS_BY_WIDTH:
        return _HEADS_BY_WIDTH[width]
    if width % _HEAD_DIM:
        raise ConfigError(
            f'the diffusion head is {width} wide, expected {", ".join(map(str, _HEADS_BY_WIDTH))} '
            f'or another multiple of {_HEAD_DIM}'
        )
    return width // _HEAD_DIM


def _cogact(source: Source, shapes: Shapes) -> CogACTConfig:
    own = _described(source)
    if own is not None:
        head = head_config(shapes, own.get('head'))
        return CogACTConfig.from_dict({**own, 'head': asdict(head)})
    base = _base_vlm(source)
    head = head_config(shapes)
    known = (c for c in CONFIGS.values() if isinstance(c, CogACTConfig) and c.head == head)
    name = next((config.name for config in known), 'cogact')
    return CogACTConfig(name=name, head=head, **base)


def _described(source: Source) -> dict[str, Any] | None:
    own = source.description.get('model')
    if own is not None and not isinstance(own, dict):
        raise ConfigError(f"'model' is {own!r}, expected an object with the sizes of the networks")
    return own


def _base_vlm(source: Source) -> dict[str, Any]:
    name = source.description['vla']['base_vlm']
    if not isinstance(name, str) or name not in BASE_VLMS:
        raise ConfigError(
            f"'vla.base_vlm' is {name!r}, expected {', '.join(BASE_VLMS)}, or the sizes of the "
            "networks under the key 'model'"
        )
    return BASE_VLMS[name]


def _openvla(source: Source) -> OpenVLAConfig:
    description = source.description
    own = _described(source)
    if own is not None:
        return OpenVLAConfig.from_dict(own)
    if source.kind != OPENVLA:
        return OpenVLAConfig(name='openvla', **_base_vlm(source))
    for key, expected in (
        ('use_fused_vision_backbone', True),
        ('image_resize_strategy', 'resize-naive'),
    ):
        if description[key] != expected:
            raise ConfigError(f'{key!r} is {description[key]!r}, expected {expected!r}')
    text = description.get('text_config', {})
    if text.get('rope_scaling'):
        raise ConfigError(f"'rope_scaling' is {text['rope_scaling']!r}, expected none")
    llm = replace(LlamaConfig(), **_renamed(text))
    dino, siglip = _towers(description['timm_model_ids'])
    return OpenVLAConfig(
        name=CONFIGS['openvla-7b'].name if llm == LlamaConfig() else 'openvla',
        dino=dino,
        siglip=siglip,
        llm=llm,
        image_size=description['image_sizes'][0],
        action_bins=description['n_action_bins'],
        action_vocab_end=llm.vocab_size - description['pad_to_multiple_of'],
    )


def _renamed(text: Mapping[str, Any]) -> dict[str, Any]:
    found = {ours: text[theirs] for theirs, ours in _LLAMA_FIELDS.items() if theirs in text}
    if 'heads' in found:  # theirs falls back to plain attention, not to the 7-B model's heads
        found.setdefault('kv_heads', found['heads'])
    # The table of positions is only as long as training was; ours has no reason to be shorter.
    found.pop('max_positions', None)
    return found


def _towers(names: Any) -> tuple[Any, Any]:
    if not isinstance(names, list) or names != list(TOWERS):
        raise ConfigError(f"'timm_model_ids' is {names!r}, expected {list(TOWERS)}")
    return tuple(TOWERS.values())


def _sizes(shapes: Shapes, name: str, axis: int) -> list[int]:
    shape = shapes.get(name, ())
    return [shape[axis]] if len(shape) > axis else []


def _vote(*candidates: Iterable[int], default: int) -> int:
    counts = Counter(size for sizes in candidates for size in sizes)
    return counts.most_common(1)[0][0] if counts else default
