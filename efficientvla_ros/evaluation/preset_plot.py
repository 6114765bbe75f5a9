"""Success over speed-up as a picture: one point a preset."""

from __future__ import annotations

from itertools import cycle
from pathlib import Path
from typing import Any

from efficientvla_ros.evaluation.presets import DENSE

_MARKERS = 'osD^vP*Xhp'
_WHOLE = ('efficientvla', 'efficientvla_light')


def plot_presets(
    report: dict[str, Any], picture: Path, benchmark: dict[str, Any] | None = None
) -> None:
    """Draws success with its Wilson interval over the speed-up against dense.

    Args:
        report: of `efficientvla evaluate --presets`.
        picture: file to write (PNG, SVG).
        benchmark: report of `efficientvla benchmark --presets` that the speed-up is taken from;
            None takes that of the evaluation itself.
    """
    import matplotlib

    matplotlib.use('Agg')
    import matplotlib.pyplot as plt

    source = report if benchmark is None else benchmark
    names = [name for name in report['presets'] if name in source['presets']]
    figure, axis = plt.subplots(figsize=(8.4, 4.2))
    for name, marker in zip(names, cycle(_MARKERS)):
        summary = report['presets'][name]['summary']
        rate = summary['success_rate']
        low, high = summary['wilson_95']
        fast = _speed_up(source, name)
        axis.errorbar(
            [fast], [100 * rate], yerr=[[100 * (rate - low)], [100 * (high - rate)]],
            fmt=marker, capsize=3, color=_colour(name), alpha=0.9,
            label=f'{name}: {summary["successes"]}/{summary["episodes"]}, {fast:.2f}x',
        )  # fmt: skip
    dense = report['presets'][DENSE]['summary']['success_rate']
    axis.axhline(100 * dense, color='0.7', linewidth=0.8, zorder=0)
    axis.legend(fontsize=8, loc='center left', bbox_to_anchor=(1.01, 0.5))
    axis.set_ylim(top=102)
    episodes = report['presets'][DENSE]['summary']['episodes']
    axis.set(
        xlabel=f'speed-up of a plan against dense ({source["settings"]["model"]})',
        ylabel=f'success of {report["settings"]["model"]}, % of {episodes} episodes',
    )
    axis.grid(alpha=0.3)
    figure.tight_layout()
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, dpi=110)
    plt.close(figure)


def _speed_up(source: dict[str, Any], name: str) -> float:
    return 1.0 if name == DENSE else source['presets'][name]['speed_up']['total']


def _colour(name: str) -> str:
    if name == DENSE:
        return 'black'
    if name in _WHOLE:
        return 'tab:green'
    return 'tab:red' if name in ('fastv', 'random') else 'tab:blue'
