"""CogACT and OpenVLA as functions on the tensors of a file, float64, one operation at a time.

Written from the published description alone; nothing of the package is used but sizes.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from efficientvla_ros.models.config import LlamaConfig, ViTConfig, VLMConfig

Tensors = dict[str, Tensor]


def linear(w: Tensors, name: str, x: Tensor) -> Tensor:
    bias = w.get(f'{name}.bias')
    y = x @ w[f'{name}.weight'].T
    return y if bias is None else y + bias


def layer_norm(x: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt()


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int, causal: bool) -> Tensor:
    # [N, D] each -> [N, D]
    mixed = []
    for a, b, c in zip(q.chunk(heads, -1), k.chunk(heads, -1), v.chunk(heads, -1)):
        scores = a @ b.T / math.sqrt(a.shape[-1])
        if causal:
            scores = scores.masked_fill(torch.ones_like(scores).triu(1).bool(), -math.inf)
        mixed.append(scores.softmax(-1) @ c)
    return torch.cat(mixed, -1)


def tower(w: Tensors, config: ViTConfig, image: Tensor, patch: int) -> Tensor:
    # image [3, S, S] in [0, 1] -> [patches, D]
    mean, std = (torch.tensor(v, dtype=torch.float64) for v in (config.mean, config.std))
    pixels = (image - mean[:, None, None]) / std[:, None, None]
    x = F.conv2d(pixels[None], w['patch_embed.proj.weight'], w['patch_embed.proj.bias'], patch)
    x = x[0].flatten(1).T + w['pos_embed'][0]
    if 'cls_token' in w:
        x = torch.cat((w['cls_token'][0], w['reg_token'][0], x))
    for n in range(config.depth - 1):
        block = f'blocks.{n}'
        gain = [w.get(f'{block}.ls{k}.gamma', torch.ones(1).double()) for k in (1, 2)]
        y = layer_norm(x) * w[f'{block}.norm1.weight'] + w[f'{block}.norm1.bias']
        y = attend(*linear(w, f'{block}.attn.qkv', y).chunk(3, -1), config.heads, causal=False)
        x = x + gain[0] * linear(w, f'{block}.attn.proj', y)
        y = layer_norm(x) * w[f'{block}.norm2.weight'] + w[f'{block}.norm2.bias']
        y = linear(w, f'{block}.mlp.fc2', F.gelu(linear(w, f'{block}.mlp.fc1', y)))
        x = x + gain[1] * y
    return x[-w['pos_embed'].shape[1] :]


def rms_norm(x: Tensor, gain: Tensor, eps: float) -> Tensor:
    return gain * x / (x.pow(2).mean(-1, keepdim=True) + eps).sqrt()


def rotate(x: Tensor, heads: int, theta: float) -> Tensor:
    # Pairs are channels i and i + half of a head, turned by position * theta^(-2i / head_dim).
    positions = torch.arange(len(x)).double()
    parts = []
    for head in x.chunk(heads, -1):
        half = head.shape[-1] // 2
        angle = torch.outer(positions, theta ** -(torch.arange(half).double() / half))
        first, second = head[:, :half], head[:, half:]
        parts += [first * angle.cos() - second * angle.sin()]
        parts += [second * angle.cos() + first * angle.sin()]
    return torch.cat(parts, -1)


def llama(w: Tensors, config: LlamaConfig, x: Tensor) -> Tensor:
    # embeddings [S, D] -> hidden states after the final norm
    for n in range(config.layers):
        layer = f'llm.model.layers.{n}'
        y = rms_norm(x, w[f'{layer}.input_layernorm.weight'], config.rms_eps)
        q, k, v = (linear(w, f'{layer}.self_attn.{name}_proj', y) for name in 'qkv')
        q, k = (rotate(part, config.heads, config.rope_theta) for part in (q, k))
        mixed = attend(q, k, v, config.heads, causal=True)
        x = x + linear(w, f'{layer}.self_attn.o_proj', mixed)
        y = rms_norm(x, w[f'{layer}.post_attention_layernorm.weight'], config.rms_eps)
        gate = F.silu(linear(w, f'{layer}.mlp.gate_proj', y))
        x = x + linear(w, f'{layer}.mlp.down_proj', gate * linear(w, f'{layer}.mlp.up_proj', y))
    return rms_norm(x, w['llm.model.norm.weight'], config.rms_eps)


def embeddings(groups: dict[str, Tensors], config: VLMConfig, image: np.ndarray, ids: list[int]):
    # image uint8 [H, W, 3] -> embeddings of BOS, patches and the rest of the prompt [S, D]
    size = (config.image_size, config.image_size)
    planes = torch.from_numpy(image).permute(2, 0, 1)[None]
    if image.shape[:2] != size:
        planes = F.interpolate(planes, size, mode='bicubic', antialias=True)
    pixels = planes[0].double() / 255
    vision = groups['vision_backbone']
    features = []
    for name, sizes in (('dino', config.dino), ('siglip', config.siglip)):
        prefix = f'{name}_featurizer.'
        own = {k.removeprefix(prefix): v for k, v in vision.items() if k.startswith(prefix)}
        features.append(tower(own, sizes, pixels, config.patch_size))
    y = torch.cat(features, -1)
    y = F.gelu(linear(groups['projector'], 'projector.0', y))
    y = F.gelu(linear(groups['projector'], 'projector.2', y))
    y = linear(groups['projector'], 'projector.4', y)
    text = groups['llm_backbone']['llm.model.embed_tokens.weight'][ids]
    return torch.cat((text[:1], y, text[1:]))


def noise_prediction(w: Tensors, heads: int, x: Tensor, t: int, z: Tensor) -> Tensor:
    # x [H, A], z [D] -> [H, A]
    angle = t * torch.exp(-math.log(10000.0) * torch.arange(128).double() / 128)
    time = linear(w, 'net.t_embedder.mlp.0', torch.cat((angle.cos(), angle.sin())))
    time = linear(w, 'net.t_embedder.mlp.2', F.silu(time))
    condition = time + linear(w, 'net.z_embedder.linear', z)
    y = torch.cat((condition[None], linear(w, 'net.x_embedder.linear', x)))
    y = y + w['net.positional_embedding']
    depth = len({name.split('.')[2] for name in w if name.startswith('net.blocks.')})
    for n in range(depth):
        block = f'net.blocks.{n}'
        qkv = linear(w, f'{block}.attn.qkv', layer_norm(y)).chunk(3, -1)
        y = y + linear(w, f'{block}.attn.proj', attend(*qkv, heads, causal=False))
        hidden = F.gelu(linear(w, f'{block}.mlp.fc1', layer_norm(y)), approximate='tanh')
        y = y + linear(w, f'{block}.mlp.fc2', hidden)
    return linear(w, 'net.final_layer.linear', layer_norm(y))[1:]


def signal_levels() -> list[float]:
    level, levels = 1.0, []
    for i in range(100):
        start, end = (math.cos((u / 100 + 0.008) / 1.008 * math.pi / 2) ** 2 for u in (i, i + 1))
        level *= 1.0 - min(1.0 - end / start, 0.999)
        levels.append(level)
    return levels


def as_float64(groups: dict[str, Tensors]) -> dict[str, Tensors]:
    return {g: {n: v.double() for n, v in entries.items()} for g, entries in groups.items()}


def cogact_actions(
    groups: dict[str, Tensors],
    config: VLMConfig,
    image: np.ndarray,
    ids: list[int],
    noise: np.ndarray,
    head_group: str = 'action_model',
    heads: int = 1,
) -> np.ndarray:
    """Normalised actions before clipping [H, A], ten DDIM steps and guidance 1.5."""
    groups = as_float64(groups)
    x = embeddings(groups, config, image, ids)
    z = llama(groups['llm_backbone'], config.llm, x)[-1]
    w = groups[head_group]
    levels = signal_levels()
    x = torch.from_numpy(noise).double()
    for t in range(90, -1, -10):
        eps = noise_prediction(w, heads, x, t, z)
        free = noise_prediction(w, heads, x, t, w['net.z_embedder.uncondition'][0])
        eps = free + 1.5 * (eps - free)
        level, after = levels[t], levels[t - 10] if t else 1.0
        clean = (x - math.sqrt(1 - level) * eps) / math.sqrt(level)
        x = math.sqrt(after) * clean + math.sqrt(1 - after) * eps
    return x.numpy()


def openvla_actions(
    groups: dict[str, Tensors], config: VLMConfig, image: np.ndarray, ids: list[int]
) -> np.ndarray:
    """Normalised actions [7] of greedy decoding, without a cache."""
    groups = as_float64(groups)
    w = groups['llm_backbone']
    x = embeddings(groups, config, image, ids)
    edges = np.linspace(-1.0, 1.0, 256)
    values = []
    for _ in range(7):
        token = int(linear(w, 'llm.lm_head', llama(w, config.llm, x)[-1]).argmax())
        values.append((edges[:-1] + edges[1:])[min(max(31999 - token, 0), 254)] / 2)
        x = torch.cat((x, w['llm.model.embed_tokens.weight'][token][None]))
    return np.array(values)


def unnormalise(normalised: np.ndarray, entry: dict, binarise: bool) -> np.ndarray:
    """Physical actions of a data set's statistics, one value at a time."""
    physical = np.empty_like(normalised)
    for index in np.ndindex(normalised.shape):
        value, axis = float(np.clip(normalised[index], -1, 1)), index[-1]
        low, high = entry['q01'][axis], entry['q99'][axis]
        if axis == 6 and binarise:
            value = 0.0 if value < 0.5 else 1.0
        masked = entry['mask'][axis]
        physical[index] = 0.5 * (value + 1) * (high - low) + low if masked else value
    return physical
