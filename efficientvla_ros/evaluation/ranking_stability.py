"""How far a ranking of layers depends on the frames that it was made from: the bootstrap.

Frames of one episode resemble each other: whole episodes are drawn, with replacement. Drawing
frames would make the ranking look more certain than it is.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from efficientvla_ros.acceleration.layer_pruning import kept_layers

_FEWEST_EPISODES = 8


@dataclass(frozen=True)
class Stability:
    """What the resamples say; intervals hold 95 % of them.

    Attributes:
        unit: what was drawn, episodes or frames (where there are fewer than 8 episodes).
        resamples: number of draws.
        importance: interval of I(l), float64 [layers, 2].
        rank: interval of each layer's place by ascending importance, int [layers, 2]; 1 is the
            least important of all.
        removed: share of the resamples in which each layer is removed, [counts, layers].
        kendall_tau: median, low and high end of Kendall's rank correlation with the ranking from
            all frames, among the layers that may be removed.
    """

    unit: str
    resamples: int
    importance: np.ndarray
    rank: np.ndarray
    removed: np.ndarray
    kendall_tau: tuple[float, float, float]


def ranking_stability(
    sample_importance: np.ndarray,
    episodes: np.ndarray,
    *,
    keep: Sequence[int],
    protected: Collection[int] = (),
    resamples: int = 1000,
    seed: int = 0,
) -> Stability:
    """Resamples the frames behind a ranking.

    Args:
        sample_importance: I(l) of each frame by itself, [frames, layers].
        episodes: episode of each frame, [frames].
        keep: counts of layers for which removals are looked at.
        protected: layers that are never removed.
        resamples: number of draws.
        seed: of the draws.
    """
    layers = sample_importance.shape[1]
    names, group = np.unique(episodes, return_inverse=True)
    by_episode = len(names) >= _FEWEST_EPISODES
    if not by_episode:
        group = np.arange(len(sample_importance))
    sums = np.zeros((group.max() + 1, layers))
    np.add.at(sums, group, sample_importance)
    sizes = np.bincount(group)
    draws = np.random.default_rng(seed).multinomial(
        len(sizes), np.full(len(sizes), 1.0 / len(sizes)), size=resamples
    )
    drawn = (draws @ sums) / (draws @ sizes)[:, None]  # [resamples, layers]
    ranks = drawn.argsort(axis=1).argsort(axis=1) + 1
    kept = [[kept_layers(row, count, protected) for row in drawn] for count in keep]
    free = [index for index in range(layers) if index not in protected]
    return Stability(
        unit='episodes' if by_episode else 'frames',
        resamples=resamples,
        importance=np.quantile(drawn, (0.025, 0.975), axis=0).T,
        rank=np.quantile(ranks, (0.025, 0.975), axis=0, method='nearest').T.astype(int),
        removed=np.array([_removed_share(rows, layers) for rows in kept]),
        kendall_tau=_quantiles(_kendall_tau(sample_importance.mean(0)[free], drawn[:, free])),
    )


def _removed_share(kept: list[tuple[int, ...]], layers: int) -> np.ndarray:
    counts = np.bincount(np.concatenate(kept), minlength=layers)
    return 1.0 - counts / len(kept)


def _kendall_tau(first: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Kendall's tau-a of values [n] with each row of [rows, n]; 1 where n < 2."""
    a, b = np.triu_indices(len(first), 1)
    if not len(a):
        return np.ones(len(others))
    agreement = np.sign(first[a] - first[b]) * np.sign(others[:, a] - others[:, b])
    return agreement.mean(1)


def _quantiles(values: np.ndarray) -> tuple[float, float, float]:
    low, middle, high = np.quantile(values, (0.025, 0.5, 0.975))
    return float(middle), float(low), float(high)
