"""Miniature checkpoints in the exact layouts of the released ones.

Every tensor of the real files has its counterpart here, those that nothing uses included. Names
and shapes of the miniatures are built from the published key tables, not from the package's own
list, which is what they are to check.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizer_writer import write_tokenizer
from torch import Tensor

from efficientvla_ros.models.config import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    CogACTConfig,
    DiTConfig,
    LlamaConfig,
    OpenVLAConfig,
    ViTConfig,
)

VLM: dict[str, Any] = {
    'dino': ViTConfig(
        32, 3, 2, 64, prefix_tokens=5, layer_scale=True, mean=IMAGENET_MEAN, std=IMAGENET_STD
    ),
    'siglip': ViTConfig(48, 3, 2, 80),
    'llm': LlamaConfig(
        width=32, layers=2, heads=2, kv_heads=2, mlp_width=48, vocab_size=32064, max_positions=128
    ),
    'image_size': 56,
    'projector_width': 64,
}
MINI_COGACT = CogACTConfig(name='cogact-mini', head=DiTConfig(64, 2, 1, horizon=16), **VLM)
MINI_OPENVLA = OpenVLAConfig(name='openvla-mini', **VLM)

KEYS = ('bridge_orig', 'fractal20220817_data')
Groups = dict[str, dict[str, Tensor]]


def statistics(keys: Sequence[str] = KEYS) -> dict[str, Any]:
    """Action statistics with the released files' fields, other values for each data set."""
    content = {}
    for number, key in enumerate(keys, start=1):
        q99 = [0.01 * number * (axis + 1) for axis in range(6)] + [1.0]
        q01 = [-0.5 * value for value in q99[:6]] + [0.0]
        entry = {'q01': q01, 'q99': q99, 'mask': [True] * 6 + [False]}
        entry |= {name: [0.0] * 7 for name in ('mean', 'std', 'min', 'max')}
        content[key] = {'action': entry, 'num_transitions': 10, 'num_trajectories': 1}
    return content


def tower_shapes(tower: ViTConfig, patches: int, patch: int) -> dict[str, tuple[int, ...]]:
    """A complete vision tower as its library saves it: last block, norm and pooling included."""
    d, h = tower.width, tower.mlp_width
    shapes = {'pos_embed': (1, patches, d), 'patch_embed.proj.weight': (d, 3, patch, patch)}
    shapes |= {'patch_embed.proj.bias': (d,), 'norm.weight': (d,), 'norm.bias': (d,)}
    if tower.prefix_tokens:
        shapes |= {'cls_token': (1, 1, d), 'reg_token': (1, 4, d)}
    else:
        shapes |= {'attn_pool.latent': (1, 1, d), 'attn_pool.kv.weight': (2 * d, d)}
        shapes |= {'attn_pool.kv.bias': (2 * d,)}
        shapes |= {'attn_pool.mlp.fc1.weight': (h, d), 'attn_pool.mlp.fc1.bias': (h,)}
        shapes |= {'attn_pool.mlp.fc2.weight': (d, h), 'attn_pool.mlp.fc2.bias': (d,)}
        shapes |= {'attn_pool.norm.weight': (d,), 'attn_pool.norm.bias': (d,)}
        for name in ('q', 'proj'):
            shapes |= {f'attn_pool.{name}.weight': (d, d), f'attn_pool.{name}.bias': (d,)}
    for n in range(tower.depth):
        block = {'norm1.weight': (d,), 'norm1.bias': (d,), 'norm2.weight': (d,)}
        block |= {'norm2.bias': (d,), 'attn.qkv.weight': (3 * d, d), 'attn.qkv.bias': (3 * d,)}
        block |= {'attn.proj.weight': (d, d), 'attn.proj.bias': (d,), 'mlp.fc1.weight': (h, d)}
        block |= {'mlp.fc1.bias': (h,), 'mlp.fc2.weight': (d, h), 'mlp.fc2.bias': (d,)}
        if tower.layer_scale:
            block |= {'ls1.gamma': (d,), 'ls2.gamma': (d,)}
        shapes |= {f'blocks.{n}.{name}': shape for name, shape in block.items()}
    return shapes


