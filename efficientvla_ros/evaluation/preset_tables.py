"""Presets as Markdown tables: success on the same seeds, latency in one run, and both."""

from __future__ import annotations

from typing import Any

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
            *comparison_cells(section),
            f'{milliseconds(total["p50"])} / {milliseconds(total["p95"])}',
            speed_up_cell(section),
        )
        lines.append(table_line(cells))
    return '\n'.join(lines) + '\n'


def comparison_cells(section: dict[str, Any]) -> tuple[str, str]:
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
            *(milliseconds(latency[stage]['p50']) for stage in _STAGES),
            milliseconds(latency['total']['p95']),
            speed_up_cell(section),
        )
        lines.append(table_line(cells))
    return '\n'.join(lines) + '\n'


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
            *(milliseconds(timed['latency_s'][stage]['p50']) for stage in _STAGES),
            speed_up_cell(timed),
            f'{summary["successes"]}/{summary["episodes"]}',
            f'{low:.1%} to {high:.1%}',
            *comparison_cells(section),
        )
        lines.append(table_line(cells))
    return '\n'.join(lines)


def speed_up_cell(section: dict[str, Any]) -> str:
    """Returns how many times faster than dense a plan is (`total_speed_up`)."""
    return f'{total_speed_up(section):.2f}' if 'speed_up' in section else '1'


def total_speed_up(section: dict[str, Any]) -> float:
    """Returns how many times faster than dense a preset is; 1 for dense itself.

    By medians; where ticks leave out channels by means, since the median of some cheap and some
    dear ticks is that of a cheap one.
    """
    if 'speed_up' not in section:
        return 1.0
    return section['mean_speed_up'] if 'channels' in section else section['speed_up']['total']


def plan_notes(report: dict[str, Any]) -> list[str]:
    """Returns a line for each technique that stayed off, and for what changed by itself."""
    return [
        f'{name}: {note}'
        for name, section in report['presets'].items()
        for note in (*section['plan']['notes'], *section.get('channels', {}).get('notes', ()))
    ]


def milliseconds(seconds: float) -> str:
    """Returns a time of a table."""
    return f'{1e3 * seconds:.1f}'


def table_line(cells: tuple[object, ...]) -> str:
    """Returns a line of a Markdown table."""
    return '| ' + ' | '.join(str(cell) for cell in cells) + ' |'
