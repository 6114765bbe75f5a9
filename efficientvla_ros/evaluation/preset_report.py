"""Success and time of several presets on the same seeds, as a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from efficientvla_ros.evaluation.channel_log import summarise_channels
from efficientvla_ros.evaluation.deviation import summarise_deviation
from efficientvla_ros.evaluation.latency import speed_up
from efficientvla_ros.evaluation.presets import DENSE
from efficientvla_ros.evaluation.provenance import model_digest, provenance
from efficientvla_ros.evaluation.report import NOT_BY_EPISODE, read_json, summarise
from efficientvla_ros.evaluation.settings import EvaluationSettings
from efficientvla_ros.evaluation.statistics import mcnemar_exact, paired_difference
from efficientvla_ros.types import InputError

SCHEMA = 'efficientvla_ros/evaluation_presets/1'

Rows = Mapping[str, Sequence[dict]]
"""Preset -> rows of its episodes (`EpisodeRow.as_dict`), any order."""


def build_preset_report(
    settings: EvaluationSettings, rows: Rows, deviations: Sequence[dict] = ()
) -> dict[str, Any]:
    """Returns the whole report.

    Args:
        settings: of every episode.
        rows: `dense` and others, on the same seeds.
        deviations: of the same presets on some of these seeds (`deviation.replay_presets`).

    Returns:
        `presets`: for each one its `plan`, `summary` (see `report.summarise`), mean seconds by
        stage (`stage_mean_s`), `episodes` by seed, `channels` (see `summarise_channels`) where
        some are left out, and for all but `dense` the comparison `against_dense` (see
        `against`), `speed_up` by stage, of medians, `mean_speed_up` of the means of all
        ticks, and `deviation` where it was measured.

    Raises:
        InputError: `dense` is missing, the seeds differ, or the episodes of a preset ran by
            more than one plan.
    """
    return {
        'schema': SCHEMA,
        **provenance(settings.device),
        'settings': {**settings.episode_key(), 'seed': settings.seed,
                     'episodes': settings.episodes},
        'model_sha256': model_digest(settings.model),
        'presets': preset_sections(rows, deviations),
    }  # fmt: skip


def preset_sections(rows: Rows, deviations: Sequence[dict] = ()) -> dict[str, dict[str, Any]]:
    """Returns `presets` of a report (see `build_preset_report`); raises likewise."""
    if DENSE not in rows:
        raise InputError(f'there are no episodes of preset {DENSE!r} to compare with')
    ordered = {name: sorted(part, key=lambda row: row['seed']) for name, part in rows.items()}
    seeds = [row['seed'] for row in ordered[DENSE]]
    for name, part in ordered.items():
        if [row['seed'] for row in part] != seeds:
            raise InputError(f'preset {name!r} ran other seeds than {DENSE!r}')
    presets = {name: _section(name, part) for name, part in ordered.items()}
    dense = presets[DENSE]
    for name, section in presets.items():
        if name == DENSE:
            continue
        section['against_dense'] = against(section['episodes'], dense['episodes'])
        section['speed_up'] = speed_up(
            section['summary']['latency_s'], dense['summary']['latency_s']
        )
        section['mean_speed_up'] = (
            dense['stage_mean_s']['total'] / section['stage_mean_s']['total']
        )
        if deviations:
            section['deviation'] = summarise_deviation([found[name] for found in deviations])
    return presets


def against(episodes: Sequence[dict], dense: Sequence[dict]) -> dict[str, Any]:
    """Compares the outcomes of two presets on the same seeds, in the same order.

    Returns:
        `pairs`, `only_here` and `only_dense` (seeds where just one of them succeeded),
        `difference` of the success rates (negative: worse than dense) with its interval
        `difference_95`, and McNemar's exact `p_value`.
    """
    outcomes = [
        (row['outcome'] == 'success', other['outcome'] == 'success')
        for row, other in zip(episodes, dense, strict=True)
    ]
    here = outcomes.count((True, False))
    there = outcomes.count((False, True))
    difference, low, high = paired_difference(
        outcomes.count((True, True)), here, there, outcomes.count((False, False))
    )
    return {
        'pairs': len(outcomes),
        'only_here': here,
        'only_dense': there,
        'difference': difference,
        'difference_95': [low, high],
        'p_value': mcnemar_exact(here, there),
    }


def read_preset_report(path: Path) -> dict[str, Any]:
    """Reads a report.

    Raises:
        InputError: there is no such file, or it is not a report on presets.
    """
    return read_json(path, SCHEMA, 'a report on presets')


def _section(name: str, rows: Sequence[dict]) -> dict[str, Any]:
    plans = [row['plan'] for row in rows]
    if any(plan != plans[0] for plan in plans):
        raise InputError(f'the episodes of preset {name!r} ran by different plans')
    section = {
        'plan': plans[0],
        'summary': summarise(rows),
        'stage_mean_s': _stage_means(rows),
        'episodes': [
            {key: value for key, value in row.items() if key not in NOT_BY_EPISODE} for row in rows
        ],
    }
    channels = summarise_channels(
        (row.get('channels', {}), row['stage_seconds']['total']) for row in rows
    )
    return section if channels is None else {**section, 'channels': channels}


def _stage_means(rows: Sequence[dict]) -> dict[str, float]:
    stages: dict[str, list[float]] = {}
    for row in rows:
        for stage, seconds in row['stage_seconds'].items():
            stages.setdefault(stage, []).extend(seconds)
    return {stage: float(np.mean(seconds)) for stage, seconds in stages.items()}
