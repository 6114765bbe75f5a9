"""What may be asked for when a policy is loaded; every function raises InputError."""

from __future__ import annotations

from pathlib import Path

import torch

from efficientvla_ros.models.config import CONFIGS, VLMConfig
from efficientvla_ros.types import InputError

WEIGHTS_FOLDER = Path(__file__).resolve().parent.parent / 'weights'
_DTYPES = {'float32': torch.float32, 'bfloat16': torch.bfloat16}


def find_model(model: str, random_weights: bool) -> Path | VLMConfig:
    """The checkpoint's path, or the sizes of a model that is to have random weights."""
    embedded = WEIGHTS_FOLDER / model
    if model and embedded.is_dir() and '/' not in model:
        return embedded
    path = Path(model).expanduser()
    if model and path.exists():
        return path
    if model in CONFIGS:
        if random_weights:
            return CONFIGS[model]
        raise InputError(
            f'the weights of {model} are not part of this package: give the folder of the '
            'released checkpoint as the model, or ask for random weights'
        )
    names = sorted(path.name for path in WEIGHTS_FOLDER.iterdir() if path.is_dir())
    raise InputError(
        f'model {model!r} is neither an embedded model ({", ".join(names)}) nor a checkpoint '
        f'folder or .pt file that exists; with random weights it may be any of '
        f'{", ".join(CONFIGS)}'
    )


def refuse_file_options(model: str, unnorm_key: str | None, use_ema: bool) -> None:
    """Refuses what only a checkpoint's files can answer."""
    for option, given in (('unnorm_key', unnorm_key is not None), ('use_ema', use_ema)):
        if given:
            raise InputError(f'{option} needs a checkpoint, but {model} has random weights')


def parse_dtype(dtype: str, device: str) -> torch.dtype:
    """`float32`, `bfloat16`, or `auto`: float32 on the CPU and bfloat16 on CUDA."""
    if dtype == 'auto':
        return torch.bfloat16 if torch.device(device).type == 'cuda' else torch.float32
    if dtype not in _DTYPES:
        raise InputError(f'dtype {dtype!r} is unknown, expected auto, float32 or bfloat16')
    return _DTYPES[dtype]


def check_device(device: str) -> None:
    """Refuses a device that torch does not know or cannot see."""
    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        raise InputError(f'device {device!r} is unknown, expected cpu, cuda or cuda:N') from error
    if kind not in ('cpu', 'cuda'):
        raise InputError(f'device {device!r} is not supported, expected cpu, cuda or cuda:N')
    if kind == 'cuda' and not torch.cuda.is_available():
        raise InputError(f'device {device!r} was asked for, but torch sees no CUDA device')
