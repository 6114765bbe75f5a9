"""Checkpoints of all kinds: a policy with everything around it.

Embedded (what `save_checkpoint` writes):

    config.json               sizes of the networks, words of the tokenizer
    dataset_statistics.json   action quantiles by data set, as in the released CogACT folders
    model.safetensors         weights under `<group>.<name>`, groups and names as released; or in
                              several files with an index, as Hugging Face names them

CogACT: `config.json`, `dataset_statistics.json`, `checkpoints/<one file>.pt`; the path of the
`.pt` file itself will do as well. OpenVLA: a Hugging Face folder with `model_type` openvla and
safetensors in one file or several. A `.pt` in OpenVLA's own layout lies in a folder like
CogACT's, whose `config.json` must say `"model_type": "openvla"`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from efficientvla_ros.models.cogact import CogACT
from efficientvla_ros.models.config import CONFIGS, CogACTConfig, VLMConfig
from efficientvla_ros.models.errors import CheckpointError
from efficientvla_ros.models.folder_tokenizer import FolderTokenizer, find_tokenizer
from efficientvla_ros.models.layout import EMBEDDED, Specs
from efficientvla_ros.models.placement import (
    Policy,
    Progress,
    allocate,
    build_empty,
    fill,
    is_wanted,
    require_memory,
)
from efficientvla_ros.models.random_weights import init_weights
from efficientvla_ros.models.sizes import model_config
from efficientvla_ros.models.sources import (
    CONFIG_FILE,
    STATISTICS_FILE,
    Source,
    find_source,
)
from efficientvla_ros.models.statistics import ActionStatistics
from efficientvla_ros.models.tensor_files import EMA_GROUP, TensorFile, open_tensors
from efficientvla_ros.models.tensor_writer import write_tensors
from efficientvla_ros.models.tokenizer import HashTokenizer, Tokenizer, WordTokenizer
from efficientvla_ros.models.verify import compare, expected_tensors, shapes_of

STEP_DURATIONS = {'bridge_orig': 1 / 5, 'fractal20220817_data': 1 / 3}
"""Seconds between two actions in a data set: WidowX at 5 Hz, Google's robot at 3 Hz."""


WantedLayers = Callable[[VLMConfig], Collection[int]]
"""Sizes of a model to the decoder layers that are to be loaded."""


@dataclass(frozen=True)
class Checkpoint:
    """A policy with everything around it.

    Attributes:
        model: the networks, in evaluation mode.
        tokenizer: text to ids.
        statistics: action quantiles of one data set.
        step_duration: seconds between two actions of a chunk, as recorded in that data set.
        unnorm_key: the data set; empty for a model that was never trained.
    """

    model: Policy
    tokenizer: Tokenizer
    statistics: ActionStatistics
    step_duration: float = 0.2
    unnorm_key: str = ''


def save_checkpoint(
    folder: Path,
    model: CogACT,
    tokenizer: WordTokenizer,
    statistics: dict[str, Any],
    dtype: torch.dtype = torch.float32,
    largest_file: int | None = None,
) -> None:
    """Writes an embedded checkpoint.

    Args:
        folder: made if it does not exist.
        model: the networks.
        tokenizer: text to ids.
        statistics: the content of `dataset_statistics.json`.
        dtype: type in the file.
        largest_file: bytes of weights in one file, of which there may then be several.
    """
    folder.mkdir(parents=True, exist_ok=True)
    description = {
        'architecture': 'cogact',
        'model': model.config.to_dict(),
        'words': list(tokenizer.words),
    }
    (folder / CONFIG_FILE).write_text(json.dumps(description, indent=2) + '\n')
    (folder / STATISTICS_FILE).write_text(json.dumps(statistics, indent=2) + '\n')
    tensors = {name: value.to(dtype).contiguous() for name, value in model.state_dict().items()}
    write_tensors(folder, tensors, largest_file)


