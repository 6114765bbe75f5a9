"""Presets that leave out channels, as Markdown tables: ticks of each kind, deviation, success."""

from __future__ import annotations

from typing import Any

from efficientvla_ros.evaluation.channel_log import MIX, SPARSE, UPDATE
from efficientvla_ros.evaluation.preset_tables import (
    comparison_cells,
    milliseconds,
    speed_up_cell,
    table_line,
)


def channel_table(report: dict[str, Any]) -> str:
    """Returns a Markdown table of the presets that leave out channels; '' without any.

    Times are medians and 95th percentiles of all ticks as they occur (mix), of those that choose
    channels again (update) and of those that leave some out (sparse). Deviations are percentages
    of the range of the worst action dimension, on the images of dense's episodes. Exchanged is
    the share of what is kept, by bytes, that a choice changes on average.

    Args:
        report: of presets, by `evaluate` or `benchmark`.
    """
    sections = report['presets']
    shown = {name: part for name, part in sections.items() if 'channels' in part}
    if not shown:
        return ''
    lines = [
        '| preset | channels out, mean | update rate | exchanged | missed '
        '| mix p50 / p95 / p99, ms | speed-up of means | update p50 / p95, ms '
        '| sparse p50 / p95 / p99, ms | deviation '
        '| of sparse ticks |',
        '|---' * 11 + '|',
    ]
    for name, section in shown.items():
        channels, deviation = section['channels'], section.get('deviation', {})
        seconds = channels['seconds']
        cells = (
            name,
            f'{channels["mean_ratio"]:.1%}',
            f'{channels["update_rate"]:.1%}',
            _share(channels.get('mean_changed')),
            channels['missed'],
            _quantiles(seconds.get(MIX), 'p50', 'p95', 'p99'),
            f'{section["mean_speed_up"]:.2f}' if 'mean_speed_up' in section else '',
            _quantiles(seconds.get(UPDATE), 'p50', 'p95'),
            _quantiles(seconds.get(SPARSE), 'p50', 'p95', 'p99'),
            _percent(deviation.get('relative')),
            _percent(deviation.get('sparse_relative')),
        )
        lines.append(table_line(cells))
    return '\n'.join(lines) + '\n'


def slot_table(found: dict[str, Any]) -> str:
    """Returns a Markdown table of what `slot_benchmark.measure_slots` found."""
    whole, megabytes = found['repack_s'], found['slots_bytes'] / 1e6
    lines = [
        f'Changing channels held in slots ({found["ratio"]:.0%} left out, {megabytes:.1f} MB); '
        f'filling all anew takes {milliseconds(whole["p50"])} ms (p95 '
        f'{milliseconds(whole["p95"])}).',
        '',
        '| MLP channels that change | heads, each layer | written, MB | comparing p50, ms '
        '| writing p50 / p95, ms | writing / filling anew | with comparing |',
        '|---' * 7 + '|',
    ]
    for row in found['changes']:
        part = row['part_of_repack']
        cells = (
            f'{row["share"]:.0%}',
            row['heads'],
            f'{row["bytes"] / 1e6:.2f}',
            _quantiles(row['compare_s'], 'p50'),
            _quantiles(row['write_s'], 'p50', 'p95'),
            f'{part["write"]:.2f}',
            f'{part["update"]:.2f}',
        )
        lines.append(table_line(cells))
    return '\n'.join(lines) + '\n'


def _quantiles(seconds: dict[str, float] | None, *names: str) -> str:
    return '' if seconds is None else ' / '.join(milliseconds(seconds[name]) for name in names)


def _share(value: float | None) -> str:
    return '' if value is None else f'{value:.1%}'


def _percent(share: float | None) -> str:
    return '' if share is None else f'{100.0 * share:.2f} %'


def channel_results_table(evaluation: dict[str, Any], benchmark: dict[str, Any]) -> str:
    """Returns a Markdown table of the presets that both reports have.

    Args:
        evaluation: report of `efficientvla evaluate --presets`: success, update rate, deviation.
        benchmark: report of `efficientvla benchmark --presets`: the time.
    """
    lines = [
        '| preset | plan, mean | speed-up | update tick | sparse tick p50 / p99 | updates '
        '| exchanged '
        '| deviation | of sparse ticks | success | Wilson 95 % | against dense, points '
        '| McNemar p |',
        '|---' * 13 + '|',
    ]
    for name, section in evaluation['presets'].items():
        timed = benchmark['presets'].get(name)
        if timed is None:
            continue
        seconds = timed.get('channels', {}).get('seconds', {})
        deviation, summary = section.get('deviation', {}), section['summary']
        low, high = summary['wilson_95']
        channels = section.get('channels', {})
        cells = (
            f'`{name}`',
            milliseconds(timed['mean_s']),
            speed_up_cell(timed),
            _quantiles(seconds.get(UPDATE), 'p50'),
            _quantiles(seconds.get(SPARSE), 'p50', 'p99'),
            _share(channels.get('update_rate')),
            _share(channels.get('mean_changed')),
            _percent(deviation.get('relative')),
            _percent(deviation.get('sparse_relative')),
            f'{summary["successes"]}/{summary["episodes"]}',
            f'{low:.1%} to {high:.1%}',
            *comparison_cells(section),
        )
        lines.append(table_line(cells))
    return '\n'.join(lines)
