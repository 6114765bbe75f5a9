"""Latency of several presets of one policy in one run, beside a baseline if one is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from efficientvla_ros.evaluation.benchmark import (
    check_baseline,
    eager_baseline,
    plan_difference,
    refuse_unfit,
    warm_up,
)
from efficientvla_ros.evaluation.latency import (
    Tick,
    baseline_tick,
    engine_tick,
    random_images,
    speed_up,
)
from efficientvla_ros.evaluation.machine_load import MachineLoad
from efficientvla_ros.evaluation.memory import memory_use
from efficientvla_ros.evaluation.presets import DENSE, apply_preset, work_done
from efficientvla_ros.evaluation.statistics import percentiles

if TYPE_CHECKING:
    from efficientvla_ros.acceleration.profile import CalibrationProfile
    from efficientvla_ros.runtime.engine import Engine
    from efficientvla_ros.types import TickReport

TURN = 5
"""Timed ticks of a pipeline in a row; one more before them brings its weights into the caches."""

Seconds = dict[str, dict[str, list[float]]]
"""Pipeline -> stage, or `total` -> durations, s."""


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
    image_shape: tuple[int, int],
    runs: int,
    warm_up_runs: int,
    baseline: str | None = None,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Measures an engine under each preset; all take turns, so that they see the same machine.

    Args:
        engine: the policy; it is left with the last preset.
        presets: names, `dense` among them.
        instruction: what it is asked to do.
        image_shape: height and width of the camera image, pixels.
        runs: timed inferences of each.
        warm_up_runs: inferences of each that come first and do not count.
        baseline: as for `benchmark.run_benchmark`; it takes turns with the presets.
        progress: called with the number of timed inferences of each that are done.

    Returns:
        `presets`: for each its `plan` (see `presets.apply_preset`, and what it ran),
        `latency_s` by stage and, but for `dense`, `speed_up` by stage over dense, of medians;
        `cores_busy_elsewhere`, `memory` and `baseline` as in `run_benchmark`, the latter with
        `speed_up` over it for each preset.

    Raises:
        InputError: the model cannot run by a preset, or the baseline does not fit.
    """
    check_baseline(baseline)
    if baseline is not None:
        refuse_unfit(engine)
    found: dict[str, Any] = {}
    plans: dict[str, dict] = {}
    ticks: dict[str, Tick] = {}
    for name in presets:
        plans[name] = apply_preset(engine, name)
        ticks[name] = engine_tick(engine, instruction, _noting(plans[name]))
        warm_up(ticks[name], image_shape, warm_up_runs)
    found['memory'] = memory_use(engine.model)
    prepare: dict[str, Callable[[], object]] = {
        name: (lambda name=name: apply_preset(engine, name)) for name in presets
    }
    difference = None
    if baseline is not None:
        apply_preset(engine, DENSE)
        eager = eager_baseline(engine)
        ticks[baseline] = baseline_tick(eager, engine, instruction)
        prepare[baseline] = lambda: None
        warm_up(ticks[baseline], image_shape, warm_up_runs)
        difference = plan_difference(engine, eager, instruction)
    load = MachineLoad()
    seconds = measure_in_turns(ticks, prepare, image_shape, runs, progress)
    found['cores_busy_elsewhere'] = round(load.cores_busy_elsewhere(), 2)
    latency = {
        name: {stage: percentiles(durations) for stage, durations in stages.items()}
        for name, stages in seconds.items()
    }
    found['presets'] = {
        name: {'plan': plans[name], 'latency_s': latency[name]}
        | ({} if name == DENSE else {'speed_up': speed_up(latency[name], latency[DENSE])})
        for name in presets
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


def measure_in_turns(
    ticks: Mapping[str, Tick],
    prepare: Mapping[str, Callable[[], object]],
    image_shape: tuple[int, int],
    runs: int,
    progress: Callable[[int], None] | None = None,
) -> Seconds:
    """Times pipelines that are warm already, a few ticks at a time.

    Args:
        ticks: pipelines by name.
        prepare: called before the turn of each pipeline, by name.
        image_shape: height and width of the camera image, pixels.
        runs: number of timed ticks of each.
        progress: called with the number of timed ticks of each that are done.
    """
    images = random_images(image_shape)
    seconds: Seconds = {name: {} for name in ticks}
    for first in range(0, runs, TURN):
        turn = range(first, min(first + TURN, runs))
        for name, tick in ticks.items():
            prepare[name]()
            tick(images[first % len(images)])
            for run in turn:
                stages = tick(images[run % len(images)])
                for stage, duration in (*stages.items(), ('total', sum(stages.values()))):
                    seconds[name].setdefault(stage, []).append(duration)
        if progress:
            progress(turn.stop)
    return seconds


def _noting(plan: dict) -> Callable[[TickReport], None]:
    return lambda report: plan.update(work_done(report))
