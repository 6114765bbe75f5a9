"""The results in README, written from the committed reports so that no number is typed by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from efficientvla_ros.evaluation import results_channels
from efficientvla_ros.evaluation.preset_tables import joint_table, plan_notes
from efficientvla_ros.evaluation.report import describe
from efficientvla_ros.evaluation.results_channels import channels_section
from efficientvla_ros.evaluation.suite import averages_table, read_suite_report, suite_table
from efficientvla_ros.simulation.variation import MATCHING, SETTINGS
from efficientvla_ros.types import InputError

START, END = '<!-- results: start -->', '<!-- results: end -->'
EVALUATIONS = ('pick.json', 'pick_swapped.json', 'pick_camera_2px.json')
BENCHMARK, DEMO, SOAK = 'benchmark_cpu.json', 'demo.json', 'soak.json'
PRESETS, PRESETS_TIME = 'presets.json', 'benchmark_presets_cogact_mini.json'
PRESETS_PICTURE = 'docs/images/presets.png'
SUITES = tuple(f'suite_{setting}.json' for setting in SETTINGS)
"""Reports of `efficientvla evaluate --task all --presets` with `tabletop-small`, one a setting."""

LARGE_SUITES = tuple(f'suite_tabletop_{setting}.json' for setting in SETTINGS)
"""The same with `tabletop`."""

BASELINES = 'suite_baselines.json'
"""The same of the other presets, on fewer seeds of the setting `matching`."""


def render(folder: Path) -> str:
    """Returns the results as Markdown.

    Args:
        folder: holds the reports named in this module.

    Raises:
        InputError: a report is missing or cannot be read.
    """
    evaluations = [_read(folder / name) for name in EVALUATIONS]
    benchmark, demo, soak = (_read(folder / name) for name in (BENCHMARK, DEMO, SOAK))
    parts = [
        'Measured by the commands of this package, where nothing else is said on '
        f'{machine_of(evaluations[0])}; the reports lie in [docs/reports](docs/reports).',
        _suites(folder),
        _closed_loop(evaluations, demo),
        _latency(benchmark),
        _node(soak),
    ]
    if _measured(folder, PRESETS, PRESETS_TIME):
        parts.append(_presets(_read(folder / PRESETS), _read(folder / PRESETS_TIME)))
    if _measured(folder, results_channels.EVALUATION, results_channels.TIME):
        parts.append(
            channels_section(
                _read(folder / results_channels.EVALUATION),
                _read(folder / results_channels.TIME),
            )
        )
    return '\n\n'.join(parts) + '\n'


def draw(folder: Path, root: Path) -> None:
    """Draws the pictures of the results, where their reports exist.

    Args:
        folder: holds the reports named in this module.
        root: of the repository.

    Raises:
        InputError: a report cannot be read.
    """
    from efficientvla_ros.evaluation.preset_plot import plot_presets

    for evaluation, benchmark, picture in (
        (PRESETS, PRESETS_TIME, PRESETS_PICTURE),
        (results_channels.EVALUATION, results_channels.TIME, results_channels.PICTURE),
    ):
        if _measured(folder, evaluation, benchmark):
            reports = _read(folder / evaluation), root / picture, _read(folder / benchmark)
            plot_presets(*reports)


def _measured(folder: Path, *names: str) -> bool:
    return all((folder / name).exists() for name in names)


def insert(page: str, results: str) -> str:
    """Returns a page with its results section replaced.

    Raises:
        InputError: the page has no results section.
    """
    before, start, rest = page.partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        raise InputError(f'the page has no "{START}" ... "{END}" section')
    return f'{before}{START}\n\n{results}\n{END}{after}'


def suite_reports(folder: Path, names: Sequence[str]) -> list[dict[str, Any]]:
    """Reads those of some suites' reports that there are.

    Raises:
        InputError: a report cannot be read.
    """
    return [read_suite_report(folder / name) for name in names if (folder / name).exists()]


def _suites(folder: Path) -> str:
    parts = [
        _averages(reports)
        for names in (LARGE_SUITES, SUITES)
        if (reports := suite_reports(folder, names))
    ]
    if (folder / BASELINES).exists():
        report = read_suite_report(folder / BASELINES)
        parts.append(
            f'Other presets, and other ways to choose tokens and channels, with '
            f'`{report["settings"]["model"]}` in the first setting:\n\n'
            f'{suite_table(report, MATCHING)}'
        )
    return '\n\n'.join(parts)


def _averages(reports: Sequence[dict[str, Any]]) -> str:
    tasks = next(iter(reports[0]['cells'].values()))
    return (
        f'`{reports[0]["settings"]["model"]}` on its {len(tasks)} tasks '
        '([docs/benchmark.md](docs/benchmark.md) has them one by one, with intervals and tests), '
        f'on {machine_of(reports[0])}; the speed-up is that of a plan in the first setting:\n\n'
        f'{averages_table(reports)}'
    )


def _closed_loop(evaluations: list[dict], demo: dict) -> str:
    lines = [
        '| closed loop, unseen seeds | success | Wilson 95 % | wrong object lifted |',
        '|---|---|---|---|',
    ]
    for report in evaluations:
        summary = report['summary']
        lines.append(
            _success_row(
                f'in process: `{report["settings"]["model"]}`, {describe(report["settings"])}',
                summary['successes'], summary['episodes'], summary['wilson_95'],
                summary['wrong_object'],
            )
        )  # fmt: skip
    model, changed = demo['settings']['model'], demo['instruction_changes']['applied']
    for name, part in demo.get('presets', {'': demo}).items():
        rows = [row for row in demo['rows'] if not name or row['preset'] == name]
        about = f'over ROS 2 (`make demo`): `{model}`' + (f', `{name}`' if name else '')
        wrong = sum(row['outcome'] == 'wrong_object' for row in rows)
        count = part['successes'], part['episodes'], part['success_interval_95']
        lines.append(_success_row(about, *count, wrong))
    lines += [
        '',
        f'In {changed} of the episodes over ROS 2 the instruction was changed in mid-run.',
    ]
    return '\n'.join(lines)


def _success_row(
    name: str, successes: int, episodes: int, interval: list[float], wrong: int
) -> str:
    low, high = interval
    return f'| {name} | {successes}/{episodes} | {low:.1%} to {high:.1%} | {wrong} |'


def _latency(benchmark: dict) -> str:
    settings = benchmark['settings']
    threads = settings['threads']
    height, width = settings['image']
    head = (
        f'Latency of one plan (`make bench`, {threads} thread{"s" if threads > 1 else ""}, '
        f'{width}x{height} image), ms:'
    )
    stages = benchmark['latency_s']
    lines = [
        '| | ' + ' | '.join(stages) + ' |',
        '|---' * (len(stages) + 1) + '|',
    ]
    for name in ('p50', 'p95', 'p99'):
        cells = ' | '.join(f'{1e3 * values[name]:.1f}' for values in stages.values())
        lines.append(f'| {name} | {cells} |')
    return head + '\n\n' + '\n'.join(lines)


def _node(soak: dict) -> str:
    settings, camera, ticks = soak['settings'], soak['settings']['camera'], soak['ticks']
    callbacks, memory = soak['callbacks_ms'], soak['memory_mb']
    lines = [
        f'The node for {soak["duration_s"] / 60:.0f} minutes with a mock robot on the same '
        f'machine (`efficientvla soak`): {camera["width"]}x{camera["height"]} '
        f'{camera["encoding"]} at {camera["rate"]:g} Hz, joint states at '
        f'{settings["joint_state_rate"]:g} Hz, '
        f'{ticks["finished"]} inferences of `{settings["model"]}` at '
        f'{ticks["finished"] / soak["duration_s"]:.1f} Hz. Percentiles are the medians over '
        'windows of 256 inferences.',
        '',
        '| | |',
        '|---|---|',
        f'| camera stamp to start of inference, p50 / p95 / p99 '
        f'| {_quantiles(soak["camera_to_start"])} ms |',
        f'| camera stamp to published command, p50 / p95 / p99 '
        f'| {_quantiles(soak["camera_to_command"])} ms |',
        f'| callbacks of the node, p95 / longest '
        f'| {callbacks["p95"]:.2f} / {callbacks["longest"]:.2f} ms |',
        f'| cores of the node, inference included | {soak["cores"]["policy node"]:.2f} |',
        f'| cores that other programs kept busy meanwhile '
        f'| {soak["cores_busy_in_all"] - sum(soak["cores"].values()):.2f} |',
        f'| resident memory after the first minute / at the end '
        f'| {memory["warm"]:.0f} / {memory["end"]:.0f} MB |',
        f'| growth of memory after the first minute | {memory["slope_per_hour"]:+.1f} MB/h |',
        f'| ticks missed because inference was late | {ticks["late"]} |',
        f'| commands sent; plans without one | {soak["commands"]}; {ticks["failed"]} |',
        f'| holds by the watchdog; by the last check of a command | {_holds(soak)} |',
    ]
    return '\n'.join(lines)


def _holds(soak: dict) -> str:
    rejected = soak['holds'].get('command_rejected', 0)
    return f'{sum(soak["holds"].values()) - rejected}; {rejected}'


def _quantiles(part: dict) -> str:
    return ' / '.join(f'{part[name]:.1f}' for name in ('p50', 'p95', 'p99'))


def _presets(evaluation: dict, benchmark: dict) -> str:
    """The table of EfficientVLA's techniques, alone and together."""
    measured, timed = evaluation['settings'], benchmark['settings']
    threads, episodes = timed['threads'], measured['episodes']
    plan = evaluation['presets']['efficientvla']['plan']
    dense = evaluation['presets']['dense']['plan']
    layers = ', '.join(map(str, plan['layers']))
    head = (
        f'EfficientVLA, each technique alone and all together, beside FastV and randomly chosen '
        f"tokens. Time: `{timed['model']}`, a model of CogACT's proportions with random "
        f'weights, {threads} thread{"s" if threads > 1 else ""}, medians of {timed["runs"]} '
        f'plans in ms, all presets in turns in one run. Success: `{measured["model"]}`, '
        f'{describe(measured)}, the same {episodes} unseen seeds in each row; the difference '
        f"with Newcombe's 95 % interval for paired rates. There, `efficientvla` runs "
        f'{plan["layers_run"]} of {dense["layers_run"]} layers ({layers}), '
        f'{plan["visual_tokens"]} of {dense["visual_tokens"]} visual tokens and '
        f'{plan["diffusion_steps"]} of {dense["diffusion_steps"]} full diffusion steps.'
    )
    picture = f'![Success over speed-up of every preset]({PRESETS_PICTURE})'
    notes = [f'* {note}' for note in plan_notes(evaluation)]
    return '\n\n'.join([head, joint_table(evaluation, benchmark), *notes, picture])


def machine_of(report: dict) -> str:
    """Returns what a report was measured on, and when."""
    hardware = report['hardware']
    return (
        f'{hardware["cores"]} cores of {hardware["cpu"]}, {hardware["memory_gb"]:.0f} GB, '
        f'no GPU, {report["created"][:10]}'
    )


def _read(path: Path) -> dict:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f'report {path}: cannot be read ({error})') from error
