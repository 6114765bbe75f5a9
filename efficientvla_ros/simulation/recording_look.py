"""A quick look at recordings: a contact sheet of episodes with instructions and keypoints."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from efficientvla_ros.simulation.dataset_card import recording_folders
from efficientvla_ros.simulation.recording import SETTINGS_FILE, frame_goals, read_frame
from efficientvla_ros.types import InputError

COLUMNS = 8
_CELL = 168
_CAPTION = 16
_EPISODES = 12


@dataclass(frozen=True)
class SeenEpisode:
    """One recorded episode.

    Attributes:
        caption: recording and seed.
        images: uint8 [height, width, 3] each, RGB.
        instructions: that each image was taken under.
        points: pixels as fractions [n, 2] of what each image shows.
    """

    caption: str
    images: list[np.ndarray]
    instructions: list[str]
    points: list[np.ndarray]


def episodes_of(folder: Path, count: int = _EPISODES) -> Iterator[SeenEpisode]:
    """Yields about `count` episodes of the recordings in a folder, each as often as the other.

    Raises:
        InputError: the folder holds no recording.
    """
    recordings = recording_folders(folder)
    if not recordings:
        raise InputError(f'{folder} holds no recording, expected one of `efficientvla record`')
    for path in recordings:
        described = json.loads((path / SETTINGS_FILE).read_text())
        left = max(1, round(count / len(recordings)))
        for shard_path in sorted(path.glob('shard_*.npz')):
            shard = dict(np.load(shard_path))
            for number in range(min(left, len(shard['seeds']))):
                yield _episode(shard, number, described, path.name)
                left -= 1
            if left <= 0:
                break


def _episode(shard: dict, number: int, described: dict, name: str) -> SeenEpisode:
    rows = np.flatnonzero(shard['episode'] == number)
    points = shard['keypoints'] if 'keypoints' in shard else shard['object_pixels']
    return SeenEpisode(
        f'{name} {int(shard["seeds"][number])}',
        [read_frame(shard, row) for row in rows],
        [frame_goals(shard, row, described)[0].instruction() for row in rows],
        [np.vstack([points[row], shard['gripper_pixel'][row]]) for row in rows],
    )


def contact_sheet(folder: Path, count: int = _EPISODES) -> np.ndarray:
    """Returns one row of `COLUMNS` evenly spaced images an episode, uint8 [height, width, 3].

    Raises:
        InputError: the folder holds no episode.
    """
    rows = [_row(episode) for episode in episodes_of(folder, count)]
    if not rows:
        raise InputError(f'{folder} holds no episode, expected at least one')
    return np.vstack(rows)


def _row(episode: SeenEpisode) -> np.ndarray:
    import cv2

    row = np.full((_CELL + _CAPTION, COLUMNS * _CELL, 3), 255, np.uint8)
    shown = np.unique(np.linspace(0, len(episode.images) - 1, COLUMNS).round().astype(int))
    for column, index in enumerate(shown):
        cell = cv2.resize(episode.images[index], (_CELL, _CELL), interpolation=cv2.INTER_AREA)
        for point in episode.points[index]:
            if np.all((point >= 0) & (point < 1)):
                x, y = (point * _CELL).astype(int).tolist()
                cv2.circle(cell, (x, y), 3, (255, 0, 255), 1, cv2.LINE_AA)
        row[_CAPTION:, column * _CELL : (column + 1) * _CELL] = cell
    asked = list(dict.fromkeys(episode.instructions))
    text = f'{episode.caption}: {", then ".join(asked)} ({len(episode.images)} frames)'
    cv2.putText(row, text, (4, 12), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA)
    return row
