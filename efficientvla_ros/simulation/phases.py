"""What the arm is doing, read off the true state of the table."""

from __future__ import annotations

import numpy as np

from efficientvla_ros.simulation.objects import DRAWER
from efficientvla_ros.simulation.table_state import TableState

PHASES = ('approach', 'descend', 'grasp', 'lift')
"""In their usual order; see `phase`."""

_OPEN_ENOUGH = 0.039
_ABOVE = 0.03


def phase(state: TableState, target: str) -> str:
    """Returns one of `PHASES`.

    `lift` while the fingers touch the target (the drawer's handle, where the drawer is the
    target) from both sides, so also while it is carried or pulled, `grasp` while they are not open
    otherwise, `descend` with open fingers within 3 cm of the target's vertical, else `approach`.

    Args:
        state: of arm and objects.
        target: name of the object that is asked for.
    """
    drawer = target == DRAWER
    if state.opening < _OPEN_ENOUGH:
        grips = state.grips_handle() if drawer else state.grips(target)
        return 'lift' if grips else 'grasp'
    place = state.cabinet.handle if drawer else state.objects[target]
    offset = place[:2] - state.tcp[:2]
    return 'descend' if float(np.linalg.norm(offset)) < _ABOVE else 'approach'
