"""How far the actions of presets are from dense ones on the same images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from efficientvla_ros.evaluation.channel_log import WHOLE, tick_kind
from efficientvla_ros.evaluation.presets import DENSE, apply_preset
from efficientvla_ros.types import Observation, TickReport

if TYPE_CHECKING:
    from efficientvla_ros.runtime.engine import Engine

GAP_S = 60.0
"""Longest wait for channel updates between two inferences, s."""


def replay(
    engine: Engine, preset: str, observations: Sequence[Observation]
) -> tuple[list[np.ndarray], list[TickReport]]:
    """Plans from the images of an episode one after the other, with a gap after each.

    Returns:
        Actions [horizon, 7] and the report of each tick.

    Raises:
        InputError: the model cannot run by the preset.
    """
    apply_preset(engine, preset)
    engine.reset()
    actions, reports = [], []
    for observation in observations:
        chunk, report = engine.infer(observation)
        engine.settle(GAP_S)
        actions.append(chunk.actions)
        reports.append(report)
    return actions, reports


def replay_presets(
    engine: Engine, presets: Sequence[str], observations: Sequence[Observation]
) -> dict[str, dict[str, Any]]:
    """Compares presets with `dense` on the images of one episode; the sampling noise is the same.

    Returns:
        For each preset but `dense` by tick: `kinds` (`channel_log.tick_kind`), `ratios` (share of
        the channels left out), `deviation`
        (`audit.action_deviation`, by action dimension in its unit) and `relative`
        (`audit.relative_deviation`: the worst dimension's share of its range).

    Raises:
        InputError: the model cannot run by a preset.
    """
    reference, _ = replay(engine, DENSE, observations)
    found = {}
    for name in presets:
        if name == DENSE:
            continue
        actions, reports = replay(engine, name, observations)
        found[name] = {
            'kinds': [tick_kind(report) for report in reports],
            'ratios': [report.channel_ratio for report in reports],
            **deviations(engine, actions, reference),
        }
    return found


def deviations(
    engine: Engine, actions: Sequence[np.ndarray], reference: Sequence[np.ndarray]
) -> dict[str, list]:
    """Returns `deviation` and `relative` of each tick, as `replay_presets`."""
    from efficientvla_ros.runtime.audit import action_deviation, relative_deviation

    each = [action_deviation(*pair) for pair in zip(actions, reference, strict=True)]
    return {
        'deviation': [part.tolist() for part in each],
        'relative': [relative_deviation(part, engine.statistics) for part in each],
    }


def summarise_deviation(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Sums up what `replay_presets` found of one preset in several episodes.

    Returns:
        `episodes`, `ticks`, and of all ticks the mean `deviation` by action dimension, the mean
        `relative` and its 95th percentile `relative_p95`; `sparse_relative` is the mean of the
        ticks that left out channels, of all where no tick of the preset does or chooses any;
        None without such ticks.
    """
    kinds = [kind for part in parts for kind in part['kinds']]
    relative = np.array([value for part in parts for value in part['relative']])
    adapts = any(kind != WHOLE for kind in kinds)
    ratios = np.array([ratio for part in parts for ratio in part['ratios']])
    sparse = relative[ratios > 0.0] if adapts else relative
    return {
        'episodes': len(parts),
        'ticks': len(kinds),
        'deviation': np.mean([d for part in parts for d in part['deviation']], axis=0).tolist(),
        'relative': float(relative.mean()),
        'relative_p95': float(np.quantile(relative, 0.95)),
        'sparse_relative': float(sparse.mean()) if len(sparse) else None,
    }
