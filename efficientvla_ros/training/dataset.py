"""Recorded demonstrations as arrays that a training step can index.

The shard format is described in `docs/simulation.md`.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np

from efficientvla_ros.models.images import resize_image
from efficientvla_ros.models.statistics import ActionStatistics
from efficientvla_ros.types import InputError

_STATISTICS_STEPS = 4


@dataclass(frozen=True)
class Demonstrations:
    """Frames of many episodes; three objects, hence three instructions, a frame.

    Attributes:
        images: uint8 [F, S, S, 3], RGB at the network's input size (memory-mapped).
        plans: float32 [F, 3, H, 7], the expert's physical actions for each object.
        object_ids: int64 [F, 3], which object each plan is for.
        object_pixels: float32 [F, 3, 2], x and y as fractions of the image.
        gripper_pixel: float32 [F, 2], the same for the tool centre point.
        episode: int64 [F], running number of the episode.
    """

    images: np.ndarray
    plans: np.ndarray
    object_ids: np.ndarray
    object_pixels: np.ndarray
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


def load_demonstrations(folder: Path, image_size: int, horizon: int) -> Demonstrations:
    """Reads all shards of a recording; resized frames are kept beside them for the next time.

    Raises:
        InputError: the folder has no shards, or their plans are shorter than `horizon`.
    """
    shards = sorted(folder.glob('*.npz'))
    if not shards:
        raise InputError(
            f'{folder} has no *.npz shards, expected a recording made by `efficientvla record`'
        )
    columns: dict[str, list[np.ndarray]] = {}
    episodes = 0
    for path in shards:
        with np.load(path) as shard:
            for name in ('plans', 'object_ids', 'object_pixels', 'gripper_pixel'):
                columns.setdefault(name, []).append(shard[name])
            local = np.unique(shard['episode'], return_inverse=True)[1]
            columns.setdefault('episode', []).append(local + episodes)
            episodes += int(local.max()) + 1
    data = {name: np.concatenate(parts) for name, parts in columns.items()}
    if data['plans'].shape[2] < horizon:
        raise InputError(
            f'{folder}: plans have {data["plans"].shape[2]} steps, the model wants {horizon}'
        )
    return Demonstrations(
        images=_resized_frames(folder, shards, image_size, len(data['episode'])),
        plans=np.ascontiguousarray(data['plans'][:, :, :horizon], dtype=np.float32),
        object_ids=data['object_ids'].astype(np.int64),
        object_pixels=data['object_pixels'].astype(np.float32),
        gripper_pixel=data['gripper_pixel'].astype(np.float32),
        episode=data['episode'].astype(np.int64),
    )


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
