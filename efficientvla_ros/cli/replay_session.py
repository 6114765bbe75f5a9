"""One recording, run by several presets with one engine."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from efficientvla_ros.cli.replay_report import (
    compare,
    compare_recorded,
    frame_row,
    run_summary,
)
from efficientvla_ros.cli.replay_run import Message, Replay, Tick
from efficientvla_ros.cli.replay_topics import ACTION_CHUNK, Wanted, find_topics
from efficientvla_ros.cli.rosbag_reader import open_bag, reading
from efficientvla_ros.ros.message_fields import stamp_to_ns
from efficientvla_ros.ros.parameters.acceleration import audit_settings, use_plan
from efficientvla_ros.ros.parameters.policy import engine_options
from efficientvla_ros.ros.parameters.table import Settings
from efficientvla_ros.types import InputError

if TYPE_CHECKING:
    import numpy as np
    from rosbags.highlevel import AnyReader

    from efficientvla_ros.runtime.engine import Engine

Warn = Callable[[str], None]
Progress = Callable[[str, int, 'int | None'], None]
"""Takes what is being done, how much of it is done and how much there is, if known."""


class Recording:
    """A recording that is open, and where the inputs of the node are in it."""

    def __init__(
        self, reader: AnyReader, folder: Path, wanted: Sequence[Wanted], warn: Warn
    ) -> None:
        """Finds the inputs; raises as `find_topics`."""
        self._reader = reader
        self._folder = folder
        self._topics, self._connections, notes = find_topics(reader, folder, wanted)
        for note in notes:
            warn(f'{note}: without it there are plans, but no commands')

    @property
    def size(self) -> int:
        """How many messages there are."""
        return sum(connection.msgcount for connection in self._connections)

    def messages(self) -> Iterator[Message]:
        """All messages that the node would have heard, in the order of their time."""
        with reading(self._folder):
            for connection, time_ns, data in self._reader.messages(self._connections):
                message = self._reader.deserialize(data, connection.msgtype)
                yield self._topics[connection.topic], time_ns, message

    def chunks(self) -> dict[tuple[int, str], np.ndarray] | None:
        """Plans that a node has published: (stamp, instruction) -> actions [horizon, 7].

        None where there are none, or where the recording does not carry the definition of their
        type (sqlite3 of Humble).
        """
        found = [c for c in self._reader.connections if c.msgtype == ACTION_CHUNK]
        if not found or ACTION_CHUNK not in self._reader.typestore.fielddefs:
            return None
        chunks = {}
        with reading(self._folder):
            for connection, _, data in self._reader.messages(found):
                message = self._reader.deserialize(data, connection.msgtype)
                key = stamp_to_ns(message.header.stamp), message.instruction
                chunks[key] = message.actions.reshape(message.horizon, message.dimension)
        return chunks


@contextmanager
def open_recording(folder: Path, wanted: Sequence[Wanted], warn: Warn) -> Iterator[Recording]:
    """Opens a recording.

    Raises:
        InputError: there is none, or it lacks what is needed.
    """
    if not (folder / 'metadata.yaml').is_file():
        raise InputError(
            f'{folder} is no rosbag2 recording, expected a folder with metadata.yaml '
            '(`ros2 bag reindex` makes one)'
        )
    with open_bag(folder) as reader:
        yield Recording(reader, folder, wanted, warn)


class Session:
    """Runs a recording by the parameters, and by other presets."""

    def __init__(
        self,
        recording: Recording,
        settings: Settings,
        options: dict[str, Any],
        instruction: str | None,
        urdf: str | None,
        frames: int | None,
        warn: Warn,
    ) -> None:
        """Loads nothing yet.

        Args:
            recording: what is played.
            settings: parameters of the node.
            options: of `Replay`.
            instruction: used instead of the recorded ones; None takes those.
            urdf: robot description, beside recorded ones.
            frames: how many at most; None for all.
            warn: takes lines of the log.
        """
        self._recording = recording
        self._settings = settings
        self._options = options
        self._instruction = instruction
        self._urdf = urdf
        self._frames = frames
        self._warn = warn
        self._first: list[Tick] | None = None

    def runs(self, presets: Sequence[str], progress: Progress) -> list[dict[str, Any]]:
        """Returns a run by the parameters, then one by each preset, ready for JSON."""
        engine = self._load(progress)
        return [self._run(engine, settings, progress) for settings in self._variants(presets)]

    def recorded(self) -> dict[str, Any] | None:
        """Returns how the plans of the first run compare with those that were recorded."""
        chunks = self._recording.chunks()
        return None if chunks is None else compare_recorded(self._first or [], chunks)

    def _load(self, progress: Progress) -> Engine:
        """Loads the model as the node does."""
        from efficientvla_ros.runtime.engine import load_engine

        engine = load_engine(
            **engine_options(self._settings),
            progress=lambda done, total: progress('loading', done, total),
        )
        engine.audit = audit_settings(self._settings)
        engine.warm_up()
        return engine

    def _variants(self, presets: Sequence[str]) -> Iterator[Settings]:
        yield self._settings
        for name in presets:
            yield self._settings.replaced(
                {'acceleration.preset': name, 'acceleration.latency_budget_ms': 0.0}
            )

    def _run(self, engine: Engine, settings: Settings, progress: Progress) -> dict[str, Any]:
        name, plan = use_plan(engine, settings)
        replay = Replay(engine, settings, warn=self._warn, **self._options)
        if self._urdf is not None:
            replay.describe(self._urdf)
        if self._instruction is not None:
            replay.instruct(self._instruction)
        with warnings.catch_warnings():
            # Images are views on the recording, and nobody writes to them.
            warnings.filterwarnings('ignore', message='The given NumPy array is not writable')
            ticks = replay.run(self._counted(name, progress), self._frames)
        if self._first is None:
            self._first, comparison = ticks, None
        else:
            comparison = compare(self._first, ticks, engine.statistics)
        return {
            'preset': name,
            'plan': str(plan),
            'notes': list(plan.notes),
            'summary': run_summary(ticks, replay.counters)
            | {'images_rejected': replay.images_rejected, 'ticks_missed': replay.missed},
            'comparison': comparison,
            'frames': [frame_row(tick) for tick in ticks],
        }

    def _counted(self, name: str, progress: Progress) -> Iterator[Message]:
        size = self._recording.size
        for done, message in enumerate(self._recording.messages(), 1):
            progress(name, done, size)
            yield message
