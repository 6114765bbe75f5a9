"""What a demo run showed: one row per episode, latencies and rate, as plain data and JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from efficientvla_ros.evaluation.demo_presets import PlanTimes, PresetFigures
from efficientvla_ros.evaluation.provenance import provenance
from efficientvla_ros.evaluation.statistics import wilson_interval
from efficientvla_ros.types import InputError

WARM_AFTER = 60.0
"""Seconds after which memory is expected to stay as it is."""


@dataclass(frozen=True)
class EpisodeRow:
    """How one episode ended.

    Attributes:
        episode: running number, from 0.
        seed: seed of the scene.
        instruction: the last valid instruction; success is judged by it.
        instruction_changed: the instruction named another goal in mid-run.
        change_planned: the demo meant to change the instruction in this episode.
        success: what `instruction` asks for was done.
        outcome: 'success', 'aborted' or what went wrong, see `simulation.success`.
        lifted_object: name of the lifted object, '' when none was.
        steps: control periods that passed.
        duration: simulated seconds.
        first_instruction: what was asked for at the start.
        task: the task of the scene.
        preset: acceleration of the policy, '' where there is only one in the run.
    """

    episode: int
    seed: int
    instruction: str
    instruction_changed: bool
    change_planned: bool
    success: bool
    outcome: str
    lifted_object: str
    steps: int
    duration: float
    first_instruction: str = ''
    task: str = ''
    preset: str = ''

    @property
    def asked(self) -> str:
        """The instruction in words, e.g. 'pick orange -> pick red can' where it changed."""
        if self.instruction_changed:
            return f'{self.first_instruction} -> {self.instruction}'
        return self.instruction

    @property
    def title(self) -> str:
        """The instruction in words, and the preset where there are several."""
        return f'{self.asked} [{self.preset}]' if self.preset else self.asked


@dataclass(frozen=True)
class StageLatency:
    """Duration of one stage of an inference, seconds."""

    name: str
    p50: float
    p95: float


@dataclass(frozen=True)
class StatusSample:
    """The policy's own figures at one moment.

    Attributes:
        time: seconds since the first episode began.
        latency_p50: median of camera stamp to published command, seconds.
        latency_p95: its 95th percentile, seconds.
        rate: inferences per second.
        memory: resident memory of the policy node, bytes.
    """

    time: float
    latency_p50: float
    latency_p95: float
    rate: float
    memory: int = 0


@dataclass
class DemoSummary:
    """Everything that the demo reports.

    Attributes:
        settings: what was asked for (task, model, episodes, seed, ...).
        episodes: finished episodes in order.
        stages: stages of one inference in the order in which they ran, as last reported.
        samples: the policy's figures over time.
        failure: why the run as a whole did not work, '' when it did.
        callback_p95: 95th percentile of the duration of the policy node's callbacks, seconds.
        callback_max: the longest of them, seconds.
        children: name of a started process -> its measured figures.
        compared: presets that are compared, () where there is only one.
        plan_times: what a plan took under each of them.
        measured: the one that `stages` and the newest of `samples` are of, '' for the only one.
    """

    settings: Mapping[str, object]
    episodes: list[EpisodeRow] = field(default_factory=list)
    stages: Sequence[StageLatency] = ()
    samples: list[StatusSample] = field(default_factory=list)
    failure: str = ''
    callback_p95: float = 0.0
    callback_max: float = 0.0
    children: dict[str, dict[str, float]] = field(default_factory=dict)
    compared: tuple[str, ...] = ()
    plan_times: PlanTimes = field(default_factory=PlanTimes)
    measured: str = ''

    @property
    def successes(self) -> int:
        """Episodes in which what the last valid instruction asks for was done."""
        return sum(row.success for row in self.episodes)

    @property
    def changed(self) -> int:
        """Episodes whose instruction was changed in mid-run."""
        return sum(row.instruction_changed for row in self.episodes)

    @property
    def changed_successes(self) -> int:
        """Successes among the episodes whose instruction was changed."""
        return sum(row.success and row.instruction_changed for row in self.episodes)

    @property
    def success_rate(self) -> float:
        """Share of finished episodes that succeeded; 0 while there is none."""
        return self.successes / len(self.episodes) if self.episodes else 0.0

    @property
    def latest(self) -> StatusSample | None:
        """The newest figures of the policy, or None."""
        return self.samples[-1] if self.samples else None

    @property
    def by_task(self) -> dict[str, tuple[int, int]]:
        """Task -> successes and finished episodes, in the order in which the tasks came."""
        counts: dict[str, tuple[int, int]] = {}
        for row in self.episodes:
            successes, episodes = counts.get(row.task, (0, 0))
            counts[row.task] = successes + row.success, episodes + 1
        return counts

    @property
    def presets(self) -> tuple[PresetFigures, ...]:
        """What each compared preset has shown so far, () where there is only one."""
        figures = []
        for name in self.compared:
            won = [row.success for row in self.episodes if row.preset == name]
            median = self.plan_times.median(name)
            figures.append(PresetFigures(name, len(won), sum(won), median))
        return tuple(figures)

    def _sections(self) -> dict:
        """What only a run with several tasks or presets has."""
        sections = {}
        if len(self.by_task) > 1:
            sections['tasks'] = {
                task: {
                    'episodes': episodes,
                    'successes': successes,
                    'success_interval_95': list(wilson_interval(successes, episodes)),
                }
                for task, (successes, episodes) in self.by_task.items()
            }
        if self.compared:
            sections['presets'] = {preset.name: preset.as_dict() for preset in self.presets}
        return sections

    def as_dict(self) -> dict:
        """The summary as JSON-ready data; latencies in milliseconds."""
        low, high = wilson_interval(self.successes, len(self.episodes))
        latest = self.latest
        return {
            **provenance(),
            'settings': dict(self.settings),
            'worked': not self.failure,
            'failure': self.failure,
            'episodes': len(self.episodes),
            'successes': self.successes,
            'success_rate': self.success_rate,
            'success_interval_95': [low, high],
            **self._sections(),
            'instruction_changes': {
                'planned': sum(row.change_planned for row in self.episodes),
                'applied': self.changed,
                'successes': self.changed_successes,
            },
            'latency_ms': {
                **({'preset': self.measured} if self.measured else {}),
                'camera_to_command_p50': latest.latency_p50 * 1e3 if latest else None,
                'camera_to_command_p95': latest.latency_p95 * 1e3 if latest else None,
                'stages': {
                    stage.name: {'p50': stage.p50 * 1e3, 'p95': stage.p95 * 1e3}
                    for stage in self.stages
                },
                'callback_p95': self.callback_p95 * 1e3,
                'longest_callback': self.callback_max * 1e3,
            },
            'rate_hz': latest.rate if latest else None,
            'policy_memory': memory_trend(self.samples),
            'processes': self.children,
            'rows': [asdict(row) for row in self.episodes],
        }

    def write_json(self, path: Path) -> None:
        """Writes `as_dict` to a file.

        Raises:
            InputError: the file cannot be written.
        """
        try:
            Path(path).write_text(json.dumps(self.as_dict(), indent=2) + '\n', encoding='utf-8')
        except OSError as error:
            raise InputError(f'summary {path}: cannot be written ({error.strerror})') from error


def memory_trend(samples: Sequence[StatusSample]) -> dict[str, float | None]:
    """How the policy node's memory went: start, end, and growth once everything is warm.

    Returns:
        `start_mb`, `end_mb`, `seconds` between them, and `slope_mb_per_hour`, a linear fit over
        what follows the first `WARM_AFTER` seconds; None where there is too little to tell.
    """
    samples = [sample for sample in samples if sample.memory]
    trend: dict[str, float | None] = dict.fromkeys(
        ('start_mb', 'end_mb', 'slope_mb_per_hour', 'seconds')
    )
    if not samples:
        return trend
    trend['start_mb'] = samples[0].memory / 1e6
    trend['end_mb'] = samples[-1].memory / 1e6
    trend['seconds'] = samples[-1].time - samples[0].time
    warm = [sample for sample in samples if sample.time - samples[0].time >= WARM_AFTER]
    if len(warm) >= 2 and warm[-1].time - warm[0].time >= WARM_AFTER:
        hours = np.array([sample.time for sample in warm]) / 3600.0
        megabytes = np.array([sample.memory for sample in warm]) / 1e6
        trend['slope_mb_per_hour'] = float(np.polyfit(hours - hours[0], megabytes, 1)[0])
    return trend
