"""Loss curves of a training run as a picture."""

from __future__ import annotations

import json
import math
from pathlib import Path


def plot_curves(metrics: Path, picture: Path) -> None:
    """Draws every value of a `metrics.jsonl` over the steps, one panel a stage."""
    import matplotlib

    matplotlib.use('Agg')
    import matplotlib.pyplot as plt

    rows = [json.loads(line) for line in metrics.read_text().splitlines()]
    stages = list(dict.fromkeys(row['stage'] for row in rows))
    figure, axes = plt.subplots(1, len(stages), figsize=(5 * len(stages), 3.6), squeeze=False)
    for axis, stage in zip(axes[0], stages):
        part = [row for row in rows if row['stage'] == stage]
        for name in part[-1]:
            if name not in ('stage', 'step', 'time'):
                axis.plot(
                    [row['step'] for row in part],
                    [row.get(name, math.nan) for row in part],
                    label=name,
                    marker='.',
                )
        axis.set(title=stage, xlabel='step', yscale='log')
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(picture, dpi=110)
    plt.close(figure)
