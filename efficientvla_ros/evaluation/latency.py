"""Latency of a policy, stage by stage, on random images."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from efficientvla_ros.evaluation.statistics import percentiles
from efficientvla_ros.types import Observation

if TYPE_CHECKING:
    from efficientvla_ros.runtime.engine import Engine

WARM_UP_RUNS = 10


def measure_latency(
    engine: Engine,
    instruction: str,
    image_shape: tuple[int, int],
    runs: int,
    progress: Callable[[int], None] | None = None,
) -> dict[str, dict[str, float]]:
    """Times inferences after a warm-up that does not count.

    Args:
        engine: the policy.
        instruction: what it is asked to do.
        image_shape: height and width of the camera image, pixels.
        runs: number of timed inferences.
        progress: called with the number of inferences done.

    Returns:
        Percentiles in seconds for each stage and for `total`.
    """
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*image_shape, 3), dtype=np.uint8) for _ in range(4)]
    engine.warm_up(WARM_UP_RUNS)
    seconds: dict[str, list[float]] = {}
    for run in range(runs):
        camera = {engine.camera_names[0]: images[run % len(images)]}
        _, report = engine.infer(Observation(camera, instruction, stamp_ns=run))
        for stage, duration in (*report.stage_seconds.items(), ('total', report.total_seconds)):
            seconds.setdefault(stage, []).append(duration)
        if progress:
            progress(run + 1)
    return {stage: percentiles(durations) for stage, durations in seconds.items()}
