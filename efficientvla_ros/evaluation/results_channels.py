"""The results of channels that adapt, for README: written from the committed reports."""

from __future__ import annotations

from typing import Any

from efficientvla_ros.evaluation.channel_log import MIX
from efficientvla_ros.evaluation.channel_tables import channel_results_table, slot_table
from efficientvla_ros.evaluation.preset_tables import milliseconds, plan_notes
from efficientvla_ros.evaluation.report import describe

EVALUATION, TIME = 'channels.json', 'benchmark_channels_cogact_mini.json'
PICTURE, EPISODE = 'docs/images/channels.png', 'docs/images/channels_episode.png'

_PERCENTS = 25, 40
_ADAPTIVE, _FIXED = ('ecovla', 'eap_gap'), ('frozen', 'wanda', 'random_channels')


def channels_section(evaluation: dict[str, Any], benchmark: dict[str, Any]) -> str:
    """Returns the section of EcoVLA's presets.

    Args:
        evaluation: report of `efficientvla evaluate --presets`.
        benchmark: report of `efficientvla benchmark --presets`.
    """
    measured, timed = evaluation['settings'], benchmark['settings']
    threads = timed['threads']
    gap = 'a gap after each plan' if timed.get('gap', True) else 'plans back to back'
    head = (
        'EcoVLA: channels that are chosen again while the arm moves, beside a choice frozen at '
        "calibration, Wanda's, a random one, one after every frame, and one whose dense passes "
        'run in the gaps between plans (`eap_gap`). Time: '
        f"`{timed['model']}`, a model of CogACT's proportions with random weights, "
        f'{threads} thread{"s" if threads > 1 else ""}, {timed["runs"]} plans each in turns in '
        f'one run on {timed.get("images", "random")} images, {gap}, ms; the speed-up is of the '
        'means of all plans as they occur, of medians for plans that leave out no channels. '
        f'Success and updates: `{measured["model"]}`, {describe(measured)}, the same '
        f'{measured["episodes"]} unseen seeds in each row. Deviation: of the worst action '
        "dimension, as a share of its actions' range, on the images of dense's episodes."
    )
    parts = [head, channel_results_table(evaluation, benchmark)]
    parts += [
        line
        for percent in _PERCENTS
        for adaptive in _ADAPTIVE
        if (line := _verdict(evaluation, adaptive, percent))
    ]
    parts += [line for percent in _PERCENTS if (line := _visible_cost(benchmark, percent))]
    if 'slots' in benchmark:
        parts.append(slot_table(benchmark['slots']).rstrip())
    parts += [f'* {note}' for note in plan_notes(evaluation)]
    parts.append(f'![Success over speed-up of channel presets]({PICTURE})')
    parts.append(f'![Similarity, updates and deviation in one episode]({EPISODE})')
    return '\n\n'.join(parts)


def _visible_cost(benchmark: dict[str, Any], percent: int) -> str:
    """Compares the slowest ticks with choices in the gaps with those without any choices."""
    ticks = {}
    for name in ('eap_gap', 'frozen'):
        section = benchmark['presets'].get(f'{name}_{percent}', {})
        if 'channels' not in section:
            return ''
        ticks[name] = section['channels']['seconds'][MIX]['p99']
    return (
        f'The visible cost of choosing at {percent} %: p99 of all ticks is '
        f'{milliseconds(ticks["eap_gap"])} ms with choices in the gaps (`eap_gap_{percent}`), '
        f'{milliseconds(ticks["frozen"])} ms without any (`frozen_{percent}`), '
        f'{ticks["eap_gap"] / ticks["frozen"]:.2f} times as much.'
    )


def _verdict(evaluation: dict[str, Any], adaptive: str, percent: int) -> str:
    """Says whether the adaptive choice deviates less than the fixed ones, as it came out."""
    presets = evaluation['presets']
    found = {
        name: presets[f'{name}_{percent}']['deviation']
        for name in (adaptive, *_FIXED)
        if 'deviation' in presets.get(f'{name}_{percent}', {})
    }
    own = found.pop(adaptive, None)
    if own is None or not found:
        return ''
    by_kind = ('relative', 'of all ticks'), ('sparse_relative', 'of sparse ticks alone')
    parts = []
    for key, which in by_kind:
        if own[key] is None:
            continue
        worse = [name for name, other in found.items() if own[key] < other[key]]
        better = [name for name in found if name not in worse]
        words = [
            f'{word} {" and ".join(names)}'
            for word, names in (('smaller than that of', worse), ('not smaller than', better))
            if names
        ]
        parts.append(f'{which} it is {", ".join(words)}')
    return f'At {percent} % the deviation of `{adaptive}_{percent}`: ' + '; '.join(parts) + '.'
