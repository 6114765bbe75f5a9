"""Episodes of several presets, run as far as they are missing, with a bar for each preset."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import typer

from efficientvla_ros.evaluation.progress_file import ProgressFile
from efficientvla_ros.evaluation.report import write_json
from efficientvla_ros.evaluation.settings import EvaluationSettings

Rows = dict[EvaluationSettings, dict[str, dict[int, dict]]]
"""Settings -> preset -> seed -> row of its episode."""


class PresetEpisodes:
    """The episodes of one or several settings under several presets.

    Attributes:
        rows: the episodes that have been run.
    """

    def __init__(
        self,
        cells: Sequence[EvaluationSettings],
        presets: Sequence[str],
        json_file: Path | None,
    ) -> None:
        """Reads the episodes that an interrupted run has left beside its report.

        Args:
            cells: settings, which may differ in task and setting.
            presets: names.
            json_file: the report; None keeps nothing on disk.

        Raises:
            InputError: what is there is of other settings or weights, or damaged.
        """
        self.cells, self.presets, self._report = tuple(cells), tuple(presets), json_file
        self._files = {
            (cell, name): ProgressFile(self._file_of(json_file, cell), cell, name)
            for cell in (cells if json_file is not None else ())
            for name in presets
        }
        self.rows: Rows = {cell: {name: {} for name in presets} for cell in cells}
        for (cell, name), file in self._files.items():
            self.rows[cell][name] = {s: row for s, row in file.rows.items() if s in cell.seeds}

    def _file_of(self, json_file: Path, cell: EvaluationSettings) -> Path:
        if len(self.cells) == 1:
            return json_file
        return json_file.with_name(f'{json_file.name}.{cell.setting}.{cell.task}')

    def run(self, workers: int) -> None:
        """Runs what is missing; leaves the program with exit code 130 when interrupted."""
        # Seed by seed: all presets meet the same load of the machine.
        missing = [
            (cell, name, seed)
            for cell in self.cells
            for seed in cell.seeds
            for name in self.presets
            if seed not in self.rows[cell][name]
        ]
        try:
            for cell, name, row in self._with_bars(missing, workers):
                self.rows[cell][name][row['seed']] = row
                if self._files:
                    self._files[cell, name].add(row)
        except KeyboardInterrupt:
            done = sum(len(part) for rows in self.rows.values() for part in rows.values())
            total = sum(cell.episodes for cell in self.cells) * len(self.presets)
            hint = ', the same command goes on from here' if self._files else ''
            typer.echo(f'interrupted after {done} of {total} episodes{hint}', err=True)
            raise typer.Exit(130) from None

    def conclude(self, report: dict) -> None:
        """Writes the report if one is wanted, in the place of what was kept for going on."""
        if self._report is None:
            return
        write_json(self._report, report)
        for file in self._files.values():
            file.remove()
        typer.echo(f'report: {self._report}')

    def _with_bars(
        self, jobs: Sequence[tuple[EvaluationSettings, str, int]], workers: int
    ) -> Iterator[tuple[EvaluationSettings, str, dict]]:
        """Yields settings, preset and row of the episodes that are missing."""
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
        )

        from efficientvla_ros.evaluation.workers import run_episodes

        if not jobs:
            return
        columns = (
            TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(),
            TextColumn('success {task.fields[rate]}'), TimeElapsedColumn(),
        )  # fmt: skip
        with Progress(*columns, console=Console(stderr=True)) as bar:
            counts, lines = {}, {}
            for name in self.presets:
                known = [row for rows in self.rows.values() for row in rows[name].values()]
                counts[name] = [sum(row['outcome'] == 'success' for row in known), len(known)]
                lines[name] = bar.add_task(
                    name,
                    total=sum(cell.episodes for cell in self.cells),
                    completed=len(known),
                    rate=_rate(counts[name]),
                )
            for cell, name, row in run_episodes(jobs, workers):
                counts[name][0] += row.success
                counts[name][1] += 1
                bar.update(lines[name], completed=counts[name][1], rate=_rate(counts[name]))
                yield cell, name, row.as_dict()


def _rate(count: list[int]) -> str:
    return f'{count[0]}/{count[1]}'