def llama_shapes(llm: LlamaConfig) -> dict[str, tuple[int, ...]]:
    """A language model as transformers saves it, behind the prefix `llm.`."""
    d, h = llm.width, llm.mlp_width
    shapes = {'llm.model.embed_tokens.weight': (llm.vocab_size, d), 'llm.model.norm.weight': (d,)}
    shapes['llm.lm_head.weight'] = (llm.vocab_size, d)
    for n in range(llm.layers):
        layer = {f'self_attn.{name}_proj.weight': (d, d) for name in 'qkvo'}
        layer |= {'mlp.gate_proj.weight': (h, d), 'mlp.up_proj.weight': (h, d)}
        layer |= {'mlp.down_proj.weight': (d, h), 'input_layernorm.weight': (d,)}
        layer |= {'post_attention_layernorm.weight': (d,)}
        shapes |= {f'llm.model.layers.{n}.{name}': shape for name, shape in layer.items()}
    return shapes


def head_shapes(head: DiTConfig, condition: int) -> dict[str, tuple[int, ...]]:
    """A diffusion head, with the history embedder that it never runs."""
    d, a = head.width, head.action_dim
    shapes = {'positional_embedding': (head.horizon + 1, d)}
    shapes |= {'z_embedder.uncondition': (1, condition)}
    linears = {'history_embedder.linear': (d, a), 'x_embedder.linear': (d, a)}
    linears |= {'t_embedder.mlp.0': (d, 256), 't_embedder.mlp.2': (d, d)}
    linears |= {'z_embedder.linear': (d, condition), 'final_layer.linear': (a, d)}
    for n in range(head.depth):
        linears |= {f'blocks.{n}.attn.qkv': (3 * d, d), f'blocks.{n}.attn.proj': (d, d)}
        linears |= {f'blocks.{n}.mlp.fc1': (4 * d, d), f'blocks.{n}.mlp.fc2': (d, 4 * d)}
    for name, (outputs, inputs) in linears.items():
        shapes |= {f'{name}.weight': (outputs, inputs), f'{name}.bias': (outputs,)}
    return {f'net.{name}': shape for name, shape in shapes.items()}


def random_groups(config: CogACTConfig | OpenVLAConfig, seed: int = 0) -> Groups:
    """Tensors of a whole `.pt` file, float32, by group."""
    patches, patch = config.num_patches, config.patch_size
    dino = tower_shapes(config.dino, patches, patch)
    siglip = tower_shapes(config.siglip, patches, patch)
    vision = {f'dino_featurizer.{name}': shape for name, shape in dino.items()}
    vision |= {f'siglip_featurizer.{name}': shape for name, shape in siglip.items()}
    inputs, d = config.vision_width, config.llm.width
    sizes = (('0', config.projector_width, inputs), ('2', d, config.projector_width), ('4', d, d))
    projector = {}
    for name, rows, columns in sizes:
        projector[f'projector.{name}.weight'] = (rows, columns)
        projector[f'projector.{name}.bias'] = (rows,)
    shapes = {'vision_backbone': vision, 'projector': projector}
    shapes['llm_backbone'] = llama_shapes(config.llm)
    if isinstance(config, CogACTConfig):
        shapes['action_model'] = head_shapes(config.head, d)
    generator = torch.Generator().manual_seed(seed)
    groups = {
        group: {name: random_tensor(name, shape, generator) for name, shape in entries.items()}
        for group, entries in shapes.items()
    }
    # Action tokens win against all other words, as training makes them do.
    groups['llm_backbone']['llm.lm_head.weight'][31744:32000] *= 10.0
    return groups


