"""Finished episodes on disk, so that an interrupted evaluation goes on where it stopped."""

from __future__ import annotations

import json
from pathlib import Path

from efficientvla_ros.evaluation.provenance import model_digest
from efficientvla_ros.evaluation.settings import EvaluationSettings
from efficientvla_ros.types import InputError


class ProgressFile:
    """One JSON line of settings, then one for each finished episode; gone when all are done.

    Attributes:
        path: `<report>.rows.jsonl`, with the preset's name in it where there is one.
        rows: seed -> row of the episodes that are already there.
    """

    def __init__(
        self, report: Path, settings: EvaluationSettings, preset: str | None = None
    ) -> None:
        """Opens the file that belongs to a report, and to one preset of it if one is given.

        Raises:
            InputError: it holds episodes of other settings or weights, or is damaged.
        """
        part = '' if preset is None else f'.{preset}'
        self.path = report.with_name(f'{report.name}{part}.rows.jsonl')
        self.rows: dict[int, dict] = {}
        key = {'settings': settings.episode_key(), 'model_sha256': model_digest(settings.model)}
        if preset is not None:
            key['preset'] = preset
        if settings.profile is not None:
            key['profile_sha256'] = model_digest(settings.profile)
        if self.path.exists():
            self._read(key)
        else:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(json.dumps(key) + '\n')

    def _read(self, key: dict) -> None:
        text = self.path.read_text()
        # A line without its end was being written when the run was killed.
        complete, _, cut = text.rpartition('\n')
        try:
            lines = [json.loads(line) for line in complete.splitlines()]
            found, rows = lines[0], {row['seed']: row for row in lines[1:]}
        except (ValueError, LookupError, TypeError):
            raise InputError(f'{self.path}: damaged, delete it to start again') from None
        if found != key:
            raise InputError(
                f'{self.path}: holds episodes of other settings or weights, delete it or '
                'choose another report file'
            )
        self.rows = rows
        if cut:
            self.path.write_text(complete + '\n')

    def add(self, row: dict) -> None:
        """Appends the row of a finished episode."""
        self.rows[row['seed']] = row
        with self.path.open('a') as file:
            file.write(json.dumps(row) + '\n')

    def remove(self) -> None:
        """Deletes the file; the report has taken its place."""
        self.path.unlink(missing_ok=True)
