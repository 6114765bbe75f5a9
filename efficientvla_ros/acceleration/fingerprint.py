"""Tells one model from another by its configuration and a small part of its weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from efficientvla_ros.models.prismatic import PrismaticVLM

_LAYERS = 'llm_backbone.llm.model.layers.'
_VALUES = 256


@dataclass(frozen=True)
class Fingerprint:
    """Digests of a model's parts.

    Attributes:
        rest: of the configuration and of all parameters outside the decoder layers.
        layers: of every decoder layer; '' for one that is not in memory.
    """

    rest: str
    layers: tuple[str, ...]

    def fits(self, other: Fingerprint) -> bool:
        """Whether both are of one model; layers that one of them lacks are not compared."""
        return (
            self.rest == other.rest
            and len(self.layers) == len(other.layers)
            and all(a == b for a, b in zip(self.layers, other.layers) if a and b)
        )

    @property
    def short(self) -> str:
        """What reports call the model."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:12]

    def to_json(self) -> str:
        """The digests as one line of JSON."""
        return json.dumps([self.rest, *self.layers])

    @classmethod
    def from_json(cls, text: str) -> Fingerprint:
        """Reads what `to_json` wrote; ValueError where it is something else."""
        parts = json.loads(text)
        is_text = isinstance(parts, list) and all(isinstance(part, str) for part in parts)
        if not is_text or len(parts) < 2:
            raise ValueError('not a list of digests')
        return cls(parts[0], tuple(parts[1:]))


@torch.no_grad()
def fingerprint(model: PrismaticVLM) -> Fingerprint:
    """Digests of a model's configuration and of part of its weights.

    One-dimensional parameters count in full, larger ones with their first 256 values: that is
    read in milliseconds from a 7-B model, and no training leaves all of it as it was.
    Values are rounded to bfloat16, so that a model has one fingerprint in both of its types.
    Decoder layers on the meta device, which a plan left out, have none.

    Raises:
        ValueError: other parts of the model are on the meta device.
    """
    config = json.dumps(_configuration(model), sort_keys=True)
    rest: list[tuple[str, Tensor]] = []
    layers: list[list[tuple[str, Tensor]]] = [[] for _ in model.llm_backbone.llm.model.layers]
    for name, value in model.named_parameters():
        if name.startswith(_LAYERS):
            index, _, leaf = name.removeprefix(_LAYERS).partition('.')
            layers[int(index)].append((leaf, value))
        elif value.is_meta:
            raise ValueError(f'{name} is on the meta device: the model has no weights')
        else:
            rest.append((name, value))
    digests = ('' if any(v.is_meta for _, v in part) else _digest('', part) for part in layers)
    return Fingerprint(_digest(config, rest), tuple(digests))


def _configuration(model: PrismaticVLM) -> dict[str, Any]:
    config = {**model.config.to_dict(), 'name': ''}
    head = dict(config.get('head') or {})
    # Profiles from before there was a temperature stay those of their models.
    if head.get('temperature') == 1.0:
        del head['temperature']
        config['head'] = head
    return config


def _digest(text: str, parameters: Iterable[tuple[str, Tensor]]) -> str:
    digest = hashlib.sha256(text.encode())
    for name, value in parameters:
        values = value if value.ndim == 1 else value.flatten()[:_VALUES]
        rounded = values.detach().to(torch.bfloat16).view(torch.int16).cpu().numpy()
        digest.update(f'{name} {tuple(value.shape)}\n'.encode())
        digest.update(rounded.tobytes())
    return digest.hexdigest()[:32]
