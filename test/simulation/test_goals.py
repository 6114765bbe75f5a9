"""Instructions: every wording is understood, free text names one goal or none."""

from __future__ import annotations

import pytest

from efficientvla_ros.simulation.goals import TASKS, TEMPLATES, Goal, goal_for, parse_goal
from efficientvla_ros.simulation.objects import OBJECT_MODELS
from efficientvla_ros.types import InputError

NAMES = tuple(OBJECT_MODELS)


def _goals(task: str) -> list[Goal]:
    if task in ('open_drawer', 'close_drawer'):
        return [Goal(task)]
    if task == 'move_near':
        return [Goal(task, a, b) for a in NAMES for b in NAMES if a != b]
    return [goal_for(task, name) for name in NAMES]


@pytest.mark.parametrize('task', TASKS)
def test_every_wording_names_its_goal_alone(task):
    texts = set()
    for template in range(len(TEMPLATES[task])):
        for goal in _goals(task):
            text = goal.instruction(template)
            assert parse_goal(text) == goal
            texts.add(text)
    assert len(texts) == len(TEMPLATES[task]) * len(_goals(task))


@pytest.mark.parametrize(
    ('text', 'expected'),
    [
        ('Please OPEN the drawer!', Goal('open_drawer')),
        ('shut the drawer', Goal('close_drawer')),
        ('drop the apple into the open drawer', goal_for('place_drawer', 'apple')),
        ('move the orange close to the blue can', Goal('move_near', 'orange', 'blue can')),
        ('put the blue can beside the orange', Goal('move_near', 'blue can', 'orange')),
        ('cube on plate', goal_for('place_plate', 'cube')),
        ('grab the cup', Goal('pick', 'cup')),
        ('open and close the drawer', None),
        ('drawer', None),
        ('open the drawer and pick the apple', None),
        ('move the apple near the plate', None),
        ('move the apple near', None),
        ('move the apple near the cup and the cube', None),
        ('put the apple and the cup on the plate', None),
    ],
)
def test_free_text_names_one_goal_or_none(text, expected):
    assert parse_goal(text) == expected


@pytest.mark.parametrize(
    ('parts', 'named'),
    [
        (('juggle', 'apple'), 'unknown task "juggle"'),
        (('pick', 'banana'), 'unknown object "banana"'),
        (('move_near', 'apple', 'apple'), 'cannot be moved near itself'),
        (('move_near', 'apple'), 'unknown object ""'),
        (('open_drawer', 'apple'), 'no target but the drawer'),
        (('place_plate', 'apple', 'drawer'), 'does not go to "drawer"'),
    ],
)
def test_impossible_goals_are_refused(parts, named):
    with pytest.raises(InputError, match=named):
        Goal(*parts)
