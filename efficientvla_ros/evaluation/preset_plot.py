"""Success over speed-up as a picture: one point a preset."""

from __future__ import annotations

from itertools import cycle
from pathlib import Path
from typing import Any

from efficientvla_ros.evaluation.preset_tables import total_speed_up
from efficientvla_ros.evaluation.presets import DENSE

_MARKERS = 'osD^vP*Xhp'
_COLOURS = {
    'black': DENSE,
    'tab:green': ('efficientvla', 'combined'),
    'tab:purple': ('ecovla', 'eap_gap', 'every_frame'),
    'tab:red': ('fastv', 'random', 'wanda', 'frozen'),
}


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
        fast = total_speed_up(source['presets'][name])
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


def _colour(name: str) -> str:
    for colour, prefixes in _COLOURS.items():
        if name.startswith(prefixes):
            return colour
    return 'tab:blue'
