"""The results in docs/benchmark.md, written from the committed reports of the tabletop tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from efficientvla_ros.evaluation.report import SCHEMA as EVALUATION
from efficientvla_ros.evaluation.report import read_json
from efficientvla_ros.evaluation.results_page import (
    BASELINES,
    LARGE_SUITES,
    SUITES,
    machine_of,
    suite_reports,
)
from efficientvla_ros.evaluation.ros_report import SCHEMA as OVER_ROS_SCHEMA
from efficientvla_ros.evaluation.ros_report import parity_line, ros_table
from efficientvla_ros.evaluation.suite import read_suite_report, suite_tables
from efficientvla_ros.simulation.variation import SETTINGS

OVER_ROS = 'suite_ros.json'
"""Report of `efficientvla evaluate --task all --ros --compare`."""

EXPERTS = 'expert_{setting}_{task}.json'
"""Reports of `efficientvla evaluate --model expert --task all`."""


def render(folder: Path) -> str:
    """Returns the results as Markdown.

    Args:
        folder: holds the reports.

    Raises:
        InputError: a report cannot be read.
    """
    parts = [_suite(report) for report in suite_reports(folder, (*LARGE_SUITES, *SUITES))]
    if (folder / BASELINES).exists():
        title = 'The other presets, and other ways to choose tokens and channels:'
        parts += [title, _suite(read_suite_report(folder / BASELINES))]
    if (folder / OVER_ROS).exists():
        parts.append(_over_ros(read_json(folder / OVER_ROS, OVER_ROS_SCHEMA, 'a report over ROS')))
    return '\n\n'.join([*parts, _experts(folder)]) + '\n'


def _suite(report: dict[str, Any]) -> str:
    return f'{machine_of(report)}\n\n{suite_tables(report)}'.rstrip()


def _over_ros(report: dict[str, Any]) -> str:
    lines = [
        f'`{name}`, {parity_line(found)}.' for name, found in report.get('parity', {}).items()
    ]
    title = 'The same over DDS, simulator and policy as nodes of their own (`--ros`):'
    return '\n\n'.join((title, *lines, ros_table(report).rstrip()))


def _experts(folder: Path) -> str:
    found = {
        setting: {
            path.stem.removeprefix(f'expert_{setting}_'): read_json(
                path, EVALUATION, 'an evaluation report'
            )['summary']
            for path in sorted(folder.glob(EXPERTS.format(setting=setting, task='*')))
        }
        for setting in SETTINGS
    }
    tasks = sorted({task for summaries in found.values() for task in summaries})
    if not tasks:
        return ''
    lines = [
        'Scripted expert, through the same control path:',
        '',
        '| setting | ' + ' | '.join(f'`{task}`' for task in tasks) + ' |',
        '|---' * (len(tasks) + 1) + '|',
    ]
    for setting, summaries in found.items():
        counts = (summaries.get(task) for task in tasks)
        cells = (f'{one["successes"]}/{one["episodes"]}' if one else '' for one in counts)
        lines.append(f'| {setting} | ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines)
