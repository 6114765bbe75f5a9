"""`efficientvla evaluate --ros`: the same episodes over DDS, simulator and policy as nodes."""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

import typer

from efficientvla_ros.cli.evaluate_suite import cells_of
from efficientvla_ros.evaluation.presets import DENSE, parse_presets
from efficientvla_ros.evaluation.settings import EXPERT, EvaluationSettings
from efficientvla_ros.types import InputError

_TAKEN = (
    'task', 'setting', 'episodes', 'seed', 'model', 'camera_size', 'execution', 'execute_steps',
)  # fmt: skip
_START_TIMEOUT = 180.0


def evaluate_ros(
    settings: EvaluationSettings,
    presets: str | None,
    json_file: Path | None,
    compare_with: Path | None,
) -> None:
    """Runs every task in every setting that is meant, in real time, and writes the report.

    Args:
        settings: of every episode; task and setting may be 'all'.
        presets: one name beside dense at most, whose episodes take turns with dense's.
        json_file: report to write.
        compare_with: report of `evaluate --task all --presets`: are the results the same?

    Raises:
        InputError: an option has no meaning over ROS, a preset is unknown, or the other report
            does not fit.
    """
    from efficientvla_ros.evaluation.report import write_json
    from efficientvla_ros.evaluation.ros_report import (
        RosCell,
        build_ros_report,
        parity,
        parity_line,
        ros_table,
    )
    from efficientvla_ros.evaluation.suite import read_suite_report

    _check(settings)
    names = (DENSE,) if presets is None else parse_presets(presets)
    if len(names) > 2:
        raise InputError(f'--ros takes one preset beside dense, not {", ".join(names[1:])}')
    other = None if compare_with is None else read_suite_report(compare_with)
    cells = []
    wanted = cells_of(settings)
    if other is not None:
        _check_has(other, wanted, names, compare_with)
    for cell in wanted:
        typer.echo(f'{cell.setting} {cell.task}', err=True)
        cells.append(RosCell(cell, _run(cell, names)))
    report = build_ros_report(cells)
    typer.echo(ros_table(report))
    if other is not None:
        report['parity'] = {name: parity(report, other, name) for name in names}
        for name, found in report['parity'].items():
            typer.echo(f'{name}, {parity_line(found)}')
    if json_file is not None:
        write_json(json_file, report)
        typer.echo(f'report: {json_file}')


def _check(settings: EvaluationSettings) -> None:
    """Refuses options that the nodes decide by themselves."""
    if settings.model == EXPERT:
        raise InputError('--ros runs the policy node, and the scripted expert is none')
    usual = EvaluationSettings()
    for field in fields(settings):
        if field.name not in _TAKEN and getattr(settings, field.name) != getattr(
            usual, field.name
        ):
            option = field.name.replace('_', '-')
            raise InputError(f'--{option} has no meaning with --ros, where the nodes run')


def _check_has(
    suite: dict, cells: list[EvaluationSettings], names: tuple[str, ...], path: Path
) -> None:
    """Refuses a report that lacks what is to be compared, before anything is run."""
    for cell in cells:
        found = suite['cells'].get(cell.setting, {}).get(cell.task, {})
        missing = [name for name in names if name not in found]
        if missing:
            raise InputError(f'{path}: has no {missing[0]} of {cell.task} in {cell.setting}')


def _run(cell: EvaluationSettings, names: tuple[str, ...]):
    """Runs the episodes of one task in one setting; returns what the run showed."""
    from rich.console import Console

    from efficientvla_ros.cli.demo_options import NOTHING, DemoOptions
    from efficientvla_ros.cli.demo_processes import free_domain
    from efficientvla_ros.cli.demo_run import DemoError, DemoInterruptedError, DemoRun
    from efficientvla_ros.cli.demo_view import PlainView

    with tempfile.TemporaryDirectory() as folder, _signals() as received:
        options = DemoOptions(
            task=cell.task,
            setting=cell.setting,
            episodes=cell.episodes,
            seed=cell.seed,
            model=cell.model,
            execution=cell.execution,
            execute_steps=cell.execute_steps,
            preset=names[0],
            compare=names[1] if len(names) > 1 else NOTHING,
            out=Path(folder),
            domain_id=free_domain(),
            image_side=cell.camera_size,
            min_success=0.0,
            start_timeout=_START_TIMEOUT,
            changes=0,
            show_outcome=0.0,
            video=False,
        )
        run = DemoRun(options, PlainView(Console(stderr=True)), lambda: bool(received))
        try:
            run.execute()
        except DemoInterruptedError:
            raise typer.Exit(128 + received[0]) from None
        except DemoError as error:
            raise InputError(f'{cell.setting} {cell.task}: {error}\n{error.detail}') from error
        finally:
            run.close()
        return run.summary


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Collects SIGINT and SIGTERM, so that a run ends with all of its processes."""
    received: list[int] = []
    numbers = signal.SIGINT, signal.SIGTERM
    before = [signal.signal(number, lambda got, _: received.append(got)) for number in numbers]
    try:
        yield received
    finally:
        for number, handler in zip(numbers, before):
            signal.signal(number, handler)
