"""What ticks did with the decoder's channels, tick by tick and in sum."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from efficientvla_ros.evaluation.statistics import percentiles
from efficientvla_ros.types import TickReport

UPDATE, SPARSE, WHOLE = 'update', 'sparse', 'whole'
"""Kinds of ticks: channels are chosen again from it; it leaves some out; neither."""

MIX = 'mix'
"""All ticks, as they occur."""


def tick_kind(report: TickReport) -> str:
    """Returns one of `UPDATE`, `SPARSE` and `WHOLE`.

    An update runs dense but where every frame updates.
    """
    if report.updated:
        return UPDATE
    return SPARSE if report.channel_ratio > 0.0 else WHOLE


class ChannelLog:
    """Collects the reports of successive ticks."""

    def __init__(self) -> None:
        """Starts without any."""
        self._kinds: list[str] = []
        self._ratios: list[float] = []
        self._similarities: list[float | None] = []
        self._reasons: list[str] = []
        self._audits: list[list[float]] = []
        self._missed: list[int] = []
        self._notes: list[str] = []
        self._newest: np.ndarray | None = None
        self._changed: list[float] = []

    def add(self, report: TickReport) -> None:
        """Takes the report of a tick."""
        found = report.audit_deviation
        # An audit shows at the tick after the one whose frame it looked at.
        if found is not None and self._kinds and found is not self._newest:
            self._audits.append([float(value) for value in found])
        self._newest = found
        # So does what the choice exchanged.
        if self._kinds and self._kinds[-1] == UPDATE and report.channels_changed is not None:
            self._changed.append(report.channels_changed)
        self._kinds.append(tick_kind(report))
        self._ratios.append(float(report.channel_ratio))
        self._similarities.append(report.similarity)
        if report.updated:
            self._reasons.append(report.update_reason)
        self._missed.append(report.updates_missed)
        self._notes += report.notes

    def as_dict(self) -> dict[str, Any]:
        """Returns all of it, ready for JSON; empty where ticks did and said nothing of channels.

        `kinds`, `ratios` and `similarities` by tick, `reasons` by update, `audits` (deviation
        by action dimension), `changed` (share exchanged, by choice), the number of updates
        `missed` since the first tick, and `notes` of what changed by itself.
        """
        if all(kind == WHOLE for kind in self._kinds) and not self._notes:
            return {}
        return {
            'kinds': self._kinds,
            'ratios': self._ratios,
            'similarities': self._similarities,
            'reasons': self._reasons,
            'audits': self._audits,
            'changed': self._changed,
            'missed': self._missed[-1] - self._missed[0],
            'notes': self._notes,
        }


def summarise_channels(
    parts: Iterable[tuple[dict[str, Any], Sequence[float]]],
) -> dict[str, Any] | None:
    """Sums up logs of ticks and what these took.

    Args:
        parts: `ChannelLog.as_dict` and the seconds of each of its ticks.

    Returns:
        `ticks` by kind; `update_rate`; `mean_ratio` of all ticks; `reasons` of updates;
        updates `missed`; `seconds` (percentiles) of each kind and of the mix; `audits`, and their
        mean `audit_deviation` by action dimension (None without any); `mean_changed`, the share
        of what is kept that a choice exchanges (likewise); different `notes`. None where ticks
        did and said nothing of channels.
    """
    logs = [(log, seconds) for log, seconds in parts if log]
    if not logs:
        return None
    kinds = [kind for log, _ in logs for kind in log['kinds']]
    seconds = [value for _, part in logs for value in part]
    by_kind: dict[str, list[float]] = {}
    for kind, value in zip(kinds, seconds, strict=True):
        by_kind.setdefault(kind, []).append(value)
    counts = Counter(kinds)
    audits = [audit for log, _ in logs for audit in log['audits']]
    changed = [share for log, _ in logs for share in log['changed']]
    return {
        'ticks': dict(counts),
        'update_rate': counts[UPDATE] / len(kinds),
        'mean_ratio': float(np.mean([ratio for log, _ in logs for ratio in log['ratios']])),
        'reasons': dict(Counter(reason for log, _ in logs for reason in log['reasons'])),
        'missed': sum(log['missed'] for log, _ in logs),
        'seconds': {kind: percentiles(values) for kind, values in by_kind.items()}
        | {MIX: percentiles(seconds)},
        'audits': len(audits),
        'audit_deviation': np.mean(audits, axis=0).tolist() if audits else None,
        'mean_changed': float(np.mean(changed)) if changed else None,
        'notes': list(dict.fromkeys(note for log, _ in logs for note in log['notes'])),
    }
