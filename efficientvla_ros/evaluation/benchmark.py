"""One benchmark run: latency and memory of a policy, beside a baseline if one is asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from efficientvla_ros.evaluation.latency import (
    baseline_tick,
    engine_tick,
    measure_latency,
    random_images,
    speed_up,
)
from efficientvla_ros.evaluation.machine_load import MachineLoad
from efficientvla_ros.evaluation.memory import memory_use
from efficientvla_ros.types import InputError

if TYPE_CHECKING:
    from efficientvla_ros.evaluation.eager_baseline import EagerBaseline
    from efficientvla_ros.runtime.engine import Engine

BASELINES = ('eager',)


def check_baseline(name: str | None) -> None:
    """Raises InputError if there is no baseline of this name; None is none."""
    if name is not None and name not in BASELINES:
        raise InputError(f'baseline {name!r} is unknown, expected one of: {", ".join(BASELINES)}')


def run_benchmark(
    engine: Engine,
    instruction: str,
    *,
    image_shape: tuple[int, int],
    runs: int,
    warm_up_runs: int,
    baseline: str | None = None,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Measures an engine, and on the same weights in the same run a baseline.

    Args:
        engine: the policy.
        instruction: what it is asked to do.
        image_shape: height and width of the camera image, pixels.
        runs: timed inferences of each pipeline.
        warm_up_runs: inferences of each that come first and do not count.
        baseline: `eager` for the plain eager pipeline; None for none.
        progress: called with the number of timed rounds done.

    Returns:
        `latency_s` by stage, `cores_busy_elsewhere` meanwhile (on a busy machine latency says
        less), and `memory` of the engine before any baseline was built. With a baseline also
        `baseline`: its name, `latency_s`, `memory_of_both` in one process, `speed_up` of the
        engine by stage, and `relative_difference` (see `plan_difference`).

    Raises:
        InputError: the baseline is unknown or does not fit the policy.
    """
    check_baseline(baseline)
    if baseline is not None:
        # Before the first inference, which takes long where the policy is large.
        refuse_unfit(engine)
    ticks = {'engine': engine_tick(engine, instruction)}
    warm_up(ticks['engine'], image_shape, warm_up_runs)
    memory = memory_use(engine.model)
    difference = None
    if baseline is not None:
        eager = eager_baseline(engine)
        ticks[baseline] = baseline_tick(eager, engine, instruction)
        warm_up(ticks[baseline], image_shape, warm_up_runs)
        difference = plan_difference(engine, eager, instruction)
    load = MachineLoad()
    latency = measure_latency(ticks, image_shape, runs, progress)
    found: dict[str, Any] = {
        'cores_busy_elsewhere': round(load.cores_busy_elsewhere(), 2),
        'latency_s': latency['engine'],
        'memory': memory,
    }
    if baseline is not None:
        found['baseline'] = {
            'name': baseline,
            'latency_s': latency[baseline],
            'memory_of_both': memory_use(engine.model),
            'speed_up': speed_up(latency['engine'], latency[baseline]),
            'relative_difference': difference,
        }
    return found


def plan_difference(engine: Engine, baseline: EagerBaseline, instruction: str) -> float:
    """Compares the plans of both from one image that needs no resizing.

    Returns:
        Largest difference of the normalised actions over their largest absolute value.
    """
    import torch

    from efficientvla_ros.models.images import to_input
    from efficientvla_ros.runtime.stopwatch import Stopwatch

    image = random_images((engine.image_size, engine.image_size))[0]
    prompt, watch = engine.prompt(instruction), Stopwatch(engine.device)
    with torch.inference_mode():
        pixels = to_input(image, engine.image_size).to(engine.device)
        found = engine.policy.run(pixels, prompt, watch)
    expected = baseline.normalised(image, prompt.ids, engine.noise, watch)
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def refuse_unfit(engine: Engine) -> None:
    """Raises InputError if no baseline can run this policy."""
    from efficientvla_ros.evaluation.eager_baseline import check_model

    check_model(engine.model)


def eager_baseline(engine: Engine) -> EagerBaseline:
    """Builds the plain eager pipeline on the weights of an engine."""
    # torch and transformers are imported only where a baseline is asked for.
    from efficientvla_ros.evaluation.eager_baseline import EagerBaseline

    return EagerBaseline(
        engine.model, engine.statistics, steps=engine.num_ddim_steps, guidance=engine.guidance
    )


def warm_up(tick: Callable[[np.ndarray], Any], shape: tuple[int, int], runs: int) -> None:
    """Runs a pipeline some times on random images of a shape."""
    images = random_images(shape)
    for run in range(runs):
        tick(images[run % len(images)])
