"""Success over ROS 2, and whether it is that of the episodes in process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from efficientvla_ros.evaluation.demo_summary import DemoSummary
from efficientvla_ros.evaluation.preset_report import against
from efficientvla_ros.evaluation.preset_tables import table_line
from efficientvla_ros.evaluation.provenance import model_digest, provenance
from efficientvla_ros.evaluation.settings import EvaluationSettings
from efficientvla_ros.evaluation.statistics import wilson_interval
from efficientvla_ros.types import InputError

SCHEMA = 'efficientvla_ros/evaluation_ros/1'

_ONE = 'as loaded'


@dataclass(frozen=True)
class RosCell:
    """One task in one setting over ROS.

    Attributes:
        settings: of its episodes.
        summary: what the run showed.
    """

    settings: EvaluationSettings
    summary: DemoSummary


def build_ros_report(cells: Sequence[RosCell]) -> dict[str, Any]:
    """Returns the report: `cells` by setting, task and preset, `outcomes` and `ticks` by seed."""
    first = cells[0].settings
    found: dict[str, dict[str, Any]] = {}
    for cell in cells:
        by_preset: dict[str, list] = {}
        for row in cell.summary.episodes:
            by_preset.setdefault(row.preset or _ONE, []).append(row)
        found.setdefault(cell.settings.setting, {})[cell.settings.task] = {
            name: _section(rows) for name, rows in by_preset.items()
        }
    return {
        'schema': SCHEMA,
        **provenance(),
        'settings': {
            'model': first.model,
            'seed': first.seed,
            'episodes': first.episodes,
            'camera_size': first.camera_size,
        },
        'model_sha256': model_digest(first.model),
        'latency_ms': {
            f'{cell.settings.setting}/{cell.settings.task}': cell.summary.as_dict()['latency_ms']
            for cell in cells
        },
        'cells': found,
    }


def _section(rows: Sequence) -> dict[str, Any]:
    successes = sum(row.success for row in rows)
    return {
        'episodes': len(rows),
        'successes': successes,
        'success_rate': successes / len(rows),
        'wilson_95': list(wilson_interval(successes, len(rows))),
        'outcomes': [row.outcome for row in rows],
        'ticks': [row.steps for row in rows],
    }


def parity(report: Mapping[str, Any], suite: Mapping[str, Any], preset: str) -> dict[str, Any]:
    """Compares a report with one of episodes in process, seed by seed.

    Args:
        report: of `build_ros_report`.
        suite: of `suite.build_suite_report`.
        preset: of the suite that the nodes ran.

    Returns:
        As `preset_report.against`: `only_here` is over ROS, `only_dense` in process.

    Raises:
        InputError: they have no episode in common.
    """
    offset = report['settings']['seed'] - suite['settings']['seed']
    here, there = [], []
    for setting, tasks in report['cells'].items():
        for task, sections in tasks.items():
            section = sections.get(preset, sections.get(_ONE))
            other = suite['cells'].get(setting, {}).get(task, {}).get(preset)
            if section is None or other is None or offset < 0:
                continue
            pairs = zip(section['outcomes'], other['outcomes'][offset:])
            for one, two in pairs:
                here.append({'outcome': one})
                there.append({'outcome': two})
    if not here:
        raise InputError('the two reports have no episode in common')
    return against(here, there)


def ros_table(report: Mapping[str, Any]) -> str:
    """Returns a Markdown table with a line for each task, setting and preset."""
    lines = ['| setting | task | preset | success | Wilson 95 % |', '|---|---|---|---|---|']
    for setting, tasks in report['cells'].items():
        for task, sections in tasks.items():
            for name, section in sections.items():
                low, high = section['wilson_95']
                cells = (
                    setting,
                    f'`{task}`',
                    name,
                    f'{section["successes"]}/{section["episodes"]}',
                    f'{low:.1%} to {high:.1%}',
                )
                lines.append(table_line(cells))
    return '\n'.join(lines) + '\n'


def parity_line(found: Mapping[str, Any]) -> str:
    """Says in words what `parity` found."""
    low, high = (100.0 * value for value in found['difference_95'])
    return (
        f'over ROS against in process on {found["pairs"]} common episodes: '
        f'{100.0 * found["difference"]:+.1f} points (95 % interval {low:+.1f} to {high:+.1f}), '
        f'only over ROS {found["only_here"]}, only in process {found["only_dense"]}, '
        f'McNemar exact p = {found["p_value"]:.3g}'
    )
