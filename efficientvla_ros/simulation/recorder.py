"""Records demonstrations in parallel processes, and goes on where a recording was interrupted."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from efficientvla_ros.simulation.dataset_card import RecordingSummary, summarise, write_card
from efficientvla_ros.simulation.goals import TASKS, TEMPLATES
from efficientvla_ros.simulation.objects import KEYPOINTS
from efficientvla_ros.simulation.recording import (
    FORMAT,
    SETTINGS_FILE,
    RecordingSettings,
    shard_path,
    write_shard,
)
from efficientvla_ros.simulation.worker_process import follow_parent
from efficientvla_ros.types import InputError

if TYPE_CHECKING:
    from efficientvla_ros.simulation.demonstrations import Actor, Demonstrator

Job = tuple[RecordingSettings, Path, range]
"""What a shard belongs to, its file, and its seeds."""


def record(
    settings: RecordingSettings,
    folder: Path,
    workers: int = 1,
    progress: Callable[[int], None] = lambda done: None,
    make_actor: Callable[[], Actor] | None = None,
) -> RecordingSummary:
    """Records what is still missing in a folder.

    Args:
        settings: what to record.
        folder: where the shards go; made when missing. Complete shards in it are kept.
        workers: number of processes.
        progress: called with the number of episodes done so far, about three times a second.
        make_actor: makes, in each process, the policy that makes part of the plans; picklable.

    Returns:
        What the folder holds now.

    Raises:
        InputError: the folder holds a recording with other settings (more episodes may be
            asked for, to go on with it), or `workers` < 1.
    """
    _record_missing({folder: settings}, workers, lambda task, done: progress(done), make_actor)
    write_card(folder)
    return summarise(folder)


def record_all(
    settings: RecordingSettings,
    folder: Path,
    workers: int = 1,
    progress: Callable[[str, int], None] = lambda task, done: None,
    make_actor: Callable[[], Actor] | None = None,
    tasks: Sequence[str] = TASKS,
) -> RecordingSummary:
    """Records several tasks, each into a folder of its name; otherwise as `record`.

    Args:
        settings: what to record of each task; its `task` does not matter.
        folder: where the tasks' folders go.
        workers: number of processes; they share the shards of all tasks.
        progress: called with task and number of its episodes done.
        make_actor: see `record`.
        tasks: which ones.
    """
    recordings = {folder / task: replace(settings, task=task) for task in tasks}
    _record_missing(recordings, workers, progress, make_actor)
    for path in (*recordings, folder):
        write_card(path)
    return summarise(folder)


def _record_missing(
    recordings: Mapping[Path, RecordingSettings],
    workers: int,
    progress: Callable[[str, int], None],
    make_actor: Callable[[], Actor] | None,
) -> None:
    if workers < 1:
        raise InputError(f'workers is {workers}, expected at least 1')
    before: dict[str, int] = {}
    jobs: list[Job] = []
    for folder, settings in recordings.items():
        _prepare(settings, folder)
        missing = [
            (settings, shard_path(folder, number), seeds)
            for number, seeds in settings.shards()
            if _episodes_tried(shard_path(folder, number)) < len(seeds)
        ]
        before[settings.task] = settings.episodes - sum(len(seeds) for *_, seeds in missing)
        progress(settings.task, before[settings.task])
        jobs += missing
    if jobs:
        _run(jobs, min(workers, len(jobs)), before, progress, make_actor)


def _prepare(settings: RecordingSettings, folder: Path) -> None:
    """Makes the folder, or checks that it belongs to the same recording."""
    described = {
        'format': FORMAT,
        **asdict(settings),
        'objects': list(KEYPOINTS),
        'tasks': list(TASKS),
        'templates': {task: list(wordings) for task, wordings in TEMPLATES.items()},
    }
    path = folder / SETTINGS_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise InputError(f'{folder} is not a folder') from None
    if path.exists():
        found = json.loads(path.read_text())
        for key in described:
            if key != 'episodes' and found.get(key) != described[key]:
                raise InputError(
                    f'{path} holds a recording with {key} = {found.get(key)!r}, expected '
                    f'{described[key]!r}: use another folder or the same settings'
                )
        described['episodes'] = max(described['episodes'], found.get('episodes', 0))
    path.write_text(json.dumps(described, indent=2) + '\n')
    for leftover in folder.glob('*.part'):
        leftover.unlink()


def _episodes_tried(path: Path) -> int:
    if not path.exists():
        return 0
    with np.load(path) as shard:
        return int(shard['tried'])


def _run(
    jobs: Sequence[Job],
    workers: int,
    before: Mapping[str, int],
    progress: Callable[[str, int], None],
    make_actor: Callable[[], Actor] | None,
) -> None:
    import efficientvla_ros.simulation.backend  # noqa: F401  fails here, not in each worker

    # An OpenGL context does not survive a fork.
    context = multiprocessing.get_context('spawn')
    counts, stop = context.Array('i', len(TASKS)), context.Event()
    pool = ProcessPoolExecutor(workers, context, _start_worker, (make_actor, counts, stop))
    try:
        pending: set[Future] = {pool.submit(_run_shard, *job) for job in jobs}
        while pending:
            done, pending = wait(pending, timeout=0.3)
            for task, episodes in before.items():
                progress(task, episodes + counts[TASKS.index(task)])
            for future in done:
                future.result()
    except BrokenProcessPool as error:
        raise InputError(
            'a worker process died (out of memory?), try fewer workers; what is recorded is kept'
        ) from error
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


# Worker processes -----------------------------------------------------------------------------


class _Stopped(Exception):  # noqa: N818
    """Leaves a worker's shard unfinished."""


_worker: dict[str, Any] = {}


def _start_worker(make_actor: Callable[[], Actor] | None, counts, stop) -> None:
    follow_parent()
    _worker.update(make_actor=make_actor, counts=counts, stop=stop)


def _run_shard(settings: RecordingSettings, path: Path, seeds: range) -> None:
    # Where a policy acts, its failures are what is to be learnt; short episodes never succeed.
    keep_all = bool(settings.actor) or settings.scattered
    after_episode = partial(_after_episode, TASKS.index(settings.task))
    write_shard(path, _demonstrator(settings), seeds, after_episode, keep_all)


def _after_episode(task: int) -> None:
    if _worker['stop'].is_set():
        raise _Stopped
    with _worker['counts'].get_lock():
        _worker['counts'][task] += 1


def _demonstrator(settings: RecordingSettings) -> Demonstrator:
    """The one of the task at hand; tasks come one after the other, and each takes a renderer."""
    from efficientvla_ros.simulation.demonstrations import Demonstrator

    # Not when the process starts: what is wrong with a policy would be lost there.
    if 'actor' not in _worker:
        make_actor = _worker['make_actor']
        _worker['actor'] = make_actor() if make_actor else None
    if _worker.get('settings') != settings:
        if 'demonstrator' in _worker:
            _worker['demonstrator'].close()
        _worker['settings'] = settings
        _worker['demonstrator'] = Demonstrator(
            settings.task,
            settings.image_size,
            settings.disturbances(),
            _worker['actor'],
            settings.setting,
        )
    return _worker['demonstrator']
