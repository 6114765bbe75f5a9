"""Starting a network from a smaller one, by block expansion.

A deep network trains faster when its first steps are those of a shallow one (progressive stacking,
Gong et al. 2019). The layers that are added start as copies whose outputs are zero (LLaMA Pro,
Wu et al. 2024, section 3.2), so that the grown network computes what the small one did. A network
becomes wider in the same manner: what is added reads all there is and writes nothing at first
(function-preserving growth, Chen et al. 2016, Net2Net). Pictures with more patches need more
position embeddings, which are interpolated; what the towers see is new to them all the same.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from efficientvla_ros.training.pruned import SCORING_LAYER
from efficientvla_ros.types import InputError

Weights = Mapping[str, Tensor]

_LAYERS = 'llm_backbone.llm.model.layers.'
_LAYER = re.compile(re.escape(_LAYERS) + r'(\d+)\.(.+)')
_OUTPUTS = 'self_attn.o_proj.weight', 'mlp.down_proj.weight'
_WRITERS = (
    *_OUTPUTS, 'embed_tokens.weight', 'projector.4.weight', 'projector.4.bias',
    'z_embedder.uncondition',
)  # fmt: skip
_WIDENED = 'llm_backbone.', 'projector.', 'action_model.net.z_embedder.'
_POSITIONS = '.pos_embed'
_NORMS = 'input_layernorm.weight', 'post_attention_layernorm.weight', 'model.norm.weight'


def origins(small: int, large: int) -> list[tuple[int, bool]]:
    """Which layer each of `large` layers comes from, and whether it is an added copy.

    Copies follow their original. They are spread evenly, but the first layers, up to the one that
    scores visual tokens, and the last one stay what they were.

    Raises:
        InputError: there are fewer layers than before.
    """
    added = large - small
    if added < 0:
        raise InputError(f'the start has {small} decoder layers, expected at most {large}')
    first = min(SCORING_LAYER, small - 1)
    hosts = range(first, max(small - 1, first + 1))
    copies = dict.fromkeys(range(small), 0)
    for number, host in enumerate(hosts):
        copies[host] = added * (number + 1) // len(hosts) - added * number // len(hosts)
    return [(index, place > 0) for index in range(small) for place in range(1 + copies[index])]


def grow_layers(weights: Weights, layers: int) -> dict[str, Tensor]:
    """Weights of a policy with `layers` decoder layers that computes the same.

    Raises:
        InputError: the policy has more layers.
    """
    found: dict[int, dict[str, Tensor]] = {}
    grown: dict[str, Tensor] = {}
    for name, value in weights.items():
        match = _LAYER.fullmatch(name)
        if match is None:
            grown[name] = value
        else:
            found.setdefault(int(match[1]), {})[match[2]] = value
    for place, (origin, added) in enumerate(origins(len(found), layers)):
        for name, value in found[origin].items():
            silent = added and name in _OUTPUTS
            grown[f'{_LAYERS}{place}.{name}'] = torch.zeros_like(value) if silent else value
    return grown


def grow_width(weights: Weights, wide: Weights) -> dict[str, Tensor]:
    """Weights of a policy with a wider language model that computes the same.

    Residual channels, attention heads and MLP channels are added behind those that are there;
    the width of a head stays. Nothing writes to the new residual channels, and nothing reads what
    the new heads and MLP channels give, so that both are free to learn.

    Args:
        weights: of the narrow policy.
        wide: random weights of the wide one: names, shapes, and values of what is new.
    """
    return {
        name: _widen(name, value, wide[name]) if name.startswith(_WIDENED) else value
        for name, value in weights.items()
    }


def grow_grid(weights: Weights, patches: int) -> dict[str, Tensor]:
    """Weights of a policy whose pictures have `patches` square patches of the same size.

    Position embeddings are interpolated by their place in the picture (Dosovitskiy et al. 2021,
    section 3.2).

    Raises:
        InputError: the policy's pictures have more patches.
    """
    return {
        name: _resized(value, patches) if name.endswith(_POSITIONS) else value
        for name, value in weights.items()
    }


def _resized(positions: Tensor, patches: int) -> Tensor:
    # [1, P, D] -> [1, patches, D]
    old, new = (round(count**0.5) for count in (positions.shape[1], patches))
    if old == new:
        return positions
    if old > new:
        raise InputError(
            f'the start has {old} x {old} visual tokens, expected at most {new} x {new}'
        )
    grid = positions.transpose(1, 2).unflatten(2, (old, old)).float()
    grid = F.interpolate(grid, size=(new, new), mode='bicubic', align_corners=False)
    return grid.flatten(2).transpose(1, 2).to(positions.dtype).contiguous()


def grow_heads(heads: Weights, wide: Weights) -> dict[str, Tensor]:
    """The same for the training-only parts, which read the language model's features.

    Parts with another number of outputs stay as they are.
    """
    grown = dict(heads)
    for name, value in heads.items():
        outputs = not name.endswith(('.0.weight', '.0.bias'))
        if _fits_into(value, wide[name]) and not (outputs and len(value) != len(wide[name])):
            silent = name.endswith('.2.weight')  # nothing reads the new hidden units
            grown[name] = _paste(value, wide[name], silent)
    return grown


def _widen(name: str, value: Tensor, wide: Tensor) -> Tensor:
    if not _fits_into(value, wide):
        return value
    if name.endswith(_NORMS):
        # The mean square is taken over more channels, of which the new ones are zero.
        value = value * (len(value) / len(wide)) ** 0.5
        wide = value.mean().expand(len(wide))
    return _paste(value, wide, name.endswith(_WRITERS))


def _fits_into(value: Tensor, wide: Tensor) -> bool:
    return all(small <= large for small, large in zip(value.shape, wide.shape, strict=True))


def _paste(value: Tensor, onto: Tensor, silent: bool) -> Tensor:
    pasted = torch.zeros_like(onto) if silent else onto.clone()
    pasted[tuple(slice(size) for size in value.shape)] = value
    return pasted


def fits(module: nn.Module, weights: Weights, prefix: str = '') -> bool:
    """Whether the weights under `prefix` have the names and shapes of the module's."""
    wanted = {prefix + name: value.shape for name, value in module.state_dict().items()}
    return wanted == {
        name: value.shape for name, value in weights.items() if name.startswith(prefix)
    }
