"""Presets as Markdown tables: success on the same seeds, latency in one run, and both."""

from __future__ import annotations

from typing import Any

from efficientvla_ros.evaluation.channel_log import MIX, SPARSE, UPDATE
from efficientvla_ros.evaluation.report import describe

_STAGES = ('vision', 'language', 'action_head', 'total')


def preset_table(report: dict[str, Any]) -> str:
    """Returns a Markdown table with one line a preset."""
    lines = [
        f'{report["settings"]["model"]}, {describe(report["settings"])}:',
        '',
        '| preset | layers | tokens | full steps | success | Wilson 95 % | against dense '
        '| McNemar p | plan p50 / p95, ms | speed-up |',
        '|---|---|---|---|---|---|---|---|---|---|',
    ]
    for name, section in report['presets'].items():
        plan, summary = section['plan'], section['summary']
        total = summary['latency_s']['total']
        low, high = summary['wilson_95']
        cells = (
            name,
            plan['layers_run'],
            plan['visual_tokens'],
            plan['diffusion_steps'],
            f'{summary["successes"]}/{summary["episodes"]}',
            f'{low:.1%} to {high:.1%}',
            *_comparison(section),
            f'{_ms(total["p50"])} / {_ms(total["p95"])}',
            speed_up_cell(section),
        )
        lines.append(_line(cells))
    return '\n'.join(lines) + '\n'


def _comparison(section: dict[str, Any]) -> tuple[str, str]:
    """Returns difference with interval, in points of success, and p-value; blank for dense."""
    found = section.get('against_dense')
    if found is None:
        return '', ''
    low, high = (100.0 * value for value in found['difference_95'])
    points = f'{100.0 * found["difference"]:+.1f} ({low:+.1f} to {high:+.1f})'
    return points, f'{found["p_value"]:.2g}'


def latency_table(benchmark: dict[str, Any]) -> str:
    """Returns a Markdown table of medians and speed-ups with one line a preset.

    Args:
        benchmark: report of `efficientvla benchmark --presets`, or what it measured.
    """
    lines = [
        '| preset | layers | tokens | full steps | '
        + ' | '.join(f'{stage} p50' for stage in _STAGES)
        + ' | total p95, ms | speed-up |',
        '|---' * (len(_STAGES) + 6) + '|',
    ]
    for name, section in benchmark['presets'].items():
        plan, latency = section['plan'], section['latency_s']
        cells = (
            name,
            plan['layers_run'],
            plan['visual_tokens'],
            plan['diffusion_steps'],
            *(_ms(latency[stage]['p50']) for stage in _STAGES),
            _ms(latency['total']['p95']),
            speed_up_cell(section),
        )
        lines.append(_line(cells))
    return '\n'.join(lines) + '\n'


def channel_table(report: dict[str, Any]) -> str:
    """Returns a Markdown table of the presets that leave out channels; '' without any.

    Times are medians and 95th percentiles of all ticks as they occur (mix), of those that choose
    channels again (update) and of those that leave some out (sparse). Deviations are percentages
    of the range of the worst action dimension, on the images of dense's episodes.

    Args:
        report: of presets, by `evaluate` or `benchmark`.
    """
    sections = report['presets']
    shown = {name: part for name, part in sections.items() if 'channels' in part}
    if not shown:
        return ''
    lines = [
        '| preset | channels out, mean | update rate | missed | mix p50 / p95 / p99, ms '
        '| speed-up of means | update p50 / p95, ms | sparse p50 / p95 / p99, ms | deviation '
        '| of sparse ticks |',
        '|---' * 10 + '|',
    ]
    for name, section in shown.items():
        channels, deviation = section['channels'], section.get('deviation', {})
        seconds = channels['seconds']
        cells = (
            name,
            f'{channels["mean_ratio"]:.1%}',
            f'{channels["update_rate"]:.1%}',
            channels['missed'],
            _quantiles(seconds.get(MIX), 'p50', 'p95', 'p99'),
            f'{section["mean_speed_up"]:.2f}' if 'mean_speed_up' in section else '',
            _quantiles(seconds.get(UPDATE), 'p50', 'p95'),
            _quantiles(seconds.get(SPARSE), 'p50', 'p95', 'p99'),
            _percent(deviation.get('relative')),
            _percent(deviation.get('sparse_relative')),
        )
        lines.append(_line(cells))
    return '\n'.join(lines) + '\n'


def _quantiles(seconds: dict[str, float] | None, *names: str) -> str:
    return '' if seconds is None else ' / '.join(_ms(seconds[name]) for name in names)


def _percent(share: float | None) -> str:
    return '' if share is None else f'{100.0 * share:.2f} %'


def joint_table(evaluation: dict[str, Any], benchmark: dict[str, Any]) -> str:
    """Returns a Markdown table of the presets that both reports have.

    Args:
        evaluation: report of `efficientvla evaluate --presets`: the success.
        benchmark: report of `efficientvla benchmark --presets`: the time.
    """
    lines = [
        '| preset | vision | language | action head | plan | speed-up | success | Wilson 95 % '
        '| against dense, points | McNemar p |',
        '|---|---|---|---|---|---|---|---|---|---|',
    ]
    for name, section in evaluation['presets'].items():
        if name not in benchmark['presets']:
            continue
        timed, summary = benchmark['presets'][name], section['summary']
        low, high = summary['wilson_95']
        cells = (
            f'`{name}`',
            *(_ms(timed['latency_s'][stage]['p50']) for stage in _STAGES),
            speed_up_cell(timed),
            f'{summary["successes"]}/{summary["episodes"]}',
            f'{low:.1%} to {high:.1%}',
            *_comparison(section),
        )
        lines.append(_line(cells))
    return '\n'.join(lines)


def speed_up_cell(section: dict[str, Any]) -> str:
    """Returns how many times faster than dense a plan is, by medians."""
    return f'{section["speed_up"]["total"]:.2f}' if 'speed_up' in section else '1'


def plan_notes(report: dict[str, Any]) -> list[str]:
    """Returns a line for each technique of a preset that stayed off."""
    return [
        f'{name}: {note}'
        for name, section in report['presets'].items()
        for note in section['plan']['notes']
    ]


def _ms(seconds: float) -> str:
    return f'{1e3 * seconds:.1f}'


def _line(cells: tuple[object, ...]) -> str:
    return '| ' + ' | '.join(str(cell) for cell in cells) + ' |'
