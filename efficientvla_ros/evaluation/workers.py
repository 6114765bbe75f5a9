"""Episodes on several processes, one thread each."""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from functools import lru_cache
from multiprocessing import get_context

from efficientvla_ros.acceleration.presets import PRESETS
from efficientvla_ros.evaluation.presets import DENSE
from efficientvla_ros.evaluation.settings import EXPERT, EvaluationSettings
from efficientvla_ros.simulation.worker_process import follow_parent
from efficientvla_ros.types import InputError

Job = tuple[EvaluationSettings, str | None, int]
"""Settings of an episode, preset (None for the policy as it is loaded), and seed."""


class EpisodeRunner:
    """Environment, policy and controller of one process, made once and used for many seeds."""

    def __init__(self, settings: EvaluationSettings) -> None:
        """Loads the policy on one CPU thread.

        Raises:
            InputError: the model or the task cannot be used.
        """
        # Imported here: the parent process needs neither torch nor a renderer.
        from efficientvla_ros.evaluation.closed_loop import make_controller
        from efficientvla_ros.simulation.environment import TabletopEnvironment

        self._settings = settings
        size = settings.camera_size
        self.environment = TabletopEnvironment(size, size, settings.task)
        self.policy = self._load_policy()
        self.controller = make_controller(settings.execution)

    def _load_policy(self):
        settings = self._settings
        # The expert plans by formulas: there is nothing to accelerate.
        if settings.model == EXPERT:
            from efficientvla_ros.evaluation.expert_policy import ExpertPolicy

            return ExpertPolicy(self.environment)
        return _engine(
            settings.model,
            settings.device,
            settings.ddim_steps,
            settings.guidance,
            settings.profile,
        )

    def run(self, seed: int, preset: str | None = None):
        """Runs the episode of a seed and returns its `EpisodeRow`.

        Args:
            seed: of the episode.
            preset: plan that the policy runs by; None leaves it as it was loaded.

        Raises:
            InputError: the model cannot run by this preset.
        """
        made_from = {} if preset is None else self._prepare(preset)
        row = self._run(seed)
        return replace(row, plan={**made_from, **row.plan})

    def _prepare(self, preset: str) -> dict:
        """Sets a plan, warm and without memory of earlier episodes; says what it is."""
        from efficientvla_ros.evaluation.presets import apply_preset

        made_from = apply_preset(self.policy, preset)
        if (self.policy, preset) not in _warm:
            self.policy.warm_up()
            _warm.add((self.policy, preset))
        self.policy.reset()
        return made_from

    def _run(self, seed: int, policy=None):
        from efficientvla_ros.evaluation.closed_loop import episode_of, run_episode

        settings = self._settings
        return run_episode(
            self.environment,
            policy or self.policy,
            self.controller,
            episode_of(settings, seed),
            execute_steps=settings.execute_steps,
            latency=settings.latency,
            swap_step=settings.swap_step if settings.swap_instruction else None,
            gap=getattr(self.policy, 'settle', None),
        )

    def deviation(self, presets: Sequence[str], seed: int) -> dict[str, dict]:
        """Compares presets with dense on what dense saw in one episode (`replay_presets`)."""
        from efficientvla_ros.evaluation.deviation import replay_presets
        from efficientvla_ros.evaluation.watched_policy import WatchedPolicy

        self._prepare(DENSE)
        watched = WatchedPolicy(self.policy)
        self._run(seed, watched)
        return replay_presets(self.policy, presets, [look.observation for look in watched.looks])

    def trace(self, preset: str, seed: int) -> dict:
        """Runs the episode of a seed and returns it tick by tick (`channel_trace.trace`)."""
        from efficientvla_ros.evaluation.channel_trace import trace
        from efficientvla_ros.evaluation.watched_policy import WatchedPolicy

        self._prepare(preset)
        watched = WatchedPolicy(self.policy, self.environment)
        row = self._run(seed, watched)
        return trace(self.policy, watched.looks, row, preset)

    def close(self) -> None:
        """Frees the renderer."""
        self.environment.close()


_runners: dict[EvaluationSettings, EpisodeRunner] = {}
_warm: set[tuple[object, str]] = set()


@lru_cache
def _engine(
    model: str,
    device: str,
    ddim_steps: int | None,
    guidance: float | None,
    profile: str | None,
):
    """The policy of this process, which episodes of all tasks and settings share."""
    from efficientvla_ros.runtime.engine import load_engine

    engine = load_engine(
        model,
        device=device,
        threads=1,
        num_ddim_steps=ddim_steps,
        guidance=guidance,
        profile=profile,
    )
    # Channels that adapt remember earlier episodes as long as their plan is kept.
    engine.plans_kept = len(PRESETS)
    engine.warm_up()
    return engine


def _runner(settings: EvaluationSettings) -> EpisodeRunner:
    if settings not in _runners:
        _runners[settings] = EpisodeRunner(settings)
        atexit.register(_runners[settings].close)
    return _runners[settings]


def _run(settings: EvaluationSettings, preset: str | None, seed: int):
    return settings, preset, _runner(settings).run(seed, preset)


def _deviation(settings: EvaluationSettings, presets: tuple[str, ...], seed: int):
    return _runner(settings).deviation(presets, seed)


def _trace(settings: EvaluationSettings, preset: str, seed: int):
    return _runner(settings).trace(preset, seed)


def run_episodes(jobs: Sequence[Job], workers: int) -> Iterator:
    """Runs episodes and yields (settings, preset, row) as they end, in any order.

    Args:
        jobs: the episodes.
        workers: number of processes.

    Raises:
        InputError: the model or the task cannot be used, or a process died.
    """
    yield from _in_processes([(_run, *job) for job in jobs], workers)


def run_deviations(
    settings: EvaluationSettings, presets: Sequence[str], seeds: Sequence[int], workers: int
) -> Iterator[dict[str, dict]]:
    """Yields what `EpisodeRunner.deviation` finds for each seed, in any order; raises likewise."""
    jobs = [(_deviation, settings, tuple(presets), seed) for seed in seeds]
    yield from _in_processes(jobs, workers)


def run_trace(settings: EvaluationSettings, preset: str, seed: int) -> dict:
    """Returns what `EpisodeRunner.trace` finds; raises as `run_episodes`."""
    return next(_in_processes([(_trace, settings, preset, seed)], 1))


def _in_processes(jobs: Sequence[tuple], workers: int) -> Iterator:
    # A job is a function of this module and its arguments.
    for name, value in (('OMP_NUM_THREADS', '1'), ('OMP_WAIT_POLICY', 'passive')):
        os.environ.setdefault(name, value)
    pool = ProcessPoolExecutor(
        max_workers=max(1, min(workers, len(jobs))),
        mp_context=get_context('spawn'),
        initializer=follow_parent,
    )
    try:
        futures = [pool.submit(*job) for job in jobs]
        for future in as_completed(futures):
            yield future.result()
    except BrokenProcessPool as error:
        raise InputError('a worker process died (out of memory?), try fewer workers') from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
