"""Frames to calibrate with: from recorded demonstrations, or from the model's own episodes."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from efficientvla_ros.evaluation.watched_policy import WatchedPolicy
from efficientvla_ros.simulation.recording import FORMAT, SETTINGS_FILE, read_frame
from efficientvla_ros.simulation.tasks import OBJECTS, TEMPLATES, instruction_for, sample_episode
from efficientvla_ros.types import InputError

if TYPE_CHECKING:
    from efficientvla_ros.evaluation.closed_loop import Policy

_FRAMES_PER_EPISODE, _FEWEST_EPISODES = 4, 8
SIMULATOR_SEED = 7_000_000
"""First seed of the simulated episodes, far from those of recordings and evaluations."""

_SHARDS, _FRAMES_PER_SHARD = 16, 100
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


def demonstration_frames(folder: Path, count: int) -> list[Frame]:
    """Frames of a recording, evenly spaced in 16 of its shards (in more for many frames).

    The instruction asks for the object that the expert was after, in all wordings in turn.

    Args:
        folder: made by `efficientvla record`.
        count: how many are wanted; there may be fewer where the recording is short.

    Raises:
        InputError: the folder holds no such recording, or it is damaged.
    """
    task = _recorded_task(folder)
    shards = sorted(folder.glob('shard_*.npz'))
    if not shards:
        raise InputError(f'{folder} has no shards, expected a recording with at least one frame')
    opened = min(len(shards), count, max(_SHARDS, count // _FRAMES_PER_SHARD))
    shards = [shards[index] for index in _spread(len(shards), opened)]
    frames, first_episode = [], 0
    for shard, wanted in zip(shards, _shares(count, len(shards))):
        try:
            found, episodes = _shard_frames(shard, wanted, task, first_episode, len(frames))
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
    task: str = 'pick',
    seed: int = SIMULATOR_SEED,
    progress: Callable[[int], None] = lambda done: None,
) -> list[Frame]:
    """Frames of simulated episodes in which the model acts; up to four of each, evenly spaced.

    There are at least eight episodes where eight frames or more are wanted.

    Args:
        policy: the engine that is calibrated.
        count: how many are wanted, at least 1.
        task: of the episodes.
        seed: of the first episode.
        progress: called with the number of frames after each episode.

    Raises:
        InputError: the model cannot act on this task.
    """
    from efficientvla_ros.evaluation.closed_loop import make_controller, run_episode
    from efficientvla_ros.simulation.environment import TabletopEnvironment

    frames: list[Frame] = []
    per_episode = max(1, min(_FRAMES_PER_EPISODE, count // _FEWEST_EPISODES))
    watched = WatchedPolicy(policy)
    with TabletopEnvironment(_CAMERA_SIZE, _CAMERA_SIZE, task) as environment:
        controller = make_controller()
        episode = 0
        while len(frames) < count:
            watched.looks.clear()
            start = sample_episode(task, seed + episode)
            run_episode(environment, watched, controller, start, execute_steps=_EXECUTE_STEPS)
            wanted = min(per_episode, count - len(frames), len(watched.looks))
            for index in _spread(len(watched.looks), wanted):
                seen = watched.looks[index].observation
                image = next(iter(seen.images.values()))
                frames.append(Frame(image, seen.instruction, episode))
            episode += 1
            progress(len(frames))
    return frames


def _recorded_task(folder: Path) -> str:
    path = folder / SETTINGS_FILE
    try:
        settings = json.loads(path.read_text())
        if settings['format'] == FORMAT and settings['objects'] == list(OBJECTS):
            task = str(settings['task'])
            if task in TEMPLATES:
                return task
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
    path: Path, count: int, task: str, first_episode: int, already: int
) -> tuple[list[Frame], int]:
    with np.load(path) as file:
        shard = {name: file[name] for name in ('frames', 'frame_offsets', 'episode', 'object_ids')}
    total = len(shard['episode'])
    frames, wordings = [], len(TEMPLATES[task])
    for number, index in enumerate(_spread(total, min(count, total))):
        target = OBJECTS[shard['object_ids'][index, 0]]
        instruction = instruction_for(task, target, (already + number) % wordings)
        episode = first_episode + int(shard['episode'][index])
        frames.append(Frame(read_frame(shard, index), instruction, episode))
    return frames, int(shard['episode'].max(initial=-1)) + 1


def _spread(total: int, count: int) -> list[int]:
    """`count` of `total` indices, the middles of equal parts."""
    return [int((place + 0.5) * total / count) for place in range(count)]


def _shares(total: int, parts: int) -> Iterator[int]:
    """Splits a number into nearly equal parts."""
    return ((part + 1) * total // parts - part * total // parts for part in range(parts))
