"""What a long run of the policy node shows: latencies, callbacks, memory, holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

SCHEMA = 'efficientvla_ros/soak/1'

WARM_AFTER_S = 60.0
"""Seconds after which memory and latencies are expected to stay as they are."""

_WINDOWED = {
    'camera_to_start': 'input',
    'camera_to_command': 'latency',
    'inference': 'inference',
}


def summarise_soak(statuses: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Sums up the statuses of a run, one a second.

    Args:
        statuses: fields of PolicyStatus with `stamp` in seconds, in order, from the activation on.

    Returns:
        `duration_s`; `ticks` (finished, failed, late, discarded, `held`), `commands`; for
        `camera_to_start`, `camera_to_command` and `inference` the p50, p95 and p99 in
        milliseconds, each the median over the node's windows after the first minute, and
        `p99_worst` of them; `callbacks_ms` likewise (p95 and the longest); `memory_mb` after the
        first minute and at the end, and its slope in MB/h (least squares); `holds` that began by
        reason, `interventions`.

    Raises:
        ValueError: there are less than two statuses.
    """
    if len(statuses) < 2:
        raise ValueError(f'{len(statuses)} statuses came, expected one a second')
    first, last = statuses[0], statuses[-1]
    times = np.array([status['stamp'] for status in statuses]) - first['stamp']
    # A run that is shorter than the warm-up is looked at in its second half.
    warm_after = WARM_AFTER_S if times[-1] > 2 * WARM_AFTER_S else times[-1] / 2
    warm = [status for status, time in zip(statuses, times) if time >= warm_after]
    return {
        'duration_s': float(times[-1]),
        'ticks': {
            'finished': last['ticks'],
            'failed': last['ticks_failed'],
            'late': last['ticks_late'],
            'held': last['ticks_held'],
            'discarded': last['ticks_discarded'],
        },
        'commands': last['commands_published'],
        'images': last['images_received'],
        **{name: _latency(warm, prefix) for name, prefix in _WINDOWED.items()},
        'callbacks_ms': {
            'p95': _median(warm, 'callback_p95'),
            'longest': 1e3 * max(status['callback_max'] for status in warm),
        },
        'memory_mb': _memory(times, statuses, warm_after),
        'holds': _difference(first, last, 'hold'),
        'interventions': _difference(first, last, 'intervention'),
    }


def _latency(statuses: Sequence[Mapping[str, Any]], prefix: str) -> dict[str, float]:
    found = {p: _median(statuses, f'{prefix}_{p}') for p in ('p50', 'p95', 'p99')}
    found['p99_worst'] = 1e3 * max(status[f'{prefix}_p99'] for status in statuses)
    return found


def _median(statuses: Sequence[Mapping[str, Any]], name: str) -> float:
    return 1e3 * float(np.median([status[name] for status in statuses]))


def _memory(
    times: np.ndarray, statuses: Sequence[Mapping[str, Any]], warm_after: float
) -> dict[str, float]:
    megabytes = np.array([status['memory'] for status in statuses]) * 1e-6
    warm = times >= warm_after
    slope = np.polyfit(times[warm], megabytes[warm], 1)[0] if warm.sum() > 1 else 0.0
    return {
        'warm': float(megabytes[warm][0]),
        'end': float(megabytes[-1]),
        'slope_per_hour': float(3600.0 * slope),
    }


def _difference(first: Mapping[str, Any], last: Mapping[str, Any], kind: str) -> dict[str, int]:
    before = dict(zip(first[f'{kind}_names'], first[f'{kind}_counts']))
    after = dict(zip(last[f'{kind}_names'], last[f'{kind}_counts']))
    found = {name: int(count - before.get(name, 0)) for name, count in after.items()}
    return {name: count for name, count in found.items() if count}


def soak_lines(found: Mapping[str, Any]) -> list[str]:
    """Returns a summary as lines to read."""
    ticks, memory, callbacks = found['ticks'], found['memory_mb'], found['callbacks_ms']
    lines = [
        f'{found["duration_s"]:.0f} s, {ticks["finished"]} inferences, {ticks["late"]} late, '
        f'{ticks["failed"]} failed; {found["commands"]} commands, {found["images"]} images',
    ]
    for name in _WINDOWED:
        part = found[name]
        lines.append(
            f'{name.replace("_", " "):<18} p50 {part["p50"]:7.2f}  p95 {part["p95"]:7.2f}  '
            f'p99 {part["p99"]:7.2f} ms (worst window {part["p99_worst"]:.2f})'
        )
    lines += [
        f'callbacks          p95 {callbacks["p95"]:.2f} ms, longest {callbacks["longest"]:.2f} ms',
        f'memory             {memory["warm"]:.1f} MB after warm-up, {memory["end"]:.1f} MB at the '
        f'end, {memory["slope_per_hour"]:+.1f} MB/h',
        f'holds              {_counts(found["holds"])}',
        f'interventions      {_counts(found["interventions"])}',
    ]
    return lines


def _counts(counts: Mapping[str, int]) -> str:
    return ', '.join(f'{name} {count}' for name, count in counts.items()) or 'none'
