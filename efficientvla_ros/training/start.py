"""What a training run starts from: its own state, another run, or an exported checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from efficientvla_ros.models.checkpoint import load_checkpoint
from efficientvla_ros.models.cogact import CogACT
from efficientvla_ros.models.config import CogACTConfig
from efficientvla_ros.models.sources import CONFIG_FILE
from efficientvla_ros.training.finer_vision import CoarseVision
from efficientvla_ros.training.growth import fits, grow_grid, grow_heads, grow_layers, grow_width
from efficientvla_ros.types import InputError

STATE_FILE = 'state.pt'
HEADS_FILE = 'training_heads.safetensors'

_HEAD = 'action_model.'
_VISION = 'vision_backbone.'
_SEEING = _VISION, 'projector.'


def read_state(folder: Path, device: torch.device) -> dict[str, Any] | None:
    """Returns the state of the run in a folder; None where there is none."""
    path = folder / STATE_FILE
    if not path.is_file():
        return None
    return torch.load(path, map_location=device, weights_only=True)


def read_start(
    folder: Path, config: CogACTConfig, model: CogACT, heads: nn.Module, device: torch.device
) -> dict[str, Any]:
    """What another run or a checkpoint gives to a new run.

    The language model grows to the new policy's depth and width. An action head and training-only
    parts of other sizes are not taken over, nor are the units of actions if both are not.

    Args:
        folder: of the other run or the checkpoint.
        config: sizes of the new policy.
        model: the new policy; it keeps its own action head where the other does not fit.
        heads: its training-only parts.
        device: where the weights go.

    Returns:
        As the trainer saves them, `stage` to begin with, `average` and `average_heads` weights
        (the latter None where there are none), `new_heads` and `statistics`; and in `coarse` what
        saw the smaller pictures, None where they are as large as the new ones.

    Raises:
        InputError: the folder holds neither, or a policy that differs in more.
    """
    state = read_state(folder, device) or _read_checkpoint(folder)
    weights = grow_layers(state['average'], config.llm.layers)
    weights = grow_width(weights, model.state_dict())
    seeing = {k: value for k, value in weights.items() if k.startswith(_SEEING)}
    weights = grow_grid(weights, config.num_patches)
    head_fits = fits(model.action_model, weights, _HEAD)
    if not head_fits:
        own = model.action_model.state_dict()
        weights = {k: value for k, value in weights.items() if not k.startswith(_HEAD)}
        weights |= {_HEAD + name: value for name, value in own.items()}
    if not fits(model, weights):
        raise InputError(
            f'the model in {folder} differs from {config.name} in more than the number '
            'of decoder layers, the width of the language model, the size of pictures and the '
            'action head'
        )
    given = state['average_heads']
    if given is not None:
        given = grow_heads(given, heads.state_dict())
    if given is not None and not fits(heads, given):
        given = None
    grid_fits = fits(model.vision_backbone, seeing, _VISION)
    return {
        'stage': 'policy' if grid_fits else 'vision',
        'coarse': None if grid_fits else CoarseVision(config, seeing).to(device),
        'average': weights,
        'average_heads': given,
        'new_heads': given is None,
        'statistics': state['statistics'] if head_fits or given is not None else None,
    }


def _read_checkpoint(folder: Path) -> dict[str, Any]:
    if not (folder / CONFIG_FILE).is_file():
        raise InputError(
            f'{folder} has no {STATE_FILE} and no {CONFIG_FILE}, expected the folder of a '
            'training run or of an embedded checkpoint'
        )
    checkpoint = load_checkpoint(str(folder))
    heads = folder / HEADS_FILE
    return {
        'average': checkpoint.model.state_dict(),
        'average_heads': load_file(heads) if heads.is_file() else None,
        'statistics': checkpoint.statistics.to_json(),
    }
