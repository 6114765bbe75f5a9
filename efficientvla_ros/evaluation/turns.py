"""Pipelines that are timed in turns, on random images or on those of simulated episodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from efficientvla_ros.evaluation.latency import Tick, random_images

TURN = 5
"""Timed ticks of a pipeline in a row; one more before them brings its weights into the caches."""

EPISODE_TURN = 20
"""The same where plans depend on the ticks before."""

EPISODE_SEED = 8_000_000
"""First seed of simulated episodes, far from those of recordings and evaluations."""

_EXECUTE_STEPS = 1
"""A plan at every control period, as the released evaluation of CogACT does."""

Turn = Sequence[np.ndarray]
"""Images uint8 [height, width, 3] of the timed ticks of a turn, in order."""

Seconds = dict[str, dict[str, list[float]]]
"""Pipeline -> stage, or `total` -> durations, s."""


def nothing() -> None:
    """Does nothing."""


@dataclass(frozen=True)
class Pipeline:
    """What is timed, and what happens around it.

    Attributes:
        tick: one inference.
        prepare: called before each turn.
        start: called before the first timed tick of a turn, after the one that does not count.
        timed: called after each timed tick.
        pause: called after every tick.
    """

    tick: Tick
    prepare: Callable[[], object] = nothing
    start: Callable[[], object] = nothing
    timed: Callable[[], object] = nothing
    pause: Callable[[], object] = nothing


def random_turns(image_shape: tuple[int, int], runs: int, turn: int = TURN) -> list[Turn]:
    """Returns turns of random images, `runs` in all."""
    images = random_images(image_shape)
    every = [images[run % len(images)] for run in range(runs)]
    return [every[first : first + turn] for first in range(0, runs, turn)]


def simulated_turns(image_shape: tuple[int, int], runs: int, task: str = 'pick') -> list[Turn]:
    """Returns the images of successive episodes in which the scripted expert acts.

    A turn is one episode, seen every 0.6 s as by a policy at work; the last one is cut so that
    there are `runs` images in all.
    """
    from efficientvla_ros.evaluation.closed_loop import make_controller, run_episode
    from efficientvla_ros.evaluation.expert_policy import ExpertPolicy
    from efficientvla_ros.evaluation.watched_policy import WatchedPolicy
    from efficientvla_ros.simulation.environment import TabletopEnvironment
    from efficientvla_ros.simulation.tasks import sample_episode

    height, width = image_shape
    turns: list[Turn] = []
    left = runs
    with TabletopEnvironment(width, height, task) as environment:
        watched, controller = WatchedPolicy(ExpertPolicy(environment)), make_controller()
        while left > 0:
            watched.looks.clear()
            episode = sample_episode(task, EPISODE_SEED + len(turns))
            run_episode(environment, watched, controller, episode, execute_steps=_EXECUTE_STEPS)
            seen = [next(iter(look.observation.images.values())) for look in watched.looks]
            turns.append(seen[:left])
            left -= len(turns[-1])
    return turns


def measure_in_turns(
    pipelines: Mapping[str, Pipeline],
    turns: Sequence[Turn],
    progress: Callable[[int], None] | None = None,
) -> Seconds:
    """Times pipelines that are warm already, a turn of each by turns.

    Args:
        pipelines: by name.
        turns: images of each turn.
        progress: called with the number of timed ticks of each that are done.
    """
    seconds: Seconds = {name: {} for name in pipelines}
    done = 0
    for images in turns:
        for name, pipeline in pipelines.items():
            pipeline.prepare()
            pipeline.tick(images[0])
            pipeline.pause()
            pipeline.start()
            for image in images:
                stages = pipeline.tick(image)
                pipeline.timed()
                pipeline.pause()
                for stage, duration in (*stages.items(), ('total', sum(stages.values()))):
                    seconds[name].setdefault(stage, []).append(duration)
        done += len(images)
        if progress:
            progress(done)
    return seconds
