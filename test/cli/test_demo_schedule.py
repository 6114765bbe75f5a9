"""Which scene, task, preset and instruction change an episode of the demo has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from efficientvla_ros.cli.demo_options import NOTHING, DemoOptions
from efficientvla_ros.cli.demo_schedule import (
    Schedule,
    can_change,
    change_episodes,
    other_instruction,
)
from efficientvla_ros.simulation.placement import free_spots
from efficientvla_ros.simulation.tasks import TASKS, parse_goal, parse_instruction, sample_episode
from efficientvla_ros.types import InputError

PAIR = ('dense', 'combined')


def options(**changes: object) -> DemoOptions:
    values = {
        'task': 'pick', 'episodes': 3, 'seed': 5, 'model': 'tabletop-pick', 'preset': 'dense',
        'compare': NOTHING, 'out': Path('out'), 'domain_id': 1, 'image_side': 448,
        'min_success': 0.9, 'start_timeout': 60.0,
    }  # fmt: skip
    return DemoOptions(**{**values, **changes})


@settings(deadline=None)  # a loaded machine is no failure
@given(st.integers(1, 500))
def test_three_episodes_spread_over_the_run_are_changed(episodes):
    changed = change_episodes(episodes)
    assert len(changed) == min(3, episodes)
    assert all(0 <= episode < episodes for episode in changed)
    if episodes >= 4:
        assert 0 not in changed, 'the first episode shows an instruction that stays'


@settings(deadline=None)
@given(st.integers(0, 100_000))
def test_changed_instruction_names_another_object_that_is_there(seed):
    episode = sample_episode('pick', seed)
    named = parse_instruction(other_instruction(episode))
    assert named in episode.distractors


@settings(deadline=None)
@given(st.sampled_from(TASKS), st.integers(0, 100_000))
def test_changed_instruction_of_every_task_is_understood_as_the_other_goal(task, seed):
    scene = sample_episode(task, seed)
    if can_change(scene):
        assert parse_goal(other_instruction(scene)) == scene.other_goal != scene.goal


def test_a_scene_without_room_for_the_other_goal_keeps_its_instruction():
    crowded = [
        scene
        for scene in (sample_episode('move_near', seed) for seed in range(1000))
        if not can_change(scene)
    ]
    assert crowded
    for scene in crowded:
        points = {name: np.array(place) for name, place in scene.object_positions.items()}
        goal = scene.other_goal
        assert len(free_spots(points, goal.target, goal.reference)) == 0


def test_one_task_under_one_preset_changes_where_it_always_did():
    schedule = Schedule('pick', 12, 2_000_000, ('dense',))
    slots = [schedule.slot(index) for index in range(schedule.total)]
    assert not schedule.comparing
    assert [slot.scene.seed for slot in slots] == list(range(2_000_000, 2_000_012))
    assert {slot.scene.task for slot in slots} == {'pick'}
    assert {slot.preset for slot in slots} == {'dense'}
    assert {index for index, slot in enumerate(slots) if slot.changes} == change_episodes(12)


def test_all_tasks_take_turns_and_each_scene_is_run_under_both_presets():
    schedule = Schedule('all', 8, 100, PAIR)
    slots = [schedule.slot(index) for index in range(schedule.total)]
    assert (schedule.total, schedule.comparing) == (16, True)
    assert [slot.preset for slot in slots] == [*PAIR] * 8
    assert [slot.scene.seed for slot in slots] == [100 + i // 2 for i in range(16)]
    assert [slot.scene.task for slot in slots[::2]] == [*TASKS, *TASKS[:2]]
    for first, second in zip(slots[::2], slots[1::2], strict=True):
        assert first.scene == second.scene
        assert first.changes == second.changes, 'in both runs of a seed or in neither'
    assert sum(slot.changes for slot in slots) == 6


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(0, 10_000))
def test_instructions_change_only_where_the_scene_allows_it(scenes, seed):
    schedule = Schedule('move_near', scenes, seed, ('dense',))
    slots = [schedule.slot(index) for index in range(scenes)]
    assert all(can_change(slot.scene) for slot in slots if slot.changes)
    assert sum(slot.changes for slot in slots) <= 3


def test_without_another_preset_there_is_one():
    assert options().presets == ('dense',)
    assert options(compare='combined').presets == PAIR
    assert options(task='all').settings()['compare'] == 'none'


@pytest.mark.parametrize(
    ('changes', 'expected'),
    [
        ({'task': 'juggle'}, 'unknown task "juggle", expected one of: pick, .*, all'),
        ({'execution': 'fast'}, 'unknown execution "fast", expected one of: replan, blend'),
        ({'preset': 'fast'}, "preset 'fast' is unknown, expected one of dense"),
        ({'compare': 'fast'}, "preset 'fast' is unknown, expected one of dense"),
        ({'compare': 'dense'}, '--compare dense: expected another preset than --preset dense'),
    ],
)
def test_options_that_cannot_be_used_are_named(changes, expected):
    with pytest.raises(InputError, match=expected):
        options(**changes)
