"""Presets of one policy on all tasks of several settings: the benchmark's report and table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from efficientvla_ros.evaluation.deviation import summarise_deviation
from efficientvla_ros.evaluation.preset_report import preset_sections
from efficientvla_ros.evaluation.preset_tables import (
    comparison_cells,
    milliseconds,
    speed_up_cell,
    table_line,
)
from efficientvla_ros.evaluation.presets import DENSE
from efficientvla_ros.evaluation.provenance import model_digest, provenance
from efficientvla_ros.evaluation.report import describe, read_json
from efficientvla_ros.evaluation.settings import EvaluationSettings
from efficientvla_ros.types import InputError

SCHEMA = 'efficientvla_ros/evaluation_suite/1'

CellRows = Mapping[EvaluationSettings, Mapping[str, Sequence[dict]]]
"""Settings of a cell -> preset -> rows of its episodes (`EpisodeRow.as_dict`), any order."""


def build_suite_report(
    rows: CellRows, deviations: Mapping[EvaluationSettings, Sequence[dict]] | None = None
) -> dict[str, Any]:
    """Returns the whole report.

    Args:
        rows: `dense` and other presets on the same seeds; the cells differ in task and setting.
        deviations: of the presets in some cells (`deviation.replay_presets`).

    Returns:
        `cells`: by setting and task what `preset_report.preset_sections` finds for each preset,
        with the `outcomes` and `ticks` of the episodes by seed in the place of `episodes`;
        `overall`: by setting the same of all tasks together, with `success_average`, the mean of
        the tasks' success rates.

    Raises:
        InputError: as `preset_sections`.
    """
    deviations = deviations or {}
    cells: dict[str, dict[str, Any]] = {}
    for cell, part in rows.items():
        sections = preset_sections(part, deviations.get(cell, ()))
        cells.setdefault(cell.setting, {})[cell.task] = _by_columns(sections)
    first = next(iter(rows))
    shared = {k: v for k, v in first.episode_key().items() if k not in ('task', 'setting')}
    return {
        'schema': SCHEMA,
        **provenance(first.device),
        'settings': {**shared, 'seed': first.seed, 'episodes': first.episodes},
        'model_sha256': model_digest(first.model),
        'overall': {
            setting: _overall(
                [part for cell, part in rows.items() if cell.setting == setting],
                [found for cell, found in deviations.items() if cell.setting == setting],
                tasks,
            )
            for setting, tasks in cells.items()
        },
        'cells': cells,
    }


def _by_columns(sections: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    for section in sections.values():
        episodes = section.pop('episodes')
        section['outcomes'] = [row['outcome'] for row in episodes]
        section['ticks'] = [row['ticks'] for row in episodes]
    return sections


def _overall(
    parts: Sequence[Mapping[str, Sequence[dict]]],
    deviations: Sequence[Sequence[dict]],
    tasks: Mapping[str, Any],
) -> dict[str, dict[str, Any]]:
    # The tasks of a preset one after the other, each by seed: episode i is the same for all.
    joined = {
        name: [
            {**row, 'seed': (number, row['seed'])}
            for number, part in enumerate(parts)
            for row in part[name]
        ]
        for name in parts[0]
    }
    sections = preset_sections(joined)
    found = [each for part in deviations for each in part]
    for name, section in sections.items():
        del section['episodes']
        rates = [task[name]['summary']['success_rate'] for task in tasks.values()]
        section['success_average'] = sum(rates) / len(rates)
        if found and name != DENSE:
            section['deviation'] = summarise_deviation([each[name] for each in found])
    return sections


def read_suite_report(path: Path) -> dict[str, Any]:
    """Reads a report.

    Raises:
        InputError: there is no such file, or it is not a report on a suite.
    """
    return read_json(path, SCHEMA, 'a report on tasks and presets')


def suite_table(report: dict[str, Any], setting: str) -> str:
    """Returns a Markdown table of one setting: a line a preset, a column a task."""
    overall, tasks = report['overall'][setting], report['cells'][setting]
    lines = [
        '| preset | '
        + ' | '.join(f'`{task}`' for task in tasks)
        + ' | average | Wilson 95 %, all | against dense, points | McNemar p '
        '| plan p50 / p95, ms | speed-up |',
        '|---' * (len(tasks) + 7) + '|',
    ]
    for name, section in overall.items():
        counts = (task[name]['summary'] for task in tasks.values())
        low, high = section['summary']['wilson_95']
        total = section['summary']['latency_s']['total']
        cells = (
            f'`{name}`',
            *(f'{count["successes"]}/{count["episodes"]}' for count in counts),
            f'{section["success_average"]:.1%}',
            f'{low:.1%} to {high:.1%}',
            *comparison_cells(section),
            f'{milliseconds(total["p50"])} / {milliseconds(total["p95"])}',
            speed_up_cell(section),
        )
        lines.append(table_line(cells))
    return '\n'.join(lines)


def suite_tables(report: dict[str, Any]) -> str:
    """Returns the tables of all settings, each under a line that says what it is of."""
    settings = report['settings']
    parts = []
    for setting in report['cells']:
        about = describe({**settings, 'task': 'all tasks', 'setting': setting})
        parts.append(
            f'{settings["model"]}, {about}, {settings["episodes"]} seeds a task:\n\n'
            f'{suite_table(report, setting)}'
        )
    return '\n\n'.join(parts) + '\n'


def averages_table(reports: Sequence[Mapping[str, Any]]) -> str:
    """Returns a Markdown table of several reports: a line a preset, a column a setting."""
    overall = {name: part for report in reports for name, part in report['overall'].items()}
    names = list(dict.fromkeys(name for part in overall.values() for name in part))
    lines = [
        '| preset | ' + ' | '.join(f'{setting}, average' for setting in overall) + ' | speed-up |',
        '|---' * (len(overall) + 2) + '|',
    ]
    for name in names:
        found = [part.get(name) for part in overall.values()]
        cells = (_average_cell(section) if section else '' for section in found)
        speed = next(speed_up_cell(section) for section in found if section)
        lines.append(table_line((f'`{name}`', *cells, speed)))
    return '\n'.join(lines)


def _average_cell(section: Mapping[str, Any]) -> str:
    return f'{section["success_average"]:.1%} of {section["summary"]["episodes"]}'


def compare_suites(report: dict[str, Any], other: dict[str, Any]) -> tuple[int, int]:
    """Counts the episodes that two reports have in common, and those that ended likewise.

    Raises:
        InputError: they have none in common.
    """
    common = alike = 0
    start = report['settings']['seed'] - other['settings']['seed']
    for setting, tasks in report['cells'].items():
        for task, presets in tasks.items():
            for name, section in presets.items():
                there = other['cells'].get(setting, {}).get(task, {}).get(name)
                if there is None or start < 0:
                    continue
                pairs = list(zip(section['outcomes'], there['outcomes'][start:]))
                common += len(pairs)
                alike += sum(one == two for one, two in pairs)
    if common == 0:
        raise InputError('the two reports have no episode in common')
    return common, alike