def load_checkpoint(
    path: Path,
    device: str = 'cpu',
    *,
    dtype: torch.dtype = torch.float32,
    unnorm_key: str | None = None,
    tokenizer: str | Path | None = None,
    use_ema: bool = False,
    random_weights: int | None = None,
    layers: WantedLayers | None = None,
    progress: Progress | None = None,
) -> Checkpoint:
    """Reads a checkpoint of any kind.

    Everything that can be wrong is looked at before the first weight is read. Weights go one by
    one from the file to the device, so that a file larger than the memory can be read.

    Args:
        path: checkpoint folder, or `.pt` file.
        device: torch device of the networks.
        dtype: type of the vision-language model's parameters.
        unnorm_key: entry of the statistics; None takes the only one.
        tokenizer: folder with the tokenizer; None looks in the checkpoint's. The embedded kind
            has its own and takes none.
        use_ema: take the averaged weights of the diffusion head.
        random_weights: seed of random weights, which are used instead of the file's.
        layers: chooses decoder layers; the others stay on the meta device. None loads all.
        progress: called with the bytes of weights done and in all.

    Raises:
        CheckpointError: a file is missing, damaged or does not fit the configuration.
    """
    source = find_source(Path(path))
    # Of random weights' file only the shapes are of interest, and those may be known already.
    unread = random_weights is not None and not source.weights.is_file()
    file = None if unread else open_tensors(source.weights)
    config = model_config(source, {} if file is None else shapes_of(file))
    specs = {}
    if file is not None:
        if use_ema and EMA_GROUP not in file.groups:
            raise CheckpointError(
                f'{source.weights} has no averaged weights, expected the group {EMA_GROUP}'
            )
        specs = expected_tensors(source, file, config, use_ema)
        verification = compare(source, file, config, specs)
        if not verification.good:
            raise CheckpointError(verification.summary())
    key, statistics = _statistics(source, unnorm_key, config)
    text = _tokenizer(source, tokenizer, config)
    wanted = None if layers is None else layers(config)
    require_memory(config, device, dtype, wanted)
    model = build_empty(config)
    if random_weights is None:
        fill(model, _values(file, specs, wanted), device, dtype, progress, wanted)
    else:
        allocate(model, device, dtype, wanted)
        init_weights(model, random_weights)
    return Checkpoint(model, text, statistics, STEP_DURATIONS.get(key, config.step_duration), key)


def random_checkpoint(
    name: str,
    device: str,
    dtype: torch.dtype,
    seed: int,
    tokenizer: str | Path | None = None,
    layers: WantedLayers | None = None,
) -> Checkpoint:
    """A known model with random weights, without any file.

    Args:
        name: one of `CONFIGS`.
        device: torch device of the networks.
        dtype: type of the vision-language model's parameters.
        seed: of the weights.
        tokenizer: folder with a tokenizer; None makes up ids.
        layers: as for `load_checkpoint`.

    Raises:
        CheckpointError: the model is unknown or does not fit the device, or there is no
            tokenizer in the folder.
    """
    if name not in CONFIGS:
        raise CheckpointError(f'model {name!r} is unknown, expected one of {", ".join(CONFIGS)}')
    config = CONFIGS[name]
    text = HashTokenizer(config.llm.vocab_size) if tokenizer is None else _folder(tokenizer)
    wanted = None if layers is None else layers(config)
    require_memory(config, device, dtype, wanted)
    model = build_empty(config)
    allocate(model, device, dtype, wanted)
    init_weights(model, seed)
    statistics = ActionStatistics.identity(_action_dim(config))
    return Checkpoint(model, text, statistics, config.step_duration)


def _values(
    file: TensorFile, specs: Specs, layers: Collection[int] | None
) -> Iterator[tuple[str, Tensor]]:
    for name in file.infos:
        target = specs[name].target if name in specs else None
        if target is not None and is_wanted(target, layers):
            yield target, file.tensor(name)


def _statistics(
    source: Source, unnorm_key: str | None, config: VLMConfig
) -> tuple[str, ActionStatistics]:
    content = source.statistics()
    try:
        statistics = ActionStatistics.from_json(content, unnorm_key)
    except (KeyError, ValueError) as error:
        raise CheckpointError(f'{source.folder}: {error.args[0]}') from error
    if len(statistics.q01) != _action_dim(config):
        raise CheckpointError(
            f'{source.folder}: statistics have {len(statistics.q01)} dimensions, '
            f'expected {_action_dim(config)}'
        )
    return unnorm_key or next(iter(content)), statistics


def _action_dim(config: VLMConfig) -> int:
    return config.head.action_dim if isinstance(config, CogACTConfig) else config.action_dim


def _tokenizer(source: Source, given: str | Path | None, config: VLMConfig) -> Tokenizer:
    if source.kind == EMBEDDED:
        if given is not None:
            raise CheckpointError(f'{source.folder} has its own tokenizer, expected none given')
        words = source.description.get('words')
        if not isinstance(words, list):
            raise CheckpointError(f"{source.folder / CONFIG_FILE} lacks the list 'words'")
        found: Tokenizer = WordTokenizer(words)
    else:
        found = find_tokenizer(None if given is None else Path(given), source.folder)
    if found.vocab_size > config.llm.vocab_size:
        raise CheckpointError(
            f'the tokenizer has {found.vocab_size} ids, expected no more than the '
            f'{config.llm.vocab_size} of {config.name}'
        )
    return found


def _folder(tokenizer: str | Path) -> FolderTokenizer:
    return FolderTokenizer(Path(tokenizer).expanduser())
