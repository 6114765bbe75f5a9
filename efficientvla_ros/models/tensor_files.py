"""Tensors in `.pt` and safetensors files: names, shapes and types at once, values one by one.

Nothing is unpickled but tensors, and no value is in memory before it is asked for.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from efficientvla_ros.models.errors import CheckpointError, first_line, some

INDEX_SUFFIX = '.safetensors.index.json'
EMA_GROUP = 'ema_diffusion'

_SAFETENSORS_TYPES = {
    'F64': torch.float64,
    'F32': torch.float32,
    'F16': torch.float16,
    'BF16': torch.bfloat16,
    'I64': torch.int64,
    'I32': torch.int32,
    'I16': torch.int16,
    'I8': torch.int8,
    'U8': torch.uint8,
    'BOOL': torch.bool,
}


@dataclass(frozen=True)
class TensorInfo:
    """What a file's header says of a tensor.

    Attributes:
        shape: as PyTorch gives it.
        dtype: its type as torch writes it without prefix, such as `bfloat16`.
    """

    shape: tuple[int, ...]
    dtype: str


class TensorFile:
    """The tensors of one checkpoint, in one file or several.

    Attributes:
        path: the file, or the index of several.
        infos: name to shape and type, in the file's order.
        file_bytes: size of all files.
    """

    def __init__(
        self,
        path: Path,
        infos: dict[str, TensorInfo],
        read: Callable[[str], Tensor],
        file_bytes: int,
    ) -> None:
        """Wraps an opened file; use `open_tensors`."""
        self.path = path
        self.infos = infos
        self.file_bytes = file_bytes
        self._read = read

    def tensor(self, name: str) -> Tensor:
        """The values of one tensor, on the CPU; its memory may be the mapped file."""
        try:
            return self._read(name)
        except (SafetensorError, OSError, RuntimeError) as error:
            raise CheckpointError(
                f'{self.path}: {name} cannot be read: {first_line(error)}'
            ) from error

    @property
    def groups(self) -> dict[str, int]:
        """Number of tensors by the first part of their names."""
        counts: dict[str, int] = {}
        for name in self.infos:
            group = name.split('.', 1)[0]
            counts[group] = counts.get(group, 0) + 1
        return counts


def open_tensors(path: Path) -> TensorFile:
    """Opens a `.pt` file, a safetensors file, or an index of several.

    Raises:
        CheckpointError: the file is missing, damaged, of another kind, or holds other things
            than tensors.
    """
    if not path.is_file():
        raise CheckpointError(f'{path} does not exist, expected the weights of the model')
    if path.name.endswith('.pt'):
        return _open_pt(path)
    if path.name.endswith(INDEX_SUFFIX):
        return _open_shards(path)
    return _open_safetensors(path, [path])


def _open_pt(path: Path) -> TensorFile:
    _require_zip(path)
    try:
        content = torch.load(path, map_location='cpu', mmap=True, weights_only=True)
    except Exception as error:  # a malicious or damaged pickle may raise anything
        raise CheckpointError(_pt_fault(path, error)) from error
    tensors = _flatten(path, content)
    infos = {
        name: TensorInfo(tuple(value.shape), str(value.dtype).removeprefix('torch.'))
        for name, value in tensors.items()
    }
    return TensorFile(path, infos, tensors.__getitem__, path.stat().st_size)


def _require_zip(path: Path) -> None:
    # torch's own messages for these cases speak of its loader's arguments.
    try:
        with path.open('rb') as file:
            start = file.read(2)
        if zipfile.is_zipfile(path):
            return
    except OSError as error:
        raise CheckpointError(f'{path} cannot be read: {error.strerror}') from error
    if start == b'PK':
        raise CheckpointError(
            f'{path} is truncated: a zip archive without its directory, expected a complete file'
        )
    if start[:1] == b'\x80':
        raise CheckpointError(
            f'{path} is in the format before torch 1.6, expected a zip archive: load it with '
            'weights_only=True and save it again'
        )
    raise CheckpointError(f'{path} is not a file of torch.save, expected a zip archive')


def _pt_fault(path: Path, error: Exception) -> str:
    text = ' '.join(str(error).split())
    for marker in ('Unsupported global: GLOBAL ', 'unsupported GLOBAL '):
        if marker in text:
            name = text.split(marker, 1)[1].split()[0]
            return f'{path} holds the Python object {name}: refused, expected tensors alone'
    return f'{path} cannot be read as a file of tensors: {first_line(error)}'


def _flatten(path: Path, content: Any) -> dict[str, Tensor]:
    """`{'model': {group: {name: tensor}}}` to `{group.name: tensor}`."""
    groups = content.get('model') if isinstance(content, dict) else None
    if not isinstance(groups, dict):
        raise CheckpointError(f"{path} has no dictionary 'model', expected one with its groups")
    groups = dict(groups)
    if EMA_GROUP in content:  # beside the model in some files, inside it in others
        groups.setdefault(EMA_GROUP, content[EMA_GROUP])
    tensors = {}
    for group, entries in groups.items():
        if not isinstance(entries, dict):
            raise CheckpointError(
                f'{path}: group {group} is a {type(entries).__name__}, expected a dictionary'
            )
        for name, value in entries.items():
            if not isinstance(value, Tensor) or value.layout != torch.strided:
                kind = value.layout if isinstance(value, Tensor) else type(value).__name__
                raise CheckpointError(f'{path}: {group}.{name} is {kind}, expected a dense tensor')
            tensors[f'{group}.{name}'] = value
    return tensors


def _open_shards(path: Path) -> TensorFile:
    try:
        weight_map = json.loads(path.read_text(encoding='utf-8'))['weight_map']
        names = sorted(set(weight_map.values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{path} is not an index of safetensors files, expected JSON with 'weight_map'"
        ) from error
    outside = [name for name in names if not isinstance(name, str) or Path(name).name != name]
    if outside:
        raise CheckpointError(f'{path} names {outside[0]!r}, expected a file in the same folder')
    shards = [path.parent / name for name in names]
    absent = [shard.name for shard in shards if not shard.is_file()]
    if absent:
        raise CheckpointError(
            f'{path} names {len(shards)} files, {len(absent)} do not exist: {some(absent)}'
        )
    found = _open_safetensors(path, shards)
    astray = sorted(set(weight_map) ^ set(found.infos))
    if astray:
        raise CheckpointError(
            f'{path} does not fit its files: {len(astray)} tensors are in one and not in the '
            f'other: {some(astray)}'
        )
    return found


def _open_safetensors(path: Path, files: list[Path]) -> TensorFile:
    # Files stay open as long as the reader: ExitStack closes what a failure leaves half open.
    with ExitStack() as stack:
        infos, handles = {}, {}
        for file in files:
            try:
                handle = stack.enter_context(safe_open(file, framework='pt', device='cpu'))
                for name in handle.offset_keys():
                    entry = handle.get_slice(name)
                    kind = _SAFETENSORS_TYPES.get(entry.get_dtype(), entry.get_dtype())
                    dtype = str(kind).removeprefix('torch.')
                    if name in infos:
                        raise CheckpointError(f'{path}: {name} is in more than one file')
                    infos[name] = TensorInfo(tuple(entry.get_shape()), dtype)
                    handles[name] = handle
            except (SafetensorError, OSError) as error:
                raise CheckpointError(
                    f'{file} is not a readable safetensors file: {first_line(error)}'
                ) from error
        stack.pop_all()
    size = sum(file.stat().st_size for file in files)
    return TensorFile(path, infos, lambda name: handles[name].get_tensor(name), size)
