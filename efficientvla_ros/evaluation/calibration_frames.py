"""Frames to calibrate with: from recorded demonstrations, or from the model's own episodes."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from efficientvla_ros.evaluation.watched_policy import WatchedPolicy
from efficientvla_ros.simulation.dataset_card import recording_folders
from efficientvla_ros.simulation.goals import PICK
from efficientvla_ros.simulation.objects import KEYPOINTS
from efficientvla_ros.simulation.recording import (
    FORMAT,
    FORMATS,
    SETTINGS_FILE,
    frame_goals,
    read_frame,
)
from efficientvla_ros.simulation.tasks import TEMPLATES, sample_episode
from efficientvla_ros.types import InputError

if TYPE_CHECKING:
    from efficientvla_ros.evaluation.closed_loop import Policy

_FRAMES_PER_EPISODE, _FEWEST_EPISODES = 4, 8
SIMULATOR_SEED = 7_000_000
"""First seed of the simulated episodes, far from those of recordings and evaluations."""

_SHARDS, _FRAMES_PER_SHARD = 16, 100
_NEEDED = ('frames', 'frame_offsets', 'episode', 'object_ids', 'tasks', 'references')
_EXECUTE_STEPS = 3
_CAMERA_SIZE = 224


@dataclass(frozen=True)
class Frame:
    """What a policy saw at one moment.

    Attributes:
        image: uint8 [height, width, 3], RGB.
        instruction: what it was asked to do.
        episode: number of the episode in its source.
    """

    image: np.ndarray
    instruction: str
    episode: int


def recorded_frames(folder: Path, count: int) -> list[Frame]:
    """Frames of a recording, or in equal parts of the recordings that a folder holds.

    Args:
        folder: made by `efficientvla record`, of one task or of all.
        count: how many are wanted; there may be fewer.

    Raises:
        InputError: the folder holds no recording, or a damaged one.
    """
    parts = recording_folders(folder) or [folder]
    frames: list[Frame] = []
    for part, wanted in zip(parts, _shares(count, len(parts)), strict=True):
        if wanted:
            frames += _after(frames, demonstration_frames(part, wanted))
    return frames


def _after(frames: list[Frame], more: list[Frame]) -> list[Frame]:
    """More frames, with numbers of episodes that follow those of the first ones."""
    first = frames[-1].episode + 1 if frames else 0
    return [replace(frame, episode=first + frame.episode) for frame in more]


def demonstration_frames(folder: Path, count: int) -> list[Frame]:
    """Frames of a recording, evenly spaced in 16 of its shards (in more for many frames).

    The instruction asks for the object that the expert was after, in all wordings in turn.

    Args:
        folder: made by `efficientvla record`.
        count: how many are wanted; there may be fewer where the recording is short.

    Raises:
        InputError: the folder holds no such recording, or it is damaged.
    """
    described = _described(folder)
    shards = sorted(folder.glob('shard_*.npz'))
    if not shards:
        raise InputError(f'{folder} has no shards, expected a recording with at least one frame')
    opened = min(len(shards), count, max(_SHARDS, count // _FRAMES_PER_SHARD))
    shards = [shards[index] for index in _spread(len(shards), opened)]
    frames, first_episode = [], 0
    for shard, wanted in zip(shards, _shares(count, len(shards))):
        try:
            found, episodes = _shard_frames(shard, wanted, described, first_episode, len(frames))
        except (OSError, ValueError, KeyError, IndexError, zipfile.BadZipFile) as error:
            raise InputError(f'{shard} cannot be read ({error}), expected a shard') from error
        frames += found
        first_episode += episodes
    if not frames:
        raise InputError(f'{folder} has no frames, expected at least one')
    return frames


def simulator_frames(
    policy: Policy,
    count: int,
    *,
    tasks: Sequence[str] = (PICK,),
    seed: int = SIMULATOR_SEED,
    progress: Callable[[int], None] = lambda done: None,
) -> list[Frame]:
    """Frames of simulated episodes in which the model acts; up to four of each, evenly spaced.

    There are at least eight episodes of a task of which eight frames or more are wanted.

    Args:
        policy: the engine that is calibrated.
        count: how many are wanted, at least 1.
        tasks: of the episodes, an equal part of the frames each.
        seed: of the first episode of each task.
        progress: called with the number of frames after each episode.

    Raises:
        InputError: the model cannot act on a task.
    """
    frames: list[Frame] = []
    for task, wanted in zip(tasks, _shares(count, len(tasks)), strict=True):
        for episode in _episode_frames(policy, wanted, task, seed):
            frames += _after(frames, episode)
            progress(len(frames))
    return frames


def _episode_frames(policy: Policy, count: int, task: str, seed: int) -> Iterator[list[Frame]]:
    """Frames of one episode after the other until there are enough."""
    from efficientvla_ros.evaluation.closed_loop import make_controller, run_episode
    from efficientvla_ros.simulation.environment import TabletopEnvironment

    per_episode = max(1, min(_FRAMES_PER_EPISODE, count // _FEWEST_EPISODES))
    watched = WatchedPolicy(policy)
    with TabletopEnvironment(_CAMERA_SIZE, _CAMERA_SIZE, task) as environment:
        controller = make_controller()
        while count > 0:
            watched.looks.clear()
            start = sample_episode(task, seed)
            run_episode(environment, watched, controller, start, execute_steps=_EXECUTE_STEPS)
            wanted = min(per_episode, count, len(watched.looks))
            seen = [watched.looks[i].observation for i in _spread(len(watched.looks), wanted)]
            yield [Frame(next(iter(s.images.values())), s.instruction, 0) for s in seen]
            count, seed = count - wanted, seed + 1


def _described(folder: Path) -> dict:
    path = folder / SETTINGS_FILE
    try:
        settings = json.loads(path.read_text())
        objects = tuple(settings['objects'])
        if settings['format'] in FORMATS and objects == KEYPOINTS[: len(objects)]:
            task = str(settings['task'])
            if task in TEMPLATES:
                return settings
            raise InputError(
                f'{folder} is a recording of the task {task!r}, '
                f'expected one of: {", ".join(TEMPLATES)}'
            )
    except OSError as error:
        raise InputError(f'{path} cannot be read ({error.strerror})') from error
    except InputError:
        raise
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f'{path} does not describe a recording, expected "{FORMAT}"') from error
    raise InputError(f'{path} is of another format or other objects, expected "{FORMAT}"')


def _shard_frames(
    path: Path, count: int, described: dict, first_episode: int, already: int
) -> tuple[list[Frame], int]:
    with np.load(path) as file:
        shard = {name: file[name] for name in _NEEDED if name in file}
    total = len(shard['episode'])
    frames = []
    for number, index in enumerate(_spread(total, min(count, total))):
        goal = frame_goals(shard, index, described)[0]
        instruction = goal.instruction((already + number) % len(TEMPLATES[goal.task]))
        episode = first_episode + int(shard['episode'][index])
        frames.append(Frame(read_frame(shard, index), instruction, episode))
    return frames, int(shard['episode'].max(initial=-1)) + 1


def _spread(total: int, count: int) -> list[int]:
    """`count` of `total` indices, the middles of equal parts."""
    return [int((place + 0.5) * total / count) for place in range(count)]


def _shares(total: int, parts: int) -> Iterator[int]:
    """Splits a number into nearly equal parts."""
    return ((part + 1) * total // parts - part * total // parts for part in range(parts))
