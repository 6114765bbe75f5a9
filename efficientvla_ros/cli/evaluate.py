"""`efficientvla evaluate`: closed-loop success in process, over many seeds."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from efficientvla_ros.cli.evaluate_suite import ALL
from efficientvla_ros.cli.options import DdimSteps, Device, Guidance
from efficientvla_ros.control.config import EXECUTIONS
from efficientvla_ros.evaluation.settings import EvaluationSettings
from efficientvla_ros.types import InputError

_DEFAULT = EvaluationSettings()


def command(
    task: Annotated[
        str, typer.Option(help='Task of every episode; "all" takes one after the other.')
    ] = _DEFAULT.task,
    setting: Annotated[
        str, typer.Option(help='Look and events: matching, variants, dynamic, or "all".')
    ] = _DEFAULT.setting,
    episodes: Annotated[int, typer.Option(help='Number of episodes.')] = _DEFAULT.episodes,
    seed: Annotated[int, typer.Option(help='Seed of the first episode.')] = _DEFAULT.seed,
    model: Annotated[
        str, typer.Option(help='Embedded model, checkpoint folder, or "expert".')
    ] = _DEFAULT.model,
    device: Device = _DEFAULT.device,
    ddim_steps: DdimSteps = None,
    guidance: Guidance = None,
    execute_steps: Annotated[
        int, typer.Option(help='Control periods (0.2 s) between two plans.')
    ] = _DEFAULT.execute_steps,
    execution: Annotated[
        str, typer.Option(help=f'How plans that overlap are executed: {", ".join(EXECUTIONS)}.')
    ] = _DEFAULT.execution,
    latency: Annotated[
        float, typer.Option(help='From an observation to the arrival of its command, s.')
    ] = _DEFAULT.latency,
    swap_instruction: Annotated[
        bool, typer.Option(help="Ask for a distractor instead of the episode's target.")
    ] = False,
    swap_step: Annotated[
        int, typer.Option(help='Control period from which on the swapped instruction holds.')
    ] = _DEFAULT.swap_step,
    camera_shift_px: Annotated[
        float, typer.Option(help='Turn the camera by so many pixels of a 112-pixel image.')
    ] = _DEFAULT.camera_shift_px,
    camera_size: Annotated[
        int, typer.Option(help='Side of the rendered image, pixels.')
    ] = _DEFAULT.camera_size,
    presets: Annotated[
        str | None,
        typer.Option(
            help='Acceleration presets, separated by commas, on the same seeds; dense is always '
            'among them.'
        ),
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option(help='Calibration profile; the one beside the weights if not given.'),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help='Processes, one CPU thread each.')] = min(
        2, os.cpu_count() or 1
    ),
    ros: Annotated[
        bool,
        typer.Option(
            '--ros',
            help='Over DDS, with simulator and policy as nodes, in real time; --compare takes a '
            'report of --task all --presets.',
        ),
    ] = False,
    json_file: Annotated[
        Path | None, typer.Option('--json', help='Write the report here; resumable.')
    ] = None,
    compare_with: Annotated[
        Path | None, typer.Option('--compare', help='Report to compare with, episode by episode.')
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            help='With --presets: success over speed-up (PNG, SVG), a picture a setting.'
        ),
    ] = None,
    deviation_episodes: Annotated[
        int,
        typer.Option(
            min=0,
            help='With --presets: compare their actions with those of dense on the images of so '
            'many episodes of dense.',
        ),
    ] = 0,
    channel_plot: Annotated[
        Path | None,
        typer.Option(
            help='With --presets: similarity, channel updates, deviation and phases of one '
            'episode (PNG, SVG).'
        ),
    ] = None,
) -> None:
    """Measure closed-loop success in process, over many seeds.

    Control, trajectory semantics and latency are those of the ROS nodes. With --json, an
    interrupted run goes on where it stopped when the same command is given again.
    """
    from efficientvla_ros.evaluation.report import compare, describe, markdown_table, read_report

    if ALL in (task, setting) and not ros:
        _check_all(presets, setting, compare_with, swap_instruction, channel_plot)
    settings = EvaluationSettings(
        task, episodes, seed, model, device, ddim_steps, guidance, execute_steps, latency,
        swap_instruction, swap_step, camera_shift_px, camera_size, profile, execution, setting,
    )  # fmt: skip
    if ros:
        from efficientvla_ros.cli.evaluate_ros import evaluate_ros

        if plot or deviation_episodes or channel_plot:
            raise InputError('--ros goes with neither pictures nor --deviation-episodes')
        evaluate_ros(settings, presets, json_file, compare_with)
        return
    if presets is not None and ALL in (task, setting):
        from efficientvla_ros.cli.evaluate_suite import evaluate_suite

        evaluate_suite(
            settings, presets, workers, json_file, plot, deviation_episodes, compare_with
        )
        return
    if presets is not None:
        if compare_with is not None:
            raise InputError('--compare is for one policy; --presets compares with dense itself')
        from efficientvla_ros.cli.evaluate_presets import evaluate_presets

        evaluate_presets(
            settings, presets, workers, json_file, plot, deviation_episodes, channel_plot
        )
        return
    for option, value in (
        ('--plot', plot),
        ('--deviation-episodes', deviation_episodes),
        ('--channel-plot', channel_plot),
    ):
        if value:
            raise InputError(f'{option} needs --presets')
    if task == ALL:
        _evaluate_all(settings, workers, json_file)
        return
    other = read_report(compare_with) if compare_with is not None else None
    report = _evaluate(settings, workers, json_file)
    typer.echo(markdown_table([report] if other is None else [report, other]))
    if other is not None:
        result = compare(report, other)
        typer.echo(
            f'against {compare_with} ({describe(other["settings"])}) on {result["pairs"]} common '
            f'seeds: only this one {result["first_only"]}, only the other '
            f'{result["second_only"]}, McNemar exact p = {result["p_value"]:.3g}'
        )
    if json_file is not None:
        typer.echo(f'report: {json_file}')


def _check_all(
    presets: str | None,
    setting: str,
    compare_with: Path | None,
    swapped: bool,
    channel_plot: Path | None,
) -> None:
    """Refuses what does not go with all tasks or settings."""
    if swapped or channel_plot is not None:
        raise InputError('"all" goes with neither swapped instructions nor --channel-plot')
    if presets is None and (setting == ALL or compare_with is not None):
        raise InputError('--setting all and --compare with "all" need --presets')


def _evaluate_all(settings: EvaluationSettings, workers: int, json_file: Path | None) -> None:
    """Evaluates every task; each has a report of its own, with the task in the file's name."""
    from dataclasses import replace

    from efficientvla_ros.evaluation.report import markdown_table
    from efficientvla_ros.simulation.tasks import TASKS

    reports = []
    for task in TASKS:
        file = json_file and json_file.with_stem(f'{json_file.stem}_{task}')
        reports.append(_evaluate(replace(settings, task=task), workers, file))
        if file is not None:
            typer.echo(f'report: {file}', err=True)
    typer.echo(markdown_table(reports))
    rates = [report['summary']['success_rate'] for report in reports]
    typer.echo(f'average over {len(rates)} tasks: {sum(rates) / len(rates):.1%}')


