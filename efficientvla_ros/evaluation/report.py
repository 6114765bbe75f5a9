"""Reports of closed-loop evaluations: JSON for machines, a Markdown table for people."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from efficientvla_ros.evaluation.provenance import model_digest, provenance
from efficientvla_ros.evaluation.settings import EvaluationSettings
from efficientvla_ros.evaluation.statistics import mcnemar_exact, percentiles, wilson_interval
from efficientvla_ros.types import InputError

SCHEMA = 'efficientvla_ros/evaluation/1'

NOT_BY_EPISODE = ('stage_seconds', 'plan', 'channels')
"""Fields of an episode's row that a report holds in sum only."""


def summarise(rows: Sequence[dict]) -> dict:
    """Returns the summary of episode rows (`EpisodeRow.as_dict`).

    Rates are in 0..1, latencies in seconds; 'total' is the sum of an inference's stages.
    """
    outcomes = Counter(row['outcome'] for row in rows)
    successes = outcomes['success']
    low, high = wilson_interval(successes, len(rows))
    return {
        'episodes': len(rows),
        'successes': successes,
        'success_rate': successes / len(rows) if rows else None,
        'wilson_95': [low, high],
        'wrong_object': outcomes['wrong_object'],
        'outcomes': dict(sorted(outcomes.items())),
        'ticks': percentiles([row['ticks'] for row in rows]),
        'inferences': sum(row['inferences'] for row in rows),
        'rejected_commands': sum(row['rejected_commands'] for row in rows),
        'holds': _added(row['holds'] for row in rows),
        'interventions': _added(row['interventions'] for row in rows),
        'latency_s': _latency(rows),
    }


def _added(counts) -> dict[str, int]:
    total: Counter[str] = Counter()
    for count in counts:
        total.update(count)
    return dict(sorted(total.items()))


def _latency(rows: Sequence[dict]) -> dict[str, dict[str, float]]:
    stages: dict[str, list[float]] = {}
    for row in rows:
        for stage, seconds in row['stage_seconds'].items():
            stages.setdefault(stage, []).extend(seconds)
    return {stage: percentiles(seconds) for stage, seconds in stages.items()}


def build_report(settings: EvaluationSettings, rows: Sequence[dict]) -> dict:
    """Returns the whole report: where it was measured, settings, summary, episodes by seed."""
    rows = sorted(rows, key=lambda row: row['seed'])
    return {
        'schema': SCHEMA,
        **provenance(),
        'settings': {**settings.episode_key(), 'seed': settings.seed,
                     'episodes': settings.episodes},
        'model_sha256': model_digest(settings.model),
        'summary': summarise(rows),
        'episodes': [
            {key: value for key, value in row.items() if key not in NOT_BY_EPISODE}
            for row in rows
        ],
    }  # fmt: skip


def write_json(path: Path, report: dict) -> None:
    """Writes a report so that a reader sees the old file or the whole new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + '.tmp')
    partial.write_text(json.dumps(report, indent=1, allow_nan=False) + '\n')
    os.replace(partial, path)


def read_report(path: Path) -> dict:
    """Reads a report.

    Raises:
        InputError: there is no such file, or it is not an evaluation report.
    """
    return read_json(path, SCHEMA, 'an evaluation report')


def read_json(path: Path, schema: str, kind: str) -> dict:
    """Reads a report of one kind.

    Raises:
        InputError: there is no such file, or its schema is another one.
    """
    try:
        report = json.loads(path.read_text())
    except OSError as error:
        raise InputError(f'{path}: cannot be read ({error.strerror})') from error
    except ValueError as error:
        raise InputError(f'{path}: not a JSON file ({error})') from error
    if not isinstance(report, dict) or report.get('schema') != schema:
        raise InputError(f'{path}: not {kind}, expected schema "{schema}"')
    return report


def compare(first: dict, second: dict) -> dict:
    """Compares two reports on the seeds that both have, with McNemar's exact test.

    Raises:
        InputError: they have no seed in common.
    """
    outcome = [{row['seed']: row['outcome'] == 'success' for row in report['episodes']}
               for report in (first, second)]  # fmt: skip
    seeds = sorted(outcome[0].keys() & outcome[1].keys())
    if not seeds:
        raise InputError('the two reports have no seed in common')
    first_only = sum(outcome[0][seed] and not outcome[1][seed] for seed in seeds)
    second_only = sum(outcome[1][seed] and not outcome[0][seed] for seed in seeds)
    return {
        'pairs': len(seeds),
        'first_only': first_only,
        'second_only': second_only,
        'p_value': mcnemar_exact(first_only, second_only),
    }


def markdown_table(reports: Sequence[dict]) -> str:
    """Returns one line a report: setting, success with its interval, wrong objects, latency."""
    lines = [
        '| model | setting | success | Wilson 95 % | wrong object | ticks p50 | plan p50 / p95 |',
        '|---|---|---|---|---|---|---|',
    ]
    for report in reports:
        summary = report['summary']
        low, high = summary['wilson_95']
        total = summary['latency_s'].get('total')
        latency = f'{1e3 * total["p50"]:.1f} / {1e3 * total["p95"]:.1f} ms' if total else ''
        lines.append(
            f'| {report["settings"]["model"]} | {describe(report["settings"])} '
            f'| {summary["successes"]}/{summary["episodes"]} | {low:.1%} to {high:.1%} '
            f'| {summary["wrong_object"]} | {summary["ticks"]["p50"]:g} | {latency} |'
        )
    return '\n'.join(lines) + '\n'


def describe(settings: dict) -> str:
    """Returns in a few words what is special about the settings of a report."""
    words = [settings['task']]
    if settings.get('setting', 'matching') != 'matching':
        words.append(settings['setting'])
    if settings['swap_instruction']:
        after = settings['swap_step']
        words.append('instruction swapped' + (f' after {after} periods' if after else ''))
    if settings['camera_shift_px']:
        words.append(f'camera moved by {settings["camera_shift_px"]:g} px')
    words.append(f'execute {settings["execute_steps"]}')
    if settings.get('execution', 'replan') != 'replan':
        words.append(settings['execution'])
    words.append(f'latency {1e3 * settings["latency"]:g} ms')
    return ', '.join(words)
