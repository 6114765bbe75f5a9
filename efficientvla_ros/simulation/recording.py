"""Demonstrations in shards that NumPy and a PNG decoder can read.

The format is described in docs/simulation.md.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from efficientvla_ros.simulation.goals import Goal, check_task
from efficientvla_ros.simulation.variation import MATCHING, check_setting
from efficientvla_ros.types import InputError

if TYPE_CHECKING:
    from efficientvla_ros.simulation.demonstrations import Disturbances

FORMAT = 'efficientvla-demonstrations-2'
FORMATS = ('efficientvla-demonstrations-1', FORMAT)
"""Formats that can be read; the first has recordings of `pick` alone."""

SETTINGS_FILE = 'recording.json'
EPISODES_PER_SHARD = 100
_SCATTERED_FRAMES = 3
_ACTING_FRAMES = 24  # a policy that is stuck shows nothing new


@dataclass(frozen=True)
class RecordingSettings:
    """What is recorded: episode i has the seed `seed` + i.

    Attributes:
        task: name of the task.
        episodes: number of episodes to try.
        seed: seed of the first one.
        image_size: side of the square images, pixels.
        actor: name of the policy that makes part of the plans, '' where only the expert acts.
        scattered: short episodes, all from random poses.
        setting: look and events of the episodes, see `variation`.

    Raises:
        InputError: a value out of range, named with what was expected.
    """

    task: str
    episodes: int
    seed: int
    image_size: int = 224
    actor: str = ''
    scattered: bool = False
    setting: str = MATCHING

    def __post_init__(self) -> None:
        """Checks the values."""
        check_task(self.task)
        check_setting(self.setting)
        if self.episodes < 1:
            raise InputError(f'episodes is {self.episodes}, expected at least 1')
        if self.seed < 0:
            raise InputError(f'seed is {self.seed}, expected 0 or more')
        if not 16 <= self.image_size <= 1024:
            raise InputError(f'image_size is {self.image_size}, expected 16 .. 1024 pixels')

    def disturbances(self) -> Disturbances:
        """How the demonstrations of this recording are disturbed."""
        from efficientvla_ros.simulation.demonstrations import Disturbances

        if self.scattered:
            return Disturbances(random_start_rate=1.0, frames=_SCATTERED_FRAMES)
        return Disturbances(frames=_ACTING_FRAMES if self.actor else None)

    def shards(self) -> Iterator[tuple[int, range]]:
        """Yields shard number and its seeds."""
        for number, start in enumerate(range(0, self.episodes, EPISODES_PER_SHARD)):
            stop = min(start + EPISODES_PER_SHARD, self.episodes)
            yield number, range(self.seed + start, self.seed + stop)


def shard_path(folder: Path, number: int) -> Path:
    """Returns the file of a shard."""
    return folder / f'shard_{number:05d}.npz'


def encode_png(image: np.ndarray) -> np.ndarray:
    """Returns the PNG bytes, uint8 [n], of an RGB image uint8 [height, width, 3]."""
    import cv2

    _, data = cv2.imencode('.png', image[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])
    return data.ravel()


def decode_png(data: np.ndarray) -> np.ndarray:
    """Returns the RGB image uint8 [height, width, 3] of PNG bytes, uint8 [n]."""
    import cv2

    return cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1]


def read_frame(shard: dict[str, np.ndarray], index: int) -> np.ndarray:
    """Returns one image of a shard, uint8 [height, width, 3], RGB."""
    offsets = shard['frame_offsets']
    return decode_png(shard['frames'][offsets[index] : offsets[index + 1]])


def frame_goals(shard: dict[str, np.ndarray], index: int, described: dict) -> list[Goal]:
    """Returns what each plan of a frame is for, the goal that was carried out first.

    Args:
        shard: arrays of a shard; `object_ids`, and `tasks` and `references` where it has them.
        index: of the frame.
        described: content of the recording's `recording.json`.

    Raises:
        InputError: the shard names a task or object that there is none of.
    """
    objects = described['objects']
    targets = [objects[i] for i in shard['object_ids'][index]]
    if 'tasks' not in shard:
        return [Goal(described['task'], name) for name in targets]
    return [
        Goal(described['tasks'][task], target, objects[reference] if reference >= 0 else '')
        for task, target, reference in zip(
            shard['tasks'][index], targets, shard['references'][index]
        )
    ]


def write_shard(
    path: Path,
    demonstrator,
    seeds: range,
    on_episode: Callable[[], None] = lambda: None,
    keep_all: bool = False,
) -> None:
    """Records the episodes of a shard; the file appears when it is complete.

    Failures are left out unless `keep_all`.
    """
    from efficientvla_ros.simulation.demonstrations import ROW_TYPES

    encoded: list[np.ndarray] = []
    rows: dict[str, list[np.ndarray]] = {name: [] for name in ROW_TYPES}
    episode: list[int] = []
    kept: list[int] = []
    for seed in seeds:
        demonstration = demonstrator.demonstrate(seed)
        if demonstration.success or keep_all:
            encoded.extend(encode_png(image) for image in demonstration.images)
            episode.extend([len(kept)] * len(demonstration.images))
            kept.append(seed)
            for name, values in demonstration.rows.items():
                rows[name].extend(values)
        on_episode()
    offsets = np.cumsum([0, *(len(data) for data in encoded)], dtype=np.int64)
    arrays = {
        name: np.array(rows[name], dtype=dtype).reshape(-1, *shape)
        for name, (dtype, shape) in ROW_TYPES.items()
    }
    unfinished = path.with_suffix(f'.{os.getpid()}.part')
    with open(unfinished, 'wb') as file:
        np.savez(
            file,
            frames=np.concatenate(encoded or [np.zeros(0, np.uint8)]),
            frame_offsets=offsets,
            episode=np.array(episode, dtype=np.int32),
            seeds=np.array(kept, dtype=np.int64),
            tried=np.array(len(seeds)),
            **arrays,
        )
    os.replace(unfinished, path)
