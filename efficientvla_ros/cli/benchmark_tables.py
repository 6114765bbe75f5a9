"""What `efficientvla benchmark` shows."""

from __future__ import annotations

from efficientvla_ros.evaluation.channel_tables import channel_table, slot_table
from efficientvla_ros.evaluation.preset_tables import latency_table, plan_notes


def benchmark_summary(measured: dict, load_seconds: float) -> str:
    """Shows what `evaluation.benchmark.run_benchmark` found."""
    lines = [_first_line(measured, load_seconds), _table(measured['latency_s'])]
    if 'baseline' in measured:
        baseline = measured['baseline']
        lines += [_baseline_line(baseline), _table(baseline['latency_s'], baseline['speed_up'])]
    return '\n'.join(lines + _slots(measured))


def preset_summary(measured: dict, load_seconds: float) -> str:
    """Shows what `evaluation.preset_benchmark.benchmark_presets` found, as a Markdown table."""
    lines = [_first_line(measured, load_seconds), '', latency_table(measured)]
    channels = channel_table(measured)
    if channels:
        lines.append(channels)
    if 'baseline' in measured:
        lines += [_baseline_line(measured['baseline']), _table(measured['baseline']['latency_s'])]
    return '\n'.join(lines + _slots(measured) + plan_notes(measured))


def _slots(measured: dict) -> list[str]:
    return [slot_table(measured['slots'])] if 'slots' in measured else []


def _first_line(measured: dict, load_seconds: float) -> str:
    memory = measured['memory']
    peak = memory.get('peak_device_bytes', memory['peak_rss_bytes'])
    return (
        f'loaded in {load_seconds:.1f} s; weights {memory["weights_bytes"] / 1e9:.2f} GB, '
        f'peak memory {peak / 1e9:.2f} GB; other processes kept '
        f'{measured["cores_busy_elsewhere"]:.1f} cores busy'
    )


def _baseline_line(baseline: dict) -> str:
    return (
        f'baseline {baseline["name"]}; largest relative difference of the plans: '
        f'{baseline["relative_difference"]:.1e}'
    )


def _table(latency: dict[str, dict[str, float]], speed_up: dict[str, float] | None = None) -> str:
    rows = [f'{"stage":<12} {"p50":>9} {"p95":>9} {"p99":>9}  ms']
    for stage, values in latency.items():
        cells = ' '.join(f'{1e3 * values[key]:9.2f}' for key in ('p50', 'p95', 'p99'))
        factor = f'  engine {speed_up[stage]:.2f}x as fast' if speed_up else ''
        rows.append(f'{stage:<12} {cells}{factor}')
    return '\n'.join(rows)
