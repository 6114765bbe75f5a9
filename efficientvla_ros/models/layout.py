"""Names and shapes of every tensor in the released files, from the sizes alone.

The files hold more than the policies use: the last block of each vision tower, the norms after
it, SigLIP's pooling head, and for CogACT the language model's next-token scores. A reader that
knows those as well can insist on exactly the tensors that belong to a file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from efficientvla_ros.models.config import (
    CogACTConfig,
    DiTConfig,
    LlamaConfig,
    OpenVLAConfig,
    ViTConfig,
    VLMConfig,
)

EMBEDDED, COGACT, PRISMATIC, OPENVLA = 'embedded', 'cogact', 'prismatic', 'openvla'
"""Layouts: this package's own file, CogACT's `.pt`, OpenVLA's `.pt` and OpenVLA's safetensors."""

LAST_BLOCK = 'last vision blocks: features leave before them'
POOLING = "norms and pooling after the vision towers' blocks"
NEXT_TOKEN = 'next-token scores: only the hidden state is read'
HISTORY = 'history embedder: never run'
AVERAGED = 'averaged weights of the action head: not asked for'
REPLACED = 'action head: replaced by its averaged weights'

_TIME_WAVES = 256
Shape = tuple[int, ...]


@dataclass(frozen=True)
class TensorSpec:
    """One tensor of a file.

    Attributes:
        shape: as PyTorch gives it, (out, in) for matrices.
        target: name of our parameter that takes it; None if nothing does.
        reason: why nothing does; empty for tensors in use.
    """

    shape: Shape
    target: str | None
    reason: str = ''

    @property
    def parameters(self) -> int:
        """Number of values."""
        count = 1
        for size in self.shape:
            count *= size
        return count


Specs = dict[str, TensorSpec]


def released_tensors(
    config: VLMConfig, layout: str, *, ema: bool = False, use_ema: bool = False
) -> Specs:
    """All tensors of a file, by the file's names.

    Args:
        config: sizes.
        layout: one of the four layouts. Names of `.pt` files are `<group>.<name>`.
        ema: whether a `.pt` file has the group `ema_diffusion`.
        use_ema: whether that group's weights are wanted in place of `action_model`'s.
    """
    specs = dict(_tensors(config))
    if layout == EMBEDDED:
        return {name: spec for name, spec in specs.items() if spec.target is not None}
    if layout == OPENVLA:
        return {huggingface_name(name): spec for name, spec in specs.items()}
    head = {name: spec for name, spec in specs.items() if name.startswith('action_model.')}
    if ema:
        for name, spec in head.items():
            twin = name.replace('action_model.', 'ema_diffusion.', 1)
            unused = replace(spec, target=None, reason=spec.reason or AVERAGED)
            specs[twin] = spec if use_ema else unused
    if use_ema:
        for name, spec in head.items():
            specs[name] = replace(spec, target=None, reason=spec.reason or REPLACED)
    return specs


def released_parameters(config: VLMConfig) -> dict[str, int]:
    """Parameters in the released file by component, dead ones included."""
    counts: dict[str, int] = {}
    for name, spec in _tensors(config):
        component = _component(name)
        counts[component] = counts.get(component, 0) + spec.parameters
    return counts


def huggingface_name(name: str) -> str:
    """Name in OpenVLA's safetensors of a tensor of the `.pt` files."""
    for ours, theirs in _HUGGINGFACE_PREFIXES:
        if name.startswith(ours):
            name = theirs + name[len(ours) :]
            break
    # Their vision towers call the gains of residual branches differently.
    return name.removesuffix('.gamma') + '.scale_factor' if name.endswith('.gamma') else name


_HUGGINGFACE_PREFIXES = (
    ('vision_backbone.dino_featurizer.', 'vision_backbone.featurizer.'),
    ('vision_backbone.siglip_featurizer.', 'vision_backbone.fused_featurizer.'),
    ('projector.projector.0.', 'projector.fc1.'),
    ('projector.projector.2.', 'projector.fc2.'),
    ('projector.projector.4.', 'projector.fc3.'),
    ('llm_backbone.llm.', 'language_model.'),
)

_COMPONENTS = (
    ('vision_backbone.dino_featurizer.', 'dino'),
    ('vision_backbone.siglip_featurizer.', 'siglip'),
    ('projector.', 'projector'),
    ('llm_backbone.llm.model.embed_tokens.', 'embedding'),
    ('llm_backbone.llm.lm_head.', 'lm_head'),
    ('llm_backbone.', 'llm'),
    ('action_model.', 'action_head'),
)


def _component(name: str) -> str:
    return next(component for prefix, component in _COMPONENTS if name.startswith(prefix))


def _tensors(config: VLMConfig) -> Iterator[tuple[str, TensorSpec]]:
    """Every tensor of a `.pt` file; targets are the file's names."""
    parts: list[tuple[str, Iterator[tuple[str, Shape, str]]]] = [
        ('vision_backbone.dino_featurizer.', _tower(config, config.dino)),
        ('vision_backbone.siglip_featurizer.', _tower(config, config.siglip)),
        ('projector.projector.', _projector(config)),
        ('llm_backbone.llm.', _llama(config.llm, isinstance(config, OpenVLAConfig))),
    ]
    if isinstance(config, CogACTConfig):
        parts.append(('action_model.net.', _head(config.head, config.llm.width)))
    for prefix, tensors in parts:
        for name, shape, reason in tensors:
            full = prefix + name
            yield full, TensorSpec(shape, None if reason else full, reason)