def random_tensor(name: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Values of the size that training would leave: matrices by fan-in, gains around one."""
    values = torch.randn(shape, generator=generator)
    if ('norm' in name and name.endswith('weight')) or name.endswith('gamma'):
        return 1.0 + 0.1 * values
    if name.endswith('bias'):
        return 0.1 * values
    fan_in = values[0].numel() if values.dim() > 1 else values.numel()
    return values * fan_in**-0.5


def write_cogact(
    folder: Path,
    config: CogACTConfig = MINI_COGACT,
    *,
    seed: int = 0,
    ema: bool = False,
    keys: Sequence[str] = KEYS,
    tokenizer: bool = True,
    change: Any = None,
) -> Groups:
    """Writes a CogACT folder: `config.json`, `dataset_statistics.json`, `checkpoints/<one>.pt`.

    Args:
        folder: made if it does not exist.
        config: sizes; the head's are not written down, a reader has to infer them.
        seed: of the weights.
        ema: adds averaged weights of the head, of other values.
        keys: data sets with statistics.
        tokenizer: adds `tokenizer.json`, which the released folders lack.
        change: called with the groups just before they are written, to damage them.

    Returns:
        The tensors as written.
    """
    groups = random_groups(config, seed)
    if ema:
        groups['ema_diffusion'] = random_groups(config, seed + 1)['action_model']
    if change is not None:
        change(groups)
    (folder / 'checkpoints').mkdir(parents=True, exist_ok=True)
    sizes = {name: value for name, value in config.to_dict().items() if name != 'head'}
    description = {'vla': {'base_vlm': 'mini', 'type': 'mini'}, 'model': sizes, 'seed': 42}
    (folder / 'config.json').write_text(json.dumps(description))
    (folder / 'dataset_statistics.json').write_text(json.dumps(statistics(keys)))
    torch.save({'model': groups}, folder / 'checkpoints' / 'CogACT-Mini.pt')
    if tokenizer:
        write_tokenizer(folder)
    return groups


def huggingface_tensors(groups: Groups) -> dict[str, Tensor]:
    """OpenVLA's names for the tensors of the three groups, written as the mapping is published."""
    fc = {'0': 'fc1', '2': 'fc2', '4': 'fc3'}
    tensors = {}
    for name, value in groups['vision_backbone'].items():
        tower, rest = name.split('.', 1)
        other = {'dino_featurizer': 'featurizer', 'siglip_featurizer': 'fused_featurizer'}[tower]
        tensors[f'vision_backbone.{other}.{rest.replace(".gamma", ".scale_factor")}'] = value
    for name, value in groups['projector'].items():
        _, number, leaf = name.split('.')
        tensors[f'projector.{fc[number]}.{leaf}'] = value
    for name, value in groups['llm_backbone'].items():
        tensors['language_model' + name.removeprefix('llm')] = value
    return tensors


def write_openvla(
    folder: Path,
    config: OpenVLAConfig = MINI_OPENVLA,
    *,
    seed: int = 0,
    shards: int = 2,
    dtype: torch.dtype = torch.bfloat16,
    keys: Sequence[str] = KEYS,
    tokenizer: bool = True,
) -> Groups:
    """Writes an OpenVLA folder of the Hugging Face format.

    Args:
        folder: made if it does not exist.
        config: sizes.
        seed: of the weights.
        shards: number of files; 1 writes `model.safetensors` without an index.
        dtype: type in the file.
        keys: data sets with statistics, inside of `config.json`.
        tokenizer: adds `tokenizer.json`, as in the released folder.

    Returns:
        The tensors as written, by the groups of a `.pt` file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    groups = {
        group: {name: value.to(dtype) for name, value in entries.items()}
        for group, entries in random_groups(config, seed).items()
    }
    description = {
        'model_type': 'openvla',
        'auto_map': {'AutoConfig': 'configuration_prismatic.OpenVLAConfig'},
        'model': config.to_dict(),
        'norm_stats': statistics(keys),
    }
    (folder / 'config.json').write_text(json.dumps(description))
    (folder / 'configuration_prismatic.py').write_text("raise SystemExit('code was run')\n")
    tensors = huggingface_tensors(groups)
    names = sorted(tensors)
    if shards == 1:
        save_file(tensors, folder / 'model.safetensors')
    else:
        weight_map = {}
        for number in range(shards):
            file = f'model-{number + 1:05d}-of-{shards:05d}.safetensors'
            part = {name: tensors[name] for name in names[number::shards]}
            save_file(part, folder / file)
            weight_map |= dict.fromkeys(part, file)
        index = {'metadata': {'total_size': 0}, 'weight_map': weight_map}
        (folder / 'model.safetensors.index.json').write_text(json.dumps(index))
    if tokenizer:
        write_tokenizer(folder)
    return groups
