"""Latency of several presets of one policy in one run, beside a baseline if one is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from efficientvla_ros.evaluation.benchmark import (
    check_baseline,
    eager_baseline,
    plan_difference,
    refuse_unfit,
    warm_up,
)
from efficientvla_ros.evaluation.channel_log import ChannelLog, summarise_channels
from efficientvla_ros.evaluation.latency import (
    Latency,
    baseline_tick,
    engine_tick,
    random_images,
    speed_up,
)
from efficientvla_ros.evaluation.machine_load import MachineLoad
from efficientvla_ros.evaluation.memory import memory_use
from efficientvla_ros.evaluation.presets import DENSE, apply_preset, work_done
from efficientvla_ros.evaluation.statistics import percentiles
from efficientvla_ros.evaluation.turns import Pipeline, Turn, measure_in_turns, nothing
from efficientvla_ros.types import TickReport

if TYPE_CHECKING:
    from efficientvla_ros.acceleration.profile import CalibrationProfile
    from efficientvla_ros.runtime.engine import Engine


def random_profile(engine: Engine, instruction: str, frames: int = 2) -> CalibrationProfile:
    """Measures a calibration profile on random images: enough for latency, not for success."""
    from efficientvla_ros.acceleration.calibration import CalibrationSample, calibrate

    size = engine.image_size
    ids = engine.prompt_ids(instruction)
    images = random_images((size, size))[:frames]
    samples = [CalibrationSample(image, ids, index) for index, image in enumerate(images)]
    return calibrate(engine.model, samples, source='random images')


def give_profile(engine: Engine, instruction: str) -> str:
    """Gives an engine without a calibration profile one of random images.

    Returns:
        Where its profile is from.
    """
    if engine.profile is None:
        engine.profile = random_profile(engine, instruction)
    return engine.profile.source


def benchmark_presets(
    engine: Engine,
    presets: Sequence[str],
    instruction: str,
    *,
    turns: Sequence[Turn],
    warm_up_runs: int,
    baseline: str | None = None,
    gap: bool = True,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Measures an engine under each preset; all take turns, so that they see the same machine.

    Args:
        engine: the policy; it is left with the last preset.
        presets: names, `dense` among them.
        instruction: what it is asked to do.
        turns: images of the timed inferences of each; a turn is an episode for plans that
            remember the ticks before.
        warm_up_runs: inferences of each that come first and do not count.
        baseline: as for `benchmark.run_benchmark`; it takes turns with the presets.
        gap: whether channel updates are waited for after each inference, as in the time until
            the next image; inferences run back to back otherwise.
        progress: called with the number of timed inferences of each that are done.

    Returns:
        `presets`: for each its `plan` (see `presets.apply_preset`, and what it ran),
        `latency_s` by stage, `channels` (see `summarise_channels`) where some are left out and,
        but for `dense`, `speed_up` by stage over dense, of medians; `mean_speed_up` is of the
        means of all ticks; `cores_busy_elsewhere`, `memory` and `baseline` as in
        `run_benchmark`, the latter with `speed_up` over it for each preset.

    Raises:
        InputError: the model cannot run by a preset, or the baseline does not fit.
    """
    check_baseline(baseline)
    if baseline is not None:
        refuse_unfit(engine)
    engine.plans_kept = len(presets)
    shape = turns[0][0].shape[:2]
    found: dict[str, Any] = {}
    rows: dict[str, PresetRow] = {}
    for name in presets:
        rows[name] = PresetRow(engine, name, instruction, gap)
        warm_up(rows[name].tick, shape, warm_up_runs)
    found['memory'] = memory_use(engine.model)
    pipelines = {name: row.pipeline() for name, row in rows.items()}
    difference = None
    if baseline is not None:
        apply_preset(engine, DENSE)
        eager = eager_baseline(engine)
        pipelines[baseline] = Pipeline(
            baseline_tick(eager, engine, instruction), prepare=engine.settle
        )
        warm_up(pipelines[baseline].tick, shape, warm_up_runs)
        difference = plan_difference(engine, eager, instruction)
    load = MachineLoad()
    seconds = measure_in_turns(pipelines, turns, progress)
    engine.settle()
    found['cores_busy_elsewhere'] = round(load.cores_busy_elsewhere(), 2)
    latency = {
        name: {stage: percentiles(durations) for stage, durations in stages.items()}
        for name, stages in seconds.items()
    }
    means = {name: float(np.mean(stages['total'])) for name, stages in seconds.items()}
    found['presets'] = {
        name: row.section(latency, seconds[name]['total'], means) for name, row in rows.items()
    }
    if baseline is not None:
        found['baseline'] = {
            'name': baseline,
            'latency_s': latency[baseline],
            'memory_of_both': memory_use(engine.model),
            'speed_up': {name: speed_up(latency[name], latency[baseline]) for name in presets},
            'relative_difference': difference,
        }
    return found


class PresetRow:
    """One preset of a benchmark: runs its ticks and keeps what they did.

    Attributes:
        tick: an inference by the plan in force.
    """

    def __init__(self, engine: Engine, name: str, instruction: str, gap: bool) -> None:
        """Prepares the plan.

        Raises:
            InputError: the model cannot run by the preset.
        """
        self._engine, self._name, self._gap = engine, name, gap
        self._plan = apply_preset(engine, name)
        self._log, self._newest = ChannelLog(), TickReport()
        self.tick = engine_tick(engine, instruction, self._take)

    def pipeline(self) -> Pipeline:
        """How the preset takes its turns."""
        return Pipeline(
            self.tick,
            prepare=self._prepare,
            start=self._engine.reset,
            timed=lambda: self._log.add(self._newest),
            pause=self._engine.settle if self._gap else nothing,
        )

    def section(
        self,
        latency: Mapping[str, Latency],
        seconds: Sequence[float],
        means: Mapping[str, float],
    ) -> dict[str, Any]:
        """What `benchmark_presets` returns of it; `seconds` are of its ticks."""
        here = latency[self._name]
        section = {'plan': self._plan, 'latency_s': here, 'mean_s': means[self._name]}
        channels = summarise_channels([(self._log.as_dict(), seconds)])
        if channels is not None:
            section['channels'] = channels
        if self._name == DENSE:
            return section
        return section | {
            'speed_up': speed_up(here, latency[DENSE]),
            'mean_speed_up': means[DENSE] / means[self._name],
        }

    def _prepare(self) -> None:
        # Without gaps an update may still be under way, and must not run beside other presets.
        self._engine.settle()
        apply_preset(self._engine, self._name)

    def _take(self, report: TickReport) -> None:
        self._newest = report
        self._plan.update(work_done(report))
