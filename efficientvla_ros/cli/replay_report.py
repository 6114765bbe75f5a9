"""What `efficientvla replay` found: rows for JSON, sums, and tables for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from efficientvla_ros.cli.replay_run import Tick
from efficientvla_ros.evaluation.statistics import percentiles

if TYPE_CHECKING:
    from efficientvla_ros.models.statistics import ActionStatistics
    from efficientvla_ros.types import ActionChunk, JointCommand

SCHEMA = 'efficientvla_ros/replay/1'
TOTAL = 'total'
AXES = ('x', 'y', 'z', 'roll', 'pitch', 'yaw', 'gripper')


def frame_row(tick: Tick) -> dict[str, Any]:
    """Returns what became of a frame, ready for JSON; lengths in m, angles in rad, times in ns."""
    report = tick.report
    return {
        'stamp_ns': tick.stamp_ns,
        'time_ns': tick.time_ns,
        'instruction': tick.instruction,
        'hold_reason': tick.reason.value,
        'detail': tick.detail,
        'chunk': None if tick.chunk is None else _chunk(tick.chunk),
        'command': None if tick.command is None else _command(tick.command),
        'stage_seconds': {} if report is None else dict(report.stage_seconds),
        'visual_tokens': None if report is None else report.visual_tokens,
        'layers_run': None if report is None else report.layers_run,
        'diffusion_steps': None if report is None else report.diffusion_steps,
        'channel_ratio': None if report is None else report.channel_ratio,
    }


def _chunk(chunk: ActionChunk) -> dict[str, Any]:
    finite = np.isfinite(chunk.actions)
    return {
        # JSON has no NaN.
        'actions': np.where(finite, chunk.actions, None).tolist(),
        'step_duration': chunk.step_duration,
        'anchor': None if chunk.anchor is None else chunk.anchor.tolist(),
    }


def _command(command: JointCommand) -> dict[str, Any]:
    return {
        'joints': list(command.names),
        'stamp_ns': command.stamp_ns,
        'times': command.times.tolist(),
        'positions': command.positions.tolist(),
        'velocities': command.velocities.tolist(),
    }


def run_summary(ticks: Sequence[Tick], counters: dict[str, int]) -> dict[str, Any]:
    """Returns the sums of a run; latency in s by stage."""
    stages: dict[str, list[float]] = {}
    for tick in ticks:
        if tick.report is None:
            continue
        for name, seconds in tick.report.stage_seconds.items():
            stages.setdefault(name, []).append(seconds)
        stages.setdefault(TOTAL, []).append(tick.report.total_seconds)
    holds = Counter(tick.reason.value for tick in ticks if tick.reason.value)
    return {
        'frames': len(ticks),
        'plans': sum(tick.chunk is not None for tick in ticks),
        'commands': sum(tick.command is not None for tick in ticks),
        'holds': dict(holds.most_common()),
        'control': dict(sorted(counters.items())),
        'latency_s': {name: percentiles(values) for name, values in stages.items()},
    }


def compare(
    reference: Sequence[Tick], other: Sequence[Tick], statistics: ActionStatistics
) -> dict[str, Any]:
    """Compares the plans that two runs made from the same frames.

    Returns:
        `frames` compared; mean `deviation` by action dimension in its unit, as
        `audit.action_deviation`; mean `relative` and its 95th percentile `relative_p95`
        (`audit.relative_deviation`: share of the range of the worst dimension); `holds_differ`:
        frames where the arm is held in one run only.
    """
    from efficientvla_ros.runtime.audit import action_deviation, relative_deviation

    one, two = (
        {(tick.stamp_ns, tick.instruction): tick for tick in ticks} for ticks in (reference, other)
    )
    both = [(one[key], two[key]) for key in one if key in two]
    planned = [(a.chunk, b.chunk) for a, b in both if a.chunk is not None and b.chunk is not None]
    each = [action_deviation(b.actions, a.actions) for a, b in planned]
    relative = [relative_deviation(part, statistics) for part in each]
    return {
        'frames': len(planned),
        'deviation': np.mean(each, axis=0).tolist() if each else None,
        'relative': float(np.mean(relative)) if each else None,
        'relative_p95': float(np.quantile(relative, 0.95)) if each else None,
        'holds_differ': sum((a.command is None) != (b.command is None) for a, b in both),
    }


def compare_recorded(
    ticks: Sequence[Tick], recorded: dict[tuple[int, str], np.ndarray]
) -> dict[str, Any]:
    """Compares plans with those that a node published while the recording was made.

    Args:
        ticks: of the replay.
        recorded: (stamp in ns, instruction) -> actions [horizon, 7].
    """
    pairs = [
        (tick.chunk.actions, recorded[key])
        for tick in ticks
        if tick.chunk is not None and (key := (tick.stamp_ns, tick.instruction)) in recorded
    ]
    same_shape = [(a, b) for a, b in pairs if a.shape == b.shape]
    differences = [float(np.abs(a - b).max()) for a, b in same_shape]
    return {
        'recorded': len(recorded),
        'compared': len(pairs),
        'equal': sum(bool(np.array_equal(a, b)) for a, b in same_shape),
        'largest_difference': max(differences, default=0.0),
    }


def summary_text(report: dict[str, Any]) -> str:
    """Returns the report of all runs as text."""
    lines = []
    for run in report['runs']:
        found = run['summary']
        lines.append(
            f'{run["preset"]}: {found["frames"]} frames, {found["plans"]} plans, '
            f'{found["commands"]} commands'
        )
        lines += [f'  held {count}x {reason}' for reason, count in found['holds'].items()]
        control = {k: v for k, v in found['control'].items() if k not in found['holds']}
        control.pop('commands', None)
        if control:
            shown = ', '.join(f'{name} {count}' for name, count in control.items())
            lines.append(f'  interventions in steps: {shown}')
    lines += ['', _latency_table(report['runs'])]
    if len(report['runs']) > 1:
        lines += ['', _deviation_table(report['runs'])]
    recorded = report['recorded_chunks']
    if recorded is not None:
        lines.append(
            f'\nplans that were recorded: {recorded["recorded"]}, compared '
            f'{recorded["compared"]}, equal to the last bit {recorded["equal"]}, largest '
            f'difference {recorded["largest_difference"]:.3g}'
        )
    return '\n'.join(lines)


def _latency_table(runs: Sequence[dict]) -> str:
    width = max(len('preset'), *(len(run['preset']) for run in runs))
    rows = [f'{"preset":<{width}}  {"plan p50":>9} {"p95":>9} {"p99":>9}  ms']
    for run in runs:
        values = run['summary']['latency_s'].get(TOTAL)
        if values is not None:
            cells = ' '.join(f'{1e3 * values[key]:9.2f}' for key in ('p50', 'p95', 'p99'))
            rows.append(f'{run["preset"]:<{width}}  {cells}')
    return '\n'.join(rows)


def _deviation_table(runs: Sequence[dict]) -> str:
    first, *others = runs
    width = max(len('preset'), *(len(run['preset']) for run in runs))
    axes = ' '.join(f'{name:>8}' for name in AXES)
    rows = [
        f'mean difference of the actions to those of {first["preset"]} (m, rad); share of the '
        'range, worst dimension',
        f'{"preset":<{width}} {"frames":>7} {axes} {"share":>8} {"p95":>8} {"holds":>6}',
    ]
    for run in others:
        found = run['comparison']
        if not found['frames']:
            rows.append(f'{run["preset"]:<{width}} {0:>7}')
            continue
        cells = ' '.join(f'{value:8.5f}' for value in found['deviation'])
        rows.append(
            f'{run["preset"]:<{width}} {found["frames"]:>7} {cells} {found["relative"]:8.2%} '
            f'{found["relative_p95"]:8.2%} {found["holds_differ"]:>6}'
        )
    return '\n'.join(rows)
