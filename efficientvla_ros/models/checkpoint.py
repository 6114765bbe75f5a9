"""The embedded policy's checkpoint folder.

config.json               sizes of the networks, words of the tokenizer
dataset_statistics.json   action quantiles by data set, as in the released CogACT folders
model.safetensors         weights under `<group>.<name>`, groups and names as released
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from efficientvla_ros.models.cogact import CogACT
from efficientvla_ros.models.config import CogACTConfig, ConfigError
from efficientvla_ros.models.random_weights import init_weights
from efficientvla_ros.models.statistics import ActionStatistics
from efficientvla_ros.models.tokenizer import WordTokenizer

CONFIG_FILE = 'config.json'
STATISTICS_FILE = 'dataset_statistics.json'
WEIGHTS_FILE = 'model.safetensors'


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; one line says what is wrong and where."""


@dataclass(frozen=True)
class Checkpoint:
    """A policy with everything around it.

    Attributes:
        model: the networks, in evaluation mode.
        tokenizer: text to ids.
        statistics: action quantiles.
    """

    model: CogACT
    tokenizer: WordTokenizer
    statistics: ActionStatistics
    step_duration: float = 0.2
    unnorm_key: str = ''


def save_checkpoint(
    folder: Path,
    model: CogACT,
    tokenizer: WordTokenizer,
    statistics: dict[str, Any],
    dtype: torch.dtype = torch.float32,
) -> None:
    """Writes a checkpoint folder; `statistics` is the content of `dataset_statistics.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    description = {
        'architecture': 'cogact',
        'model': model.config.to_dict(),
        'words': list(tokenizer.words),
    }
    (folder / CONFIG_FILE).write_text(json.dumps(description, indent=2) + '\n')
    (folder / STATISTICS_FILE).write_text(json.dumps(statistics, indent=2) + '\n')
    tensors = {name: value.to(dtype).contiguous() for name, value in model.state_dict().items()}
    save_file(tensors, folder / WEIGHTS_FILE)
    (folder / WEIGHTS_FILE).chmod(0o644)  # safetensors writes it for the owner alone


def load_checkpoint(
    folder: Path,
    device: str = 'cpu',
    *,
    dtype: torch.dtype = torch.float32,
    unnorm_key: str | None = None,
    tokenizer: Path | None = None,
    use_ema: bool = False,
    random_weights: int | None = None,
    progress: Any = None,
) -> Checkpoint:
    """Reads a checkpoint folder.

    Args:
        folder: what `save_checkpoint` wrote.
        device: torch device of the networks.
        unnorm_key: entry of the statistics; None takes the only one.
        random_weights: seed of random weights, which are used instead of the file's.

    Raises:
        CheckpointError: a file is missing, damaged or does not fit the configuration.
    """
    description = _read_json(folder / CONFIG_FILE)
    try:
        config = CogACTConfig.from_dict(description['model'])
        tokenizer = WordTokenizer(description['words'])
        statistics = ActionStatistics.from_json(_read_json(folder / STATISTICS_FILE), unnorm_key)
    except (ConfigError, KeyError, TypeError) as error:
        raise CheckpointError(f'{folder}: {error.args[0] if error.args else error}') from error
    model = CogACT(config)
    if random_weights is None:
        _load_weights(model, folder / WEIGHTS_FILE)
    else:
        init_weights(model, random_weights)
    model = model.to(device).eval().requires_grad_(False)
    return Checkpoint(model, tokenizer, statistics, config.step_duration)


def random_checkpoint(
    name: str, device: str, dtype: torch.dtype, seed: int, tokenizer: Path | None = None
) -> Checkpoint:
    """A known model with random weights."""
    raise CheckpointError(f'{name} cannot be built with random weights yet')


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError as error:
        raise CheckpointError(
            f'{path} does not exist, expected a checkpoint folder with '
            f'{CONFIG_FILE}, {STATISTICS_FILE}, {WEIGHTS_FILE}'
        ) from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f'{path} cannot be read: {error}') from error


def _load_weights(model: CogACT, path: Path) -> None:
    # Strict both ways: a missing, additional or misshapen tensor is an error, never a guess.
    if not path.is_file():
        raise CheckpointError(f'{path} does not exist, expected the weights of the model')
    parameters = model.state_dict()
    try:
        with safe_open(path, framework='pt') as file:
            names = set(file.keys())
            _require_same_names(path, set(parameters), names)
            for name in sorted(names):
                value = file.get_tensor(name)
                if value.shape != parameters[name].shape:
                    raise CheckpointError(
                        f'{path}: {name} has shape {tuple(value.shape)}, '
                        f'expected {tuple(parameters[name].shape)}'
                    )
                parameters[name].copy_(value)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f'{path} is not a readable safetensors file: {error}') from error


def _require_same_names(path: Path, expected: set[str], found: set[str]) -> None:
    for label, names in (('lacks', expected - found), ('has unexpected', found - expected)):
        if names:
            first = ', '.join(sorted(names)[:3])
            raise CheckpointError(f'{path} {label} {len(names)} tensors: {first}, ...')
