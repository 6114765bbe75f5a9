"""Tensors into one safetensors file, or into several with an index."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from efficientvla_ros.models.sources import INDEX_FILE, WEIGHTS_FILE


def write_tensors(folder: Path, tensors: Mapping[str, Tensor], largest: int | None = None) -> None:
    """Writes the weights of a checkpoint in place of any that are there.

    Args:
        folder: of the checkpoint.
        tensors: contiguous, by name.
        largest: bytes of tensors in one file, unless a single one has more; the rest go into
            further files. None writes one file.
    """
    for old in (*folder.glob('model-*-of-*.safetensors'), folder / INDEX_FILE):
        old.unlink(missing_ok=True)
    shards = [[*tensors]] if largest is None else _shards(tensors, largest)
    if len(shards) == 1:
        _save(folder / WEIGHTS_FILE, tensors)
        return
    (folder / WEIGHTS_FILE).unlink(missing_ok=True)
    names = [f'model-{i:05}-of-{len(shards):05}.safetensors' for i in range(1, len(shards) + 1)]
    for name, shard in zip(names, shards):
        _save(folder / name, {key: tensors[key] for key in shard})
    places = {key: name for name, shard in zip(names, shards) for key in shard}
    index = {'metadata': {'total_size': _bytes(tensors)}, 'weight_map': places}
    (folder / INDEX_FILE).write_text(json.dumps(index, indent=2) + '\n')


def _shards(tensors: Mapping[str, Tensor], largest: int) -> list[list[str]]:
    shards: list[list[str]] = [[]]
    held = 0
    for name, value in tensors.items():
        if shards[-1] and held + value.nbytes > largest:
            shards.append([])
            held = 0
        shards[-1].append(name)
        held += value.nbytes
    return shards


def _bytes(tensors: Mapping[str, Tensor]) -> int:
    return sum(value.nbytes for value in tensors.values())


def _save(path: Path, tensors: Mapping[str, Tensor]) -> None:
    save_file(dict(tensors), path)
    path.chmod(0o644)  # safetensors writes it for the owner alone