def _evaluate(settings: EvaluationSettings, workers: int, json_file: Path | None) -> dict:
    """Runs the episodes that are missing and returns (and writes) the report."""
    from efficientvla_ros.evaluation.progress_file import ProgressFile
    from efficientvla_ros.evaluation.report import build_report, write_json

    progress = None if json_file is None else ProgressFile(json_file, settings)
    known = {} if progress is None else progress.rows
    rows = [known[seed] for seed in settings.seeds if seed in known]
    missing = [seed for seed in settings.seeds if seed not in known]
    try:
        for row in _with_bar(settings, rows, missing, workers):
            rows.append(row)
            if progress is not None:
                progress.add(row)
    except KeyboardInterrupt:
        hint = ', the same command goes on from here' if progress is not None else ''
        typer.echo(
            f'interrupted after {len(rows)} of {settings.episodes} episodes{hint}', err=True
        )
        raise typer.Exit(130) from None
    report = build_report(settings, rows)
    if progress is not None:
        write_json(json_file, report)
        progress.remove()
    return report


def _with_bar(settings: EvaluationSettings, done: list[dict], seeds: list[int], workers: int):
    """Yields the rows of the seeds; a progress bar shows the success so far."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    from efficientvla_ros.evaluation.workers import run_episodes

    successes = sum(row['outcome'] == 'success' for row in done)
    count = len(done)
    columns = (
        TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(),
        TextColumn('success {task.fields[rate]}'), TimeElapsedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True)) as bar:
        rate = f'{successes}/{count}'
        line = bar.add_task(
            f'{settings.model} {settings.task}',
            total=settings.episodes,
            completed=count,
            rate=rate,
        )
        if not seeds:
            return
        jobs = [(settings, None, seed) for seed in seeds]
        for _, _, row in run_episodes(jobs, workers):
            count += 1
            successes += row.success
            bar.update(line, completed=count, rate=f'{successes}/{count}')
            yield row.as_dict()
