"""The control path loses no success: the scripted expert runs through all of it.

Chunks, latency, the trajectory controller and the physics are those of the ROS nodes; only the
network is replaced by the expert.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from efficientvla_ros.evaluation.closed_loop import (
    EpisodeRow,
    episode_of,
    make_controller,
    run_episode,
)
from efficientvla_ros.evaluation.expert_policy import ExpertPolicy
from efficientvla_ros.evaluation.settings import EvaluationSettings
from efficientvla_ros.simulation.environment import TabletopEnvironment
from efficientvla_ros.simulation.tasks import sample_episode
from efficientvla_ros.types import InputError


@pytest.fixture(scope='module')
def environment():
    with TabletopEnvironment(32, 32) as environment:
        yield environment


def run(environment, seeds, policy=None, **options) -> list[EpisodeRow]:
    controller = make_controller()
    policy = policy or ExpertPolicy(environment)
    return [
        run_episode(environment, policy, controller, sample_episode('pick', seed), **options)
        for seed in seeds
    ]


def successes(rows: list[EpisodeRow]) -> int:
    return sum(row.success for row in rows)


class Tampered:
    """The expert with its actions changed on the way out."""

    def __init__(self, environment, change):
        self.step_duration = 0.2
        self._expert = ExpertPolicy(environment)
        self._change = change

    def infer(self, observation):
        chunk, report = self._expert.infer(observation)
        return replace(chunk, actions=self._change(chunk.actions)), report


def test_the_expert_succeeds_through_the_whole_control_path(environment):
    rows = run(environment, range(5_000_000, 5_000_060), execute_steps=2, latency=0.1)
    assert successes(rows) >= 57
    assert sum(row.rejected_commands for row in rows) == 0
    assert all(row.holds == {} for row in rows)


@pytest.mark.parametrize(
    ('execute_steps', 'latency'), [(1, 0.0), (1, 0.19), (4, 0.1), (2, 0.3), (1, 0.5)]
)
def test_the_expert_succeeds_at_other_rates_and_latencies(environment, execute_steps, latency):
    rows = run(
        environment, range(6_000_000, 6_000_012), execute_steps=execute_steps, latency=latency
    )
    assert successes(rows) >= 11


def test_a_swapped_instruction_lifts_the_other_object(environment):
    rows = run(environment, range(7_000_000, 7_000_010), swap_step=3)
    assert successes(rows) >= 9
    for row in rows:
        episode = sample_episode('pick', row.seed)
        assert row.swapped
        assert row.target == episode.distractors[0]
        assert row.target in row.instruction
        assert not row.success or row.lifted_object == row.target


def test_lifting_what_was_not_asked_for_is_counted_as_such(environment):
    class Stubborn(ExpertPolicy):
        """Goes on with the first instruction, whatever is asked for later."""

        def infer(self, observation):
            asked = environment.target
            environment.set_target(environment.episode.target)
            try:
                return super().infer(observation)
            finally:
                environment.set_target(asked)

    rows = run(environment, range(7_100_000, 7_100_003), Stubborn(environment), swap_step=0)
    assert all(row.wrong_object and not row.success for row in rows)
    assert all(row.lifted_object != row.target for row in rows)


def test_a_policy_that_is_not_finite_moves_nothing(environment):
    policy = Tampered(environment, lambda actions: actions * np.nan)
    start = sample_episode('pick', 1).start_positions
    (row,) = run(environment, [1], policy)
    assert row.outcome == 'timeout'
    assert row.ticks == 60
    assert row.holds == {'non_finite': 30}
    np.testing.assert_allclose(environment.sim.joint_positions(), start, atol=5e-3)


def test_a_policy_that_asks_for_too_much_is_limited_and_the_limits_are_reported(environment):
    policy = Tampered(environment, lambda actions: actions * [5, 5, 5, 1, 1, 1, 1])
    (row,) = run(environment, [1], policy)
    assert row.interventions['step_translation_capped'] > 0
    assert row.interventions['joint_velocity_limited'] > 0


def test_an_episode_repeats_exactly(environment):
    first, other, again = run(environment, [123, 124, 123])
    assert replace(first, stage_seconds={}) == replace(again, stage_seconds={})
    assert replace(first, stage_seconds={}) != replace(other, stage_seconds={})


def test_the_next_observation_waits_for_a_command_that_is_late(environment):
    (row,) = run(environment, [3], execute_steps=1, latency=0.5)
    assert row.inferences == -(-row.ticks // 3)


def test_steps_that_passed_during_the_latency_are_dropped(environment):
    (row,) = run(environment, [3], execute_steps=2, latency=0.3)
    assert row.interventions['step_dropped'] == row.inferences


def test_every_inference_is_timed(environment):
    (row,) = run(environment, [3], execute_steps=2)
    assert row.inferences == -(-row.ticks // 2)
    assert len(row.stage_seconds['total']) == row.inferences


def test_the_shifted_camera_moves_the_picture_by_that_many_pixels():
    settings = EvaluationSettings(camera_shift_px=2.0)
    directions = []
    with TabletopEnvironment(112, 112) as environment:
        point = np.array([0.3, 0.0, 0.05])
        environment.reset(sample_episode('pick', 0))
        plain = environment.sim.project(point)
        for seed in range(5):
            environment.reset(episode_of(settings, seed))
            move = environment.sim.project(point) - plain
            assert np.linalg.norm(move) == pytest.approx(2.0, abs=0.1)
            directions.append(np.arctan2(*move))
    assert np.ptp(directions) > 0.5


@pytest.mark.parametrize(
    ('name', 'value'),
    [('episodes', 0), ('seed', -1), ('execute_steps', 0), ('latency', -0.1), ('swap_step', -1),
     ('camera_shift_px', float('nan'))],
)  # fmt: skip
def test_unusable_settings_are_refused_by_name(name, value):
    with pytest.raises(InputError, match=f'{name} is'):
        EvaluationSettings(**{name: value})


def test_a_gap_follows_every_inference(environment):
    gaps: list[int] = []
    rows = run(environment, [5_000_000], gap=lambda: gaps.append(environment.steps))
    assert len(gaps) == rows[0].inferences and gaps == sorted(gaps)
    assert rows[0].channels == {}
