"""Tensors into one safetensors file, or into several with an index."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from efficientvla_ros.models.sources import WEIGHTS_FILE


def write_tensors(folder: Path, tensors: Mapping[str, Tensor], largest: int | None = None) -> None:
    """Writes the weights of a checkpoint in place of any that are there.

    Args:
        folder: of the checkpoint.
        tensors: contiguous, by name.
        largest: bytes of tensors in one file, unless a single one has more; the rest go into
            further files. None writes one file.
    """
    from huggingface_hub import save_torch_state_dict  # comes with transformers; slow to import

    stem, suffix = WEIGHTS_FILE.split('.')
    save_torch_state_dict(
        dict(tensors),
        folder,
        filename_pattern=f'{stem}{{suffix}}.{suffix}',
        max_shard_size=sum(value.nbytes for value in tensors.values())
        if largest is None
        else largest,
    )
    for path in folder.glob(f'{stem}*.{suffix}'):
        path.chmod(0o644)  # safetensors writes it for the owner alone
