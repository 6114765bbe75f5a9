"""Episodes, instructions and the success predicate."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from efficientvla_ros.simulation.scene import OBJECT_MODELS
from efficientvla_ros.simulation.success import (
    DROPPED,
    SUCCESS,
    TIMEOUT,
    WRONG_OBJECT,
    SuccessMonitor,
)
from efficientvla_ros.simulation.tasks import (
    OBJECTS,
    SPACING,
    TEMPLATES,
    WORKSPACE_LOWER,
    WORKSPACE_UPPER,
    instruction_for,
    parse_instruction,
    sample_episode,
)
from efficientvla_ros.types import InputError


@given(seed=st.integers(0, 2**31))
@settings(max_examples=60, deadline=None)
def test_sampled_objects_are_distinct_spaced_and_on_the_table(seed):
    episode = sample_episode('pick', seed)
    assert len(set(episode.objects)) == 3 and set(episode.objects) <= set(OBJECTS)
    points = np.array([episode.object_positions[name] for name in episode.objects])
    assert np.all(points >= WORKSPACE_LOWER) and np.all(points <= WORKSPACE_UPPER)
    for first in range(3):
        for second in range(first):
            assert np.linalg.norm(points[first] - points[second]) >= SPACING
    assert sample_episode('pick', seed) == episode


def test_every_object_is_a_target_about_equally_often():
    targets = [sample_episode('pick', seed).target for seed in range(400)]
    for name in OBJECTS:
        assert 70 <= targets.count(name) <= 130


def test_target_can_be_chosen():
    for name in OBJECTS:
        assert sample_episode('pick', 1, target=name).target == name


@pytest.mark.parametrize('template', range(len(TEMPLATES['pick'])))
@pytest.mark.parametrize('target', OBJECTS)
def test_instructions_are_understood(target, template):
    assert parse_instruction(instruction_for('pick', target, template)) == target


@pytest.mark.parametrize(
    ('text', 'expected'),
    [
        ('Pick up the RED  can, please!', 'red can'),
        ('pick banana', None),
        ('', None),
        ('pick the red can and the orange', None),
        ('pick the oranges', None),
    ],
)
def test_free_text_names_one_object_or_none(text, expected):
    assert parse_instruction(text) == expected


def test_unknown_names_are_refused_with_what_exists():
    with pytest.raises(InputError, match='unknown task "juggle", expected one of: pick'):
        sample_episode('juggle', 0)
    with pytest.raises(InputError, match='red can, green can, blue can, orange'):
        instruction_for('pick', 'banana')


@pytest.fixture
def episode():
    return sample_episode('pick', 0)


def _positions(episode, **lifts: float) -> dict[str, np.ndarray]:
    """Positions with lifts in m by role: target, first, second."""
    roles = dict(zip(('target', 'first', 'second'), episode.objects))
    heights = {roles[role]: lift for role, lift in lifts.items()}
    return {
        name: np.array([0.3, 0.0, OBJECT_MODELS[name].rest_height + heights.get(name, 0.0)])
        for name in episode.objects
    }


def test_target_up_for_two_looks_is_success(episode):
    monitor = SuccessMonitor(episode)
    assert monitor.update(_positions(episode, target=0.07)) is None
    assert monitor.update(_positions(episode, target=0.07)) == SUCCESS
    assert monitor.lifted_object == episode.target and monitor.steps == 2


def test_one_look_or_too_low_is_not_enough(episode):
    monitor = SuccessMonitor(episode)
    for lift in (0.07, 0.05, 0.07, 0.05):
        assert monitor.update(_positions(episode, target=lift)) is None


def test_another_object_lifted_is_the_wrong_one(episode):
    monitor = SuccessMonitor(episode)
    monitor.update(_positions(episode, first=0.07))
    assert monitor.update(_positions(episode, first=0.07)) == WRONG_OBJECT
    assert monitor.lifted_object == episode.distractors[0]


def test_fallen_back_is_dropped(episode):
    monitor = SuccessMonitor(episode)
    monitor.update(_positions(episode, target=0.05))
    assert monitor.update(_positions(episode, target=0.0)) == DROPPED


def test_out_of_reach_is_dropped(episode):
    positions = _positions(episode)
    positions[episode.target][:2] = 0.3, 0.5
    assert SuccessMonitor(episode).update(positions) == DROPPED


def test_time_runs_out(episode):
    monitor = SuccessMonitor(episode)
    outcomes = [monitor.update(_positions(episode)) for _ in range(episode.max_steps)]
    assert outcomes[-1] == TIMEOUT and outcomes[:-1] == [None] * (episode.max_steps - 1)
    assert monitor.update(_positions(episode, target=0.1)) == TIMEOUT  # the outcome stays


def test_changed_target_decides(episode):
    monitor = SuccessMonitor(episode)
    monitor.update(_positions(episode, target=0.05))
    monitor.set_target(episode.distractors[1])
    assert monitor.update(_positions(episode)) is None  # setting the old one down is no drop
    monitor.update(_positions(episode, second=0.07))
    assert monitor.update(_positions(episode, second=0.07)) == SUCCESS


def test_absent_target_is_refused(episode):
    absent = next(name for name in OBJECTS if name not in episode.objects)
    with pytest.raises(InputError, match=f'"{absent}" is not on the table'):
        SuccessMonitor(episode).set_target(absent)
