"""Starting a network from a smaller one, by block expansion.

A deep network trains faster when its first steps are those of a shallow one (progressive stacking,
Gong et al. 2019). The layers that are added start as copies whose outputs are zero (LLaMA Pro,
Wu et al. 2024, section 3.2), so that the grown network computes what the small one did.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from efficientvla_ros.training.pruned import SCORING_LAYER
from efficientvla_ros.types import InputError

Weights = Mapping[str, Tensor]

_LAYERS = 'llm_backbone.llm.model.layers.'
_LAYER = re.compile(re.escape(_LAYERS) + r'(\d+)\.(.+)')
_OUTPUTS = 'self_attn.o_proj.weight', 'mlp.down_proj.weight'


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


def fits(module: nn.Module, weights: Weights, prefix: str = '') -> bool:
    """Whether the weights under `prefix` have the names and shapes of the module's."""
    wanted = {prefix + name: value.shape for name, value in module.state_dict().items()}
    return wanted == {
        name: value.shape for name, value in weights.items() if name.startswith(prefix)
    }
