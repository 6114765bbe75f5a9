"""What ran when: spans of ticks and of the work between them, as a Chrome trace."""

from __future__ import annotations

import json
import os
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

INFERENCE, UPDATES = 'inference', 'channel updates'
"""Tracks: the stages of ticks, and what happens beside them."""

_MICROSECONDS = 1e6


class Timeline:
    """Keeps the newest events; any thread may add some.

    Times are of `time.perf_counter`, seconds.
    """

    def __init__(self, capacity: int = 20_000) -> None:
        """Keeps up to `capacity` events."""
        self._events: deque[dict[str, Any]] = deque(maxlen=capacity)
        self._origin = time.perf_counter()

    def __len__(self) -> int:
        """Events kept."""
        return len(self._events)

    def add(self, track: str, name: str, start: float, end: float, **details: object) -> None:
        """Adds a span of time on a track."""
        duration = (end - start) * _MICROSECONDS
        self._events.append(
            {'ph': 'X', 'tid': track, 'name': name, **self._at(start), 'dur': duration}
            | {'args': details}
        )

    def mark(self, track: str, name: str, **details: object) -> None:
        """Adds an event without a duration, now."""
        now = self._at(time.perf_counter())
        self._events.append(
            {'ph': 'i', 's': 't', 'tid': track, 'name': name, **now, 'args': details}
        )

    def count(self, name: str, value: float) -> None:
        """Adds a value of a curve, now."""
        now = self._at(time.perf_counter())
        self._events.append(
            {'ph': 'C', 'tid': INFERENCE, 'name': name, **now, 'args': {name: value}}
        )

    @contextmanager
    def span(self, track: str, name: str, **details: object) -> Iterator[None]:
        """Adds what runs inside the `with`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add(track, name, start, time.perf_counter(), **details)

    def to_json(self) -> dict[str, Any]:
        """The events in the trace format of Chrome and Perfetto, in the order of their start."""
        events = sorted(list(self._events), key=lambda event: event['ts'])
        tracks = list(dict.fromkeys([INFERENCE, UPDATES, *(event['tid'] for event in events)]))
        process = {'pid': os.getpid()}
        names = [
            {'ph': 'M', 'name': 'thread_name', 'tid': number, 'args': {'name': track}} | process
            for number, track in enumerate(tracks)
        ]
        numbered = [{**event, 'tid': tracks.index(event['tid'])} | process for event in events]
        return {'traceEvents': names + numbered, 'displayTimeUnit': 'ms'}

    def save(self, path: str | Path) -> None:
        """Writes `to_json`."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.to_json()))

    def _at(self, moment: float) -> dict[str, float]:
        return {'ts': (moment - self._origin) * _MICROSECONDS}
