"""Compares a checkpoint's file with the tensors that its configuration calls for."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from efficientvla_ros.models.config import VLMConfig
from efficientvla_ros.models.errors import CheckpointError, some
from efficientvla_ros.models.layout import COGACT, Specs, released_tensors
from efficientvla_ros.models.sizes import model_config
from efficientvla_ros.models.sources import Source, find_source
from efficientvla_ros.models.tensor_files import EMA_GROUP, TensorFile, open_tensors

COMPUTED = 'rotary frequencies: computed, not read'
_COMPUTED_SUFFIX = 'rotary_emb.inv_freq'
_FLOATS = ('float64', 'float32', 'float16', 'bfloat16')

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Verification:
    """What a checkpoint holds, against what it should hold.

    Attributes:
        kind: layout, one of those in `layout`.
        weights: the file, or the index of several.
        config: sizes of the networks.
        groups: tensors in the file by the first part of their names.
        missing: names that the file lacks.
        extra: names that nothing calls for.
        misshaped: name to the shape in the file and the expected one.
        not_floating: name to type, for tensors that cannot be weights.
        unused: reason to the number of tensors that are skipped for it.
        statistics_keys: data sets with action statistics; empty without statistics.
        has_tokenizer: whether the checkpoint turns text to ids by itself.
        has_ema: whether averaged weights of the diffusion head are there.
        file_bytes: size of all files with weights.
        dtypes: number of tensors by type.
    """

    kind: str
    weights: Path
    config: VLMConfig
    groups: dict[str, int]
    missing: tuple[str, ...]
    extra: tuple[str, ...]
    misshaped: dict[str, tuple[Shape, Shape]]
    not_floating: dict[str, str]
    unused: dict[str, int]
    statistics_keys: tuple[str, ...]
    has_tokenizer: bool
    has_ema: bool
    file_bytes: int
    dtypes: dict[str, int]

    @property
    def missing_groups(self) -> tuple[str, ...]:
        """Groups of which the file has no tensor at all."""
        wanted = dict.fromkeys(name.split('.', 1)[0] for name in self.missing)
        return tuple(group for group in wanted if group not in self.groups)

    @property
    def good(self) -> bool:
        """Whether the file has exactly the expected tensors."""
        return not (self.missing or self.extra or self.misshaped or self.not_floating)

    def summary(self) -> str:
        """All kinds of faults in one line, with the first few names of each."""
        faults = [f'lacks the group {group}' for group in self.missing_groups]
        lost = [n for n in self.missing if n.split('.', 1)[0] not in self.missing_groups]
        if lost:
            faults.append(f'lacks {len(lost)} tensors: {some(lost)}')
        if self.extra:
            faults.append(f'has unexpected {len(self.extra)} tensors: {some(list(self.extra))}')
        if self.misshaped:
            wrong = [
                f'{name} has shape {found}, expected {expected}'
                for name, (found, expected) in self.misshaped.items()
            ]
            faults.append(f'has {len(wrong)} tensors of the wrong shape: {some(wrong)}')
        if self.not_floating:
            wrong = [f'{name} is {kind}' for name, kind in self.not_floating.items()]
            faults.append(f'has {len(wrong)} tensors that are not floating-point: {some(wrong)}')
        return f'{self.weights} ' + '; '.join(faults) if faults else ''


def verify_checkpoint(path: Path) -> Verification:
    """Looks at every name, shape and type in a checkpoint; reads no weights.

    Raises:
        CheckpointError: there is no checkpoint of a known kind, or a file cannot be read. A
            wrong set of tensors is part of the answer instead.
    """
    source = find_source(Path(path))
    file = open_tensors(source.weights)
    config = model_config(source, shapes_of(file))
    return compare(source, file, config, expected_tensors(source, file, config))


def shapes_of(file: TensorFile) -> dict[str, Shape]:
    """Shapes by name in the file's layout."""
    return {name: info.shape for name, info in file.infos.items()}


def expected_tensors(
    source: Source, file: TensorFile, config: VLMConfig, use_ema: bool = False
) -> Specs:
    """The tensors that a file should have; averaged weights if it has any of them."""
    has_ema = source.kind == COGACT and EMA_GROUP in file.groups
    return released_tensors(config, source.kind, ema=has_ema, use_ema=use_ema)


def compare(source: Source, file: TensorFile, config: VLMConfig, specs: Specs) -> Verification:
    """Compares what a file holds with `specs`."""
    found = {n: info for n, info in file.infos.items() if not n.endswith(_COMPUTED_SUFFIX)}
    both = [name for name in specs if name in found]
    unused = Counter(specs[name].reason for name in both if specs[name].reason)
    if len(found) != len(file.infos):
        unused[COMPUTED] = len(file.infos) - len(found)
    return Verification(
        kind=source.kind,
        weights=file.path,
        config=config,
        groups=file.groups,
        missing=tuple(name for name in specs if name not in found),
        extra=tuple(sorted(name for name in found if name not in specs)),
        misshaped={
            name: (found[name].shape, specs[name].shape)
            for name in both
            if found[name].shape != specs[name].shape
        },
        not_floating={
            name: found[name].dtype for name in both if found[name].dtype not in _FLOATS
        },
        unused=dict(unused),
        statistics_keys=_statistics_keys(source),
        has_tokenizer=source.has_tokenizer,
        has_ema=EMA_GROUP in file.groups,
        file_bytes=file.file_bytes,
        dtypes=dict(Counter(info.dtype for info in file.infos.values())),
    )


def _statistics_keys(source: Source) -> tuple[str, ...]:
    try:
        return tuple(sorted(source.statistics()))
    except CheckpointError:
        return ()