def _linear(name: str, outputs: int, inputs: int, reason: str = '') -> Iterator:
    yield f'{name}.weight', (outputs, inputs), reason
    yield f'{name}.bias', (outputs,), reason


def _norm(name: str, width: int, reason: str = '') -> Iterator:
    yield f'{name}.weight', (width,), reason
    yield f'{name}.bias', (width,), reason


def _tower(config: VLMConfig, tower: ViTConfig) -> Iterator:
    width, hidden, patch = tower.width, tower.mlp_width, config.patch_size
    if tower.prefix_tokens:
        yield 'cls_token', (1, 1, width), ''
        yield 'reg_token', (1, tower.prefix_tokens - 1, width), ''
    yield 'pos_embed', (1, config.num_patches, width), ''
    yield 'patch_embed.proj.weight', (width, 3, patch, patch), ''
    yield 'patch_embed.proj.bias', (width,), ''
    for index in range(tower.depth):
        reason = '' if index < tower.blocks_used else LAST_BLOCK
        block = f'blocks.{index}'
        yield from _norm(f'{block}.norm1', width, reason)
        yield from _linear(f'{block}.attn.qkv', 3 * width, width, reason)
        yield from _linear(f'{block}.attn.proj', width, width, reason)
        yield from _norm(f'{block}.norm2', width, reason)
        yield from _linear(f'{block}.mlp.fc1', hidden, width, reason)
        yield from _linear(f'{block}.mlp.fc2', width, hidden, reason)
        if tower.layer_scale:
            yield f'{block}.ls1.gamma', (width,), reason
            yield f'{block}.ls2.gamma', (width,), reason
    yield from _norm('norm', width, POOLING)
    if not tower.prefix_tokens:  # SigLIP has no class token and pools with attention instead
        yield 'attn_pool.latent', (1, 1, width), POOLING
        yield from _linear('attn_pool.q', width, width, POOLING)
        yield from _linear('attn_pool.kv', 2 * width, width, POOLING)
        yield from _linear('attn_pool.proj', width, width, POOLING)
        yield from _norm('attn_pool.norm', width, POOLING)
        yield from _linear('attn_pool.mlp.fc1', hidden, width, POOLING)
        yield from _linear('attn_pool.mlp.fc2', width, hidden, POOLING)


def _projector(config: VLMConfig) -> Iterator:
    yield from _linear('0', config.projector_width, config.vision_width)
    yield from _linear('2', config.llm.width, config.projector_width)
    yield from _linear('4', config.llm.width, config.llm.width)


def _llama(llm: LlamaConfig, lm_head: bool) -> Iterator:
    width, kv_width = llm.width, llm.kv_heads * llm.head_dim
    yield 'model.embed_tokens.weight', (llm.vocab_size, width), ''
    for index in range(llm.layers):
        layer = f'model.layers.{index}'
        yield f'{layer}.self_attn.q_proj.weight', (width, width), ''
        yield f'{layer}.self_attn.k_proj.weight', (kv_width, width), ''
        yield f'{layer}.self_attn.v_proj.weight', (kv_width, width), ''
        yield f'{layer}.self_attn.o_proj.weight', (width, width), ''
        yield f'{layer}.mlp.gate_proj.weight', (llm.mlp_width, width), ''
        yield f'{layer}.mlp.up_proj.weight', (llm.mlp_width, width), ''
        yield f'{layer}.mlp.down_proj.weight', (width, llm.mlp_width), ''
        yield f'{layer}.input_layernorm.weight', (width,), ''
        yield f'{layer}.post_attention_layernorm.weight', (width,), ''
    yield 'model.norm.weight', (width,), ''
    yield 'lm_head.weight', (llm.vocab_size, width), '' if lm_head else NEXT_TOKEN


def _head(head: DiTConfig, condition_width: int) -> Iterator:
    width, action_dim = head.width, head.action_dim
    yield 'positional_embedding', (head.horizon + 1, width), ''
    yield from _linear('history_embedder.linear', width, action_dim, HISTORY)
    yield from _linear('x_embedder.linear', width, action_dim)
    yield from _linear('t_embedder.mlp.0', width, _TIME_WAVES)
    yield from _linear('t_embedder.mlp.2', width, width)
    yield 'z_embedder.uncondition', (1, condition_width), ''
    yield from _linear('z_embedder.linear', width, condition_width)
    for index in range(head.depth):
        block = f'blocks.{index}'
        yield from _linear(f'{block}.attn.qkv', 3 * width, width)
        yield from _linear(f'{block}.attn.proj', width, width)
        yield from _linear(f'{block}.mlp.fc1', 4 * width, width)
        yield from _linear(f'{block}.mlp.fc2', width, 4 * width)
    yield from _linear('final_layer.linear', action_dim, width)
