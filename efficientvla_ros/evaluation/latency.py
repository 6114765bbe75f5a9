"""Latency of a policy, stage by stage, on random images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from efficientvla_ros.evaluation.statistics import percentiles
from efficientvla_ros.types import Observation, TickReport

if TYPE_CHECKING:
    from efficientvla_ros.evaluation.eager_baseline import EagerBaseline
    from efficientvla_ros.runtime.engine import Engine

Latency = dict[str, dict[str, float]]
"""Stage name, or `total` -> p50, p95 and p99, seconds."""

Tick = Callable[[np.ndarray], Mapping[str, float]]
"""Plans from an image uint8 [height, width, 3]; returns seconds by stage, in order."""

_IMAGES = 4


def engine_tick(
    engine: Engine, instruction: str, on_report: Callable[[TickReport], object] | None = None
) -> Tick:
    """Returns a tick of the engine; `on_report` is told what each of them did."""

    def tick(image: np.ndarray) -> Mapping[str, float]:
        camera = {engine.camera_names[0]: image}
        _, report = engine.infer(Observation(camera, instruction, stamp_ns=0))
        if on_report is not None:
            on_report(report)
        return report.stage_seconds

    return tick


def baseline_tick(baseline: EagerBaseline, engine: Engine, instruction: str) -> Tick:
    """Returns a tick of the eager baseline on the engine's prompt and noise."""
    from efficientvla_ros.runtime.stopwatch import Stopwatch

    ids, noise = engine.prompt_ids(instruction), engine.noise

    def tick(image: np.ndarray) -> Mapping[str, float]:
        watch = Stopwatch(engine.device)
        baseline.run(image, ids, noise, watch)
        return watch.seconds

    return tick


def random_images(image_shape: tuple[int, int]) -> list[np.ndarray]:
    """Returns a few reproducible images uint8 [height, width, 3]."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*image_shape, 3), dtype=np.uint8) for _ in range(_IMAGES)]


def measure_latency(
    ticks: Mapping[str, Tick],
    image_shape: tuple[int, int],
    runs: int,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Latency]:
    """Times pipelines that are warm already; they take turns, so that all see the same machine.

    Args:
        ticks: pipelines by name.
        image_shape: height and width of the camera image, pixels.
        runs: number of timed ticks of each.
        progress: called with the number of rounds done.

    Returns:
        Percentiles of each pipeline by stage.
    """
    images = random_images(image_shape)
    seconds: dict[str, dict[str, list[float]]] = {name: {} for name in ticks}
    for run in range(runs):
        for name, tick in ticks.items():
            stages = tick(images[run % len(images)])
            for stage, duration in (*stages.items(), ('total', sum(stages.values()))):
                seconds[name].setdefault(stage, []).append(duration)
        if progress:
            progress(run + 1)
    return {
        name: {stage: percentiles(durations) for stage, durations in stages.items()}
        for name, stages in seconds.items()
    }


def speed_up(latency: Latency, baseline: Latency) -> dict[str, float]:
    """Returns how many times faster than the baseline each stage is, by medians."""
    return {stage: baseline[stage]['p50'] / values['p50'] for stage, values in latency.items()}
