"""`efficientvla demo`: the whole system on one machine, with a video and a report at the end."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from efficientvla_ros.cli.demo_options import (
    DEFAULT_COMPARE,
    DEFAULT_EXECUTE_STEPS,
    DEFAULT_EXECUTION,
    DEFAULT_MODEL,
    DEFAULT_TASK,
    DemoOptions,
)
from efficientvla_ros.types import InputError

EXIT_FAILED = 1
_DEFAULT_SEED = 2_000_000  # far from the seeds that the embedded model was trained on


def command(
    task: Annotated[
        str, typer.Option(help='Task to run, or all: one after the other.')
    ] = DEFAULT_TASK,
    episodes: Annotated[
        int,
        typer.Option(min=1, max=10_000, help='Number of episodes; with --compare, twice as many.'),
    ] = 12,
    seed: Annotated[
        int, typer.Option(min=0, help='Seed of the first episode; further ones add 1.')
    ] = _DEFAULT_SEED,
    model: Annotated[
        str, typer.Option(help='Embedded model by name, or a checkpoint folder or file.')
    ] = DEFAULT_MODEL,
    preset: Annotated[
        str, typer.Option(help='Acceleration of the policy, such as efficientvla.')
    ] = 'dense',
    compare: Annotated[
        str,
        typer.Option(help='Another preset, under which every scene is run again; or none.'),
    ] = DEFAULT_COMPARE,
    execution: Annotated[
        str, typer.Option(help='How plans that overlap are executed: control.execution.')
    ] = DEFAULT_EXECUTION,
    execute_steps: Annotated[
        int, typer.Option(min=1, max=64, help='Control periods (0.2 s) between two plans.')
    ] = DEFAULT_EXECUTE_STEPS,
    out: Annotated[
        Path, typer.Option(help='Folder for demo.mp4, report.png, summary.json and logs.')
    ] = Path('demo_output'),
    headless: Annotated[
        bool, typer.Option('--headless', help='Plain lines instead of the live view.')
    ] = False,
    min_success: Annotated[
        float, typer.Option(min=0.0, max=1.0, help='Share of successes that counts as working.')
    ] = 0.7,
    domain_id: Annotated[
        int,
        typer.Option(
            min=-1, max=232, help='ROS domain; -1: ROS_DOMAIN_ID where set, else an unused one.'
        ),
    ] = -1,
    image_side: Annotated[
        int, typer.Option(min=112, max=1024, help='Side of the camera image in pixels.')
    ] = 448,
    start_timeout: Annotated[
        float, typer.Option(min=1.0, help='Longest wait for the model, in seconds.')
    ] = 180.0,
) -> None:
    """Start simulator and policy as ROS nodes, run episodes, write a video and a report.

    In three of the episodes the instruction is changed to another object in mid-run. The exit
    code is 0 only if all episodes ran and enough of them succeeded.
    """
    from efficientvla_ros.cli.demo_processes import free_domain

    if domain_id < 0:
        domain_id = _domain_from_environment()
    options = DemoOptions(
        task=task,
        episodes=episodes,
        seed=seed,
        model=_absolute(model),
        preset=preset,
        compare=compare,
        execution=execution,
        execute_steps=execute_steps,
        out=out,
        domain_id=free_domain() if domain_id < 0 else domain_id,
        image_side=image_side,
        min_success=min_success,
        start_timeout=start_timeout,
    )
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name in ('report.png', 'summary.json'):
            (out / name).unlink(missing_ok=True)  # of an earlier run
    except OSError as error:
        raise InputError(f'--out {out}: cannot be used ({error.strerror})') from error
    sys.exit(_run(options, headless))


def _domain_from_environment() -> int:
    text = os.environ.get('ROS_DOMAIN_ID', '')
    if not text:
        return -1
    if not text.isdecimal() or int(text) > 232:
        raise InputError(f'ROS_DOMAIN_ID is {text!r}, expected 0 to 232')
    return int(text)


def _absolute(model: str) -> str:
    """A folder or file as an absolute path, a name as it is."""
    path = Path(model).expanduser()
    return str(path.resolve()) if path.exists() else model


def _run(options, headless: bool) -> int:
    from rich.console import Console

    from efficientvla_ros.cli.demo_run import DemoError, DemoInterruptedError, DemoRun
    from efficientvla_ros.cli.demo_view import make_view

    received: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda got, _: received.append(got))
    console = Console(highlight=False)
    detail = ''
    with contextlib.ExitStack() as cleanup:
        view = make_view(console, headless)
        cleanup.callback(view.close)
        run = DemoRun(options, view, lambda: bool(received))
        cleanup.callback(run.close)
        try:
            run.execute()
        except DemoInterruptedError:
            run.summary.failure = 'interrupted'
        except DemoError as error:
            run.summary.failure, detail = str(error), error.detail
    if received:
        console.print(f'interrupted after {len(run.summary.episodes)} episodes', markup=False)
        return 128 + received[0]
    if not run.summary.failure:
        run.summary.failure = _shortfall(run.summary, options)
    _report(run, options, console)
    if detail:
        console.print(f'\nlast lines of the log:\n{detail}', markup=False, soft_wrap=True)
    if run.summary.failure:
        print(f'error: {run.summary.failure}', file=sys.stderr)
        return EXIT_FAILED
    return 0


def _shortfall(summary, options) -> str:
    """Why a run that came to its end did not work, '' when it did."""
    if summary.success_rate < options.min_success:
        return (
            f'{100 * summary.success_rate:.0f} % of the episodes succeeded, expected at least '
            f'{100 * options.min_success:.0f} %'
        )
    missed = [r.episode + 1 for r in summary.episodes if r.change_planned != r.instruction_changed]
    if missed:
        return f'the instruction was not changed as planned in episode {missed[0]}'
    return ''


def _report(run, options, console) -> None:
    from efficientvla_ros.cli.demo_view import presets_line, success_line, tasks_line
    from efficientvla_ros.evaluation.demo_report import write_report
    from efficientvla_ros.evaluation.demo_summary import memory_trend

    summary = run.summary
    summary.write_json(options.out / 'summary.json')
    write_report(options.out / 'report.png', summary, run.recorder.strips())

    def line(text: str) -> None:
        console.print(text, markup=False, soft_wrap=True)

    line(f'success: {success_line(summary)}')
    if tasks := tasks_line(summary):
        line(f'success by task: {tasks}')
    if summary.compared:
        line(f'presets: {presets_line(summary)}')
    if summary.changed:
        line(f'instruction changed: {summary.changed_successes} of {summary.changed} succeeded')
    latest = summary.latest
    under = f' ({summary.measured})' if summary.measured else ''
    if latest is not None:
        stages = ', '.join(
            f'{stage.name.replace("_", " ")} {stage.p50 * 1e3:.0f}/{stage.p95 * 1e3:.0f}'
            for stage in summary.stages
        )
        line(
            f'camera to command: p50 {latest.latency_p50 * 1e3:.0f} ms, '
            f'p95 {latest.latency_p95 * 1e3:.0f} ms{under}; '
            f'{latest.rate:.1f} inferences per second'
        )
        line(f'stages p50/p95 in ms{under}: {stages}')
        memory = memory_trend(summary.samples)
        if memory['end_mb'] is not None:
            slope = memory['slope_mb_per_hour']
            growth = '' if slope is None else f', growing by {slope:.1f} MB per hour'
            line(f'memory of the policy node: {memory["end_mb"]:.0f} MB{growth}')
    names = ['report.png', 'summary.json', 'logs/']
    if run.recorder.frames:
        names.insert(0, 'demo.mp4')
    line('written: ' + ', '.join(str(options.out / name) for name in names))
