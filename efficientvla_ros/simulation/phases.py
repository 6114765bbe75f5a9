"""What the arm is doing, read off the true state of the table."""

from __future__ import annotations

import numpy as np

from efficientvla_ros.simulation.expert import TableState

PHASES = ('approach', 'descend', 'grasp', 'lift')
"""In their usual order; see `phase`."""

_OPEN_ENOUGH = 0.039
_ABOVE = 0.03


def phase(state: TableState, target: str) -> str:
    """Returns one of `PHASES`.

    `lift` while the fingers touch the target from both sides, `grasp` while they are not open
    otherwise, `descend` with open fingers within 3 cm of the target's vertical, else `approach`.

    Args:
        state: of arm and objects.
        target: name of the object that is asked for.
    """
    if state.opening < _OPEN_ENOUGH:
        return 'lift' if state.grips(target) else 'grasp'
    offset = state.objects[target][:2] - state.tcp[:2]
    return 'descend' if float(np.linalg.norm(offset)) < _ABOVE else 'approach'
