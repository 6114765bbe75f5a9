"""Goals: what an instruction asks for, in which words, and what a text asks for."""

from __future__ import annotations

import re
from dataclasses import dataclass

from efficientvla_ros.simulation.objects import DRAWER, OBJECT_MODELS, PLATE
from efficientvla_ros.types import InputError

PICK, MOVE_NEAR, OPEN_DRAWER = 'pick', 'move_near', 'open_drawer'
CLOSE_DRAWER, PLACE_DRAWER, PLACE_PLATE = 'close_drawer', 'place_drawer', 'place_plate'
TASKS = (PICK, MOVE_NEAR, OPEN_DRAWER, CLOSE_DRAWER, PLACE_DRAWER, PLACE_PLATE)
DRAWER_TASKS = (OPEN_DRAWER, CLOSE_DRAWER)

ALL_TASKS = 'all'
"""Name that stands for one task after the other."""

TEMPLATES = {
    PICK: ('pick {}', 'pick the {}', 'pick up the {}'),
    MOVE_NEAR: ('move {} near {}', 'move the {} near the {}', 'put the {} next to the {}'),
    OPEN_DRAWER: ('open drawer', 'open the drawer', 'pull the drawer open'),
    CLOSE_DRAWER: ('close drawer', 'close the drawer', 'push the drawer shut'),
    PLACE_DRAWER: (
        'place {} in drawer', 'place the {} in the drawer', 'put the {} into the drawer',
    ),
    PLACE_PLATE: ('put {} on plate', 'put the {} on the plate', 'place the {} onto the plate'),
}  # fmt: skip
"""Wordings of each task; the gaps are the target and, in `move_near`, the reference."""

_REFERENCE = {PLACE_DRAWER: DRAWER, PLACE_PLATE: PLATE}
_NEAR = re.compile(r'\b(near|next to|close to|beside|by)\b')
_OPENS, _CLOSES = re.compile(r'\b(open|pull)\b'), re.compile(r'\b(close|shut|push)\b')


@dataclass(frozen=True)
class Goal:
    """What the robot is asked to do.

    Attributes:
        task: one of `TASKS`.
        target: the object that is to be moved, 'drawer' where the drawer itself is.
        reference: where to: an object, 'plate', 'drawer', or '' where the task has no place.

    Raises:
        InputError: no such task or object, or the two do not go together.
    """

    task: str
    target: str = DRAWER
    reference: str = ''

    def __post_init__(self) -> None:
        """Checks that the parts go together."""
        check_task(self.task)
        if self.task in DRAWER_TASKS:
            if (self.target, self.reference) != (DRAWER, ''):
                raise InputError(f'{self.task} has no target but the drawer')
            return
        names = (self.target, self.reference) if self.task == MOVE_NEAR else (self.target,)
        for name in names:
            if name not in OBJECT_MODELS:
                expected = ', '.join(OBJECT_MODELS)
                raise InputError(f'unknown object "{name}", expected one of: {expected}')
        if self.task == MOVE_NEAR and self.target == self.reference:
            raise InputError(f'"{self.target}" cannot be moved near itself')
        if self.task != MOVE_NEAR and self.reference != _REFERENCE.get(self.task, ''):
            raise InputError(f'{self.task} does not go to "{self.reference}"')

    def instruction(self, template: int = 0) -> str:
        """Returns the goal in words; `template` counts the wordings of the task."""
        return TEMPLATES[self.task][template].format(self.target, self.reference)

    def with_target(self, target: str) -> Goal:
        """Returns the same goal for another object.

        Raises:
            InputError: the task has no such target.
        """
        return Goal(self.task, target, self.reference)


def goal_for(task: str, target: str, reference: str = '') -> Goal:
    """Returns a goal whose reference follows from the task, but for `move_near`; see `Goal`."""
    return Goal(task, target, reference or _REFERENCE.get(task, ''))


def check_task(task: str) -> None:
    """Raises InputError where there is no such task."""
    if task not in TASKS:
        raise InputError(f'unknown task "{task}", expected one of: {", ".join(TASKS)}')


def instruction_for(task: str, target: str, template: int = 0, reference: str = '') -> str:
    """Returns the instruction that asks for an object.

    Raises:
        InputError: no such task or object.
    """
    return goal_for(task, target, reference).instruction(template)


def parse_goal(text: str) -> Goal | None:
    """Returns the goal that a text names, or None where it names none or several.

    Without a drawer, a plate or a word of nearness, a text that names one object asks for it to
    be picked.
    """
    words = ' '.join(re.findall(r'[a-z]+', text.lower()))
    named = [name for _, name in sorted(_mentions(words))]
    if re.search(rf'\b{DRAWER}\b', words):
        return _drawer_goal(words, named)
    near = _NEAR.search(words)
    if re.search(rf'\b{PLATE}\b', words):
        return goal_for(PLACE_PLATE, named[0]) if len(named) == 1 and not near else None
    if near:
        return Goal(MOVE_NEAR, *named) if len(named) == 2 else None
    return Goal(PICK, named[0]) if len(named) == 1 else None


def parse_instruction(text: str) -> str | None:
    """Returns the object that a text asks to pick, or None where it asks for anything else."""
    goal = parse_goal(text)
    return goal.target if goal is not None and goal.task == PICK else None


def _mentions(words: str) -> list[tuple[int, str]]:
    found = ((re.search(rf'\b{name}\b', words), name) for name in OBJECT_MODELS)
    return [(match.start(), name) for match, name in found if match]


def _drawer_goal(words: str, named: list[str]) -> Goal | None:
    opens, closes = _OPENS.search(words), _CLOSES.search(words)
    if len(named) == 1 and re.search(r'\b(in|into)\b', words):
        return goal_for(PLACE_DRAWER, named[0])
    if named or bool(opens) == bool(closes):
        return None
    return Goal(OPEN_DRAWER if opens else CLOSE_DRAWER)
