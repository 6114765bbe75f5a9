"""Recorded demonstrations as arrays that a training step can index.

The shard format is described in `docs/simulation.md`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np

from efficientvla_ros.models.images import resize_image
from efficientvla_ros.models.statistics import ActionStatistics
from efficientvla_ros.simulation.dataset_card import recording_folders
from efficientvla_ros.simulation.goals import TASKS
from efficientvla_ros.simulation.objects import KEYPOINTS
from efficientvla_ros.types import InputError

_STATISTICS_STEPS = 4
_COLUMNS = {
    'plans': np.float32,
    'tasks': np.int64,
    'object_ids': np.int64,
    'references': np.int64,
    'object_pixels': np.float32,
    'keypoints': np.float32,
    'gripper_pixel': np.float32,
    'episode': np.int64,
}


class ImageStack:
    """Images of several memory-mapped files, indexed as one array [F, S, S, 3]."""

    def __init__(self, parts: list[np.ndarray]) -> None:
        """Puts arrays [F_i, S, S, 3] one after the other, without copying."""
        self._parts = parts
        self._starts = np.cumsum([0, *map(len, parts)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        images = np.empty((len(rows), *self._parts[0].shape[1:]), np.uint8)
        owner = np.searchsorted(self._starts, rows, side='right') - 1
        for index in np.unique(owner):
            mine = owner == index
            images[mine] = self._parts[index][rows[mine] - self._starts[index]]
        return images


@dataclass(frozen=True)
class Demonstrations:
    """Frames of many episodes, also of several tasks; three instructions a frame.

    Attributes:
        images: uint8 [F, S, S, 3], RGB at the network's input size.
        plans: float32 [F, 3, H, 7], the expert's physical actions for each instruction.
        tasks: int64 [F, 3], task of each instruction as index into `goals.TASKS`.
        object_ids: int64 [F, 3], its target as index into `objects.KEYPOINTS`.
        references: int64 [F, 3], where the target is to go, likewise; -1 for nowhere.
        object_pixels: float32 [F, 3, 2], the target's x and y as fractions of the image; outside
            0..1 where it is not in the picture.
        keypoints: float32 [F, K, 2], the same for each of `objects.KEYPOINTS`; -1 where absent.
        gripper_pixel: float32 [F, 2], the same for the tool centre point.
        episode: int64 [F], running number of the episode.
    """

    images: ImageStack
    plans: np.ndarray
    tasks: np.ndarray
    object_ids: np.ndarray
    references: np.ndarray
    object_pixels: np.ndarray
    keypoints: np.ndarray
    gripper_pixel: np.ndarray
    episode: np.ndarray

    def split(self, validation_part: float = 0.05) -> tuple[np.ndarray, np.ndarray]:
        """Frame indices for training and validation; whole episodes go to one side."""
        every = max(2, round(1 / validation_part))
        held_out = self.episode % every == 0
        return np.flatnonzero(~held_out), np.flatnonzero(held_out)

    def statistics(self) -> ActionStatistics:
        """Quantiles of the first actions of all plans; the gripper passes unchanged."""
        first = self.plans[:, :, :_STATISTICS_STEPS].reshape(-1, self.plans.shape[-1])
        q01, q99 = np.quantile(first, (0.01, 0.99), axis=0)
        mask = np.array([True] * 6 + [False])
        return ActionStatistics(np.where(mask, q01, 0.0), np.where(mask, q99, 1.0), mask)


def load_demonstrations(folders: Sequence[Path], image_size: int, horizon: int) -> Demonstrations:
    """Reads recordings; resized frames are kept beside the shards for the next time.

    A folder without shards stands for the recordings in it, as `record --task all` makes them.
    The frames of a folder that is given twice are there twice, and so are drawn twice as often;
    its episodes keep their numbers, so that none is both trained on and held out.

    Raises:
        InputError: a folder has no shards, or its plans are shorter than `horizon`.
    """
    every = [path for folder in folders for path in _recordings_in(folder)]
    loaded = {path: _load_folder(path, image_size, horizon) for path in dict.fromkeys(every)}
    first = 0
    for part in loaded.values():
        part['episode'] += first
        first = part['episode'].max() + 1
    parts = [loaded[path] for path in every]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in _COLUMNS}
    return Demonstrations(images=ImageStack([part['images'] for part in parts]), **columns)


def _recordings_in(folder: Path) -> list[Path]:
    return [folder] if any(folder.glob('*.npz')) else recording_folders(folder) or [folder]


def _load_folder(folder: Path, image_size: int, horizon: int) -> dict[str, np.ndarray]:
    shards = sorted(folder.glob('*.npz'))
    if not shards:
        raise InputError(
            f'{folder} has no *.npz shards, expected a recording made by `efficientvla record`'
        )
    parts: dict[str, list[np.ndarray]] = {name: [] for name in _COLUMNS}
    episodes = 0
    for path in shards:
        with np.load(path) as shard:
            columns = _columns(shard)
            for name, dtype in _COLUMNS.items():
                parts[name].append(columns[name].astype(dtype))
            parts['episode'][-1] += episodes
            episodes += len(shard['seeds'])
    data = {name: np.concatenate(values) for name, values in parts.items()}
    if data['plans'].shape[2] < horizon:
        raise InputError(
            f'{folder}: plans have {data["plans"].shape[2]} steps, the model wants {horizon}'
        )
    data['plans'] = np.ascontiguousarray(data['plans'][:, :, :horizon])
    # An object that was thrown behind the camera has no pixel: it counts as out of the picture.
    for name in ('object_pixels', 'keypoints'):
        data[name] = np.nan_to_num(data[name], nan=-1.0)
    data['images'] = _resized_frames(folder, shards, image_size, len(data['episode']))
    return data


def _columns(shard: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The columns of a shard; those that recordings of the first format lack follow from it."""
    columns = {name: shard[name] for name in _COLUMNS if name in shard}
    ids = columns['object_ids']
    if 'tasks' not in columns:
        columns['tasks'] = np.full(ids.shape, TASKS.index('pick'))
        columns['references'] = np.full(ids.shape, -1)
        columns['keypoints'] = np.full((len(ids), len(KEYPOINTS), 2), np.nan, np.float32)
        rows = np.arange(len(ids))[:, None]
        columns['keypoints'][rows, ids] = columns['object_pixels']
    return columns


def _resized_frames(folder: Path, shards: list[Path], size: int, count: int) -> np.ndarray:
    cache = folder / f'frames_{size}.npy'
    key_file = folder / f'frames_{size}.json'
    key = [[path.name, path.stat().st_size] for path in shards]
    if not (cache.is_file() and key_file.is_file() and json.loads(key_file.read_text()) == key):
        partial = cache.with_suffix(f'.{os.getpid()}.tmp')
        frames = np.lib.format.open_memmap(partial, 'w+', np.uint8, (count, size, size, 3))
        row = 0
        for path in shards:
            for image in _decode(path):
                frames[row] = resize_image(image, size)
                row += 1
        frames.flush()
        partial.replace(cache)
        key_file.write_text(json.dumps(key))
    return np.load(cache, mmap_mode='r')


def _decode(path: Path):
    with np.load(path) as shard:
        data, offsets = shard['frames'], shard['frame_offsets']
    for start, stop in pairwise(offsets):
        yield cv2.cvtColor(cv2.imdecode(data[start:stop], cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
