"""What a calibration profile says, for machines and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from efficientvla_ros.acceleration.layer_pruning import (
    PruningError,
    check_keep,
    kept_after,
    kept_layers,
    protected_layers,
    removal_order,
)
from efficientvla_ros.evaluation.ranking_stability import ranking_stability
from efficientvla_ros.types import InputError

if TYPE_CHECKING:
    from efficientvla_ros.acceleration.profile import CalibrationProfile

SCHEMA = 'efficientvla_ros/calibration_report/1'
_MLP_RATIO = 0.25


def calibration_report(
    profile: CalibrationProfile,
    *,
    scoring_layer: int,
    keep: Sequence[int],
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Describes a profile.

    Args:
        profile: what was measured.
        scoring_layer: the layer that scores tokens; it and those before it are protected, and
            so is the last layer.
        keep: counts of layers to look at.
        resamples: draws of the bootstrap.
        seed: of the draws.

    Returns:
        A JSON-ready dictionary.

    Raises:
        InputError: a count or the scoring layer does not fit the model.
    """
    try:
        protected = protected_layers(profile.layers, scoring_layer)
        for count in keep:
            check_keep(profile.layers, count, protected)
    except PruningError as error:
        raise InputError(str(error)) from error
    importance = profile.importance.tolist()
    order = removal_order(importance, protected)
    stability = ranking_stability(
        profile.sample_importance.numpy(),
        profile.episodes.numpy(),
        keep=keep,
        protected=protected,
        resamples=resamples,
        seed=seed,
    )
    return {
        'schema': SCHEMA,
        'model': profile.model,
        'fingerprint': profile.fingerprint.short,
        'source': profile.source,
        'frames': profile.frames,
        'episodes': len(profile.episodes.unique()),
        'protected': sorted(protected),
        'importance': importance,
        'importance_95': stability.importance.tolist(),
        'rank_95': stability.rank.tolist(),
        'removal_order': list(order),
        'greedy_order': profile.greedy_order.tolist(),
        'bootstrap': {
            'unit': stability.unit,
            'resamples': stability.resamples,
            'kendall_tau': dict(zip(('median', 'low', 'high'), stability.kendall_tau)),
        },
        'selections': [
            _selection(profile, importance, count, protected, removed.tolist())
            for count, removed in zip(keep, stability.removed)
        ],
        'mlp': {'ratio': _MLP_RATIO, 'score_removed': _score_removed(profile)},
    }


def _selection(
    profile: CalibrationProfile,
    importance: list[float],
    count: int,
    protected: frozenset[int],
    removed_share: list[float],
) -> dict[str, Any]:
    kept = kept_layers(importance, count, protected)
    selection = {
        'keep': count,
        'kept': list(kept),
        'removed': [index for index in range(profile.layers) if index not in kept],
        'removed_share': removed_share,
    }
    if len(profile.greedy_order) and set(profile.greedy_protected.tolist()) == protected:
        greedy = kept_after(profile.greedy_order.tolist(), profile.layers, count)
        selection['greedy_kept'] = list(greedy)
    return selection


def _score_removed(profile: CalibrationProfile) -> list[float]:
    """Share of each layer's summed channel score that goes with a quarter of its channels."""
    from efficientvla_ros.acceleration.width_pruning import kept_channel_count, kept_channels

    shares = []
    for scores in profile.mlp_scores:
        kept = kept_channels(scores, kept_channel_count(len(scores), _MLP_RATIO))
        total = scores.sum().item()
        shares.append(1.0 - scores[kept].sum().item() / total if total > 0.0 else 0.0)
    return shares


def plot_report(report: dict[str, Any], picture: Path) -> None:
    """Draws the importance of the layers with its interval, and how surely each is removed."""
    import matplotlib

    matplotlib.use('Agg')
    import matplotlib.pyplot as plt
    import numpy as np

    importance = np.array(report['importance'])
    layers = np.arange(len(importance))
    low, high = np.array(report['importance_95']).T
    errors = np.maximum(0.0, [importance - low, high - importance])
    figure, (top, bottom) = plt.subplots(
        2, 1, figsize=(7.0, 5.2), sharex=True, height_ratios=(3, 2)
    )
    colours = ['0.7' if index in report['protected'] else 'tab:blue' for index in layers]
    top.bar(layers, importance, color=colours, yerr=errors, capsize=2, ecolor='0.3')
    top.set(yscale='log', ylabel='importance I(l)')
    top.set_title(
        f'{report["model"]}: {report["frames"]} frames of {report["episodes"]} episodes, '
        '95 % of resamples; grey: protected',
        fontsize=9,
    )
    selections = report['selections']
    width = 0.8 / max(1, len(selections))
    for place, selection in enumerate(selections):
        offset = (place - (len(selections) - 1) / 2) * width
        share = 100.0 * np.array(selection['removed_share'])
        label = f'{selection["keep"]} of {len(layers)} kept'
        bottom.bar(layers + offset, share, width, label=label)
    bottom.set(xlabel='decoder layer', ylabel='removed in % of resamples', ylim=(0, 105))
    bottom.xaxis.get_major_locator().set_params(integer=True)
    if selections:
        bottom.legend(fontsize=8)
    for axis in (top, bottom):
        axis.grid(alpha=0.3, axis='y')
    figure.tight_layout()
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, dpi=110)
    plt.close(figure)
