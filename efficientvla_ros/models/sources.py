"""What lies at a path: which kind of checkpoint, and where its parts are."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from efficientvla_ros.models.errors import CheckpointError, some
from efficientvla_ros.models.layout import COGACT, EMBEDDED, OPENVLA, PRISMATIC
from efficientvla_ros.models.tensor_files import INDEX_SUFFIX

CONFIG_FILE = 'config.json'
STATISTICS_FILE = 'dataset_statistics.json'
WEIGHTS_FILE = 'model.safetensors'
INDEX_FILE = 'model' + INDEX_SUFFIX
TOKENIZER_FILE = 'tokenizer.json'

_EXPECTED = "'vla.base_vlm' (CogACT), 'model_type' openvla, or 'architecture' cogact (embedded)"


@dataclass(frozen=True)
class Source:
    """A checkpoint's parts; nothing but `config.json` has been read.

    Attributes:
        kind: layout of the weights, one of those in `layout`.
        folder: where configuration, statistics and tokenizer are.
        weights: file with the weights, or index of several. It may not exist.
        description: content of `config.json`.
    """

    kind: str
    folder: Path
    weights: Path
    description: dict[str, Any]

    @property
    def has_tokenizer(self) -> bool:
        """Whether the checkpoint can turn text to ids by itself."""
        return self.kind == EMBEDDED or (self.folder / TOKENIZER_FILE).is_file()

    def statistics(self) -> dict[str, Any]:
        """Action statistics by data set.

        A fine-tuned OpenVLA has a file of its own, which counts more than what its
        configuration inherited.

        Raises:
            CheckpointError: there are none.
        """
        path = self.folder / STATISTICS_FILE
        inline = self.description.get('norm_stats')
        if not path.is_file() and isinstance(inline, dict) and inline:
            return inline
        if not path.is_file():
            here = f" and no 'norm_stats' in {CONFIG_FILE}" if self.kind == OPENVLA else ''
            raise CheckpointError(
                f'{path} does not exist{here}, expected the action statistics of the data sets'
            )
        return read_json(path)


def find_source(path: Path) -> Source:
    """Recognises a checkpoint folder or a `.pt` file.

    Raises:
        CheckpointError: there is no checkpoint of a known kind.
    """
    if path.is_file():
        return _from_file(path)
    if not path.exists():
        raise CheckpointError(f'{path} does not exist, expected a checkpoint folder or .pt file')
    description = read_json(path / CONFIG_FILE)
    kind = _kind(path, description)
    if kind == EMBEDDED:
        return Source(kind, path, _safetensors(path), description)
    if kind == OPENVLA and not (path / 'checkpoints').is_dir():
        _refuse_action_head(path)
        return Source(kind, path, _safetensors(path), description)
    kind = PRISMATIC if kind == OPENVLA else kind
    return Source(kind, path, _only_pt(path / 'checkpoints'), description)


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
        CheckpointError: the file is missing, damaged, or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except FileNotFoundError as error:
        raise CheckpointError(
            f'{path} does not exist, expected a checkpoint folder with {CONFIG_FILE}, '
            f'{STATISTICS_FILE} and weights'
        ) from error
    except OSError as error:
        raise CheckpointError(f'{path} cannot be read: {error.strerror}') from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f'{path} cannot be read as JSON: {error}') from error
    if not isinstance(content, dict):
        raise CheckpointError(f'{path} holds a {type(content).__name__}, expected a JSON object')
    return content


def _from_file(path: Path) -> Source:
    if path.suffix != '.pt':
        raise CheckpointError(f'{path} is a file, expected a checkpoint folder or a .pt file')
    folders = (path.parent.parent, path.parent)
    folder = next((f for f in folders if (f / CONFIG_FILE).is_file()), folders[0])
    description = read_json(folder / CONFIG_FILE)
    kind = _kind(folder, description)
    if kind == EMBEDDED:
        raise CheckpointError(f'{path}: {folder / CONFIG_FILE} belongs to {WEIGHTS_FILE} instead')
    return Source(PRISMATIC if kind == OPENVLA else kind, folder, path, description)


def _kind(folder: Path, description: dict[str, Any]) -> str:
    if description.get('architecture') == 'cogact':
        return EMBEDDED
    if description.get('model_type') == 'openvla':
        return OPENVLA
    vla = description.get('vla')
    if isinstance(vla, dict) and 'base_vlm' in vla:
        return COGACT
    raise CheckpointError(
        f'{folder / CONFIG_FILE} describes no model that this package reads, expected {_EXPECTED}'
    )


def _only_pt(folder: Path) -> Path:
    found = sorted(folder.glob('*.pt'))
    if len(found) == 1:
        return found[0]
    if not found:
        raise CheckpointError(f'{folder} has no .pt file, expected exactly one with the weights')
    raise CheckpointError(
        f'{folder} has {len(found)} .pt files ({some([path.name for path in found])}), expected '
        'one: give the path of the file that is meant'
    )


def _refuse_action_head(folder: Path) -> None:
    heads = sorted(folder.glob('action_head--*.pt'))
    if heads:
        raise CheckpointError(
            f'{heads[0]} belongs to OpenVLA-OFT, which this package does not run, expected '
            'OpenVLA without an action head'
        )


def _safetensors(folder: Path) -> Path:
    single = folder / WEIGHTS_FILE
    index = folder / INDEX_FILE
    return single if single.is_file() or not index.is_file() else index
