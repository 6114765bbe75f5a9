"""What the arm is doing, from the state of the table."""

from __future__ import annotations

import numpy as np
import pytest

from efficientvla_ros.simulation.expert import TableState
from efficientvla_ros.simulation.phases import PHASES, phase

CAN = np.array([0.4, 0.1, 0.03])


@pytest.mark.parametrize(
    ('offset', 'opening', 'expected'),
    [
        ((0.1, 0.0, 0.1), 0.04, 'approach'),
        ((0.0, 0.02, 0.1), 0.04, 'descend'),
        ((0.0, 0.0, 0.0), 0.04, 'descend'),
        ((0.0, 0.0, 0.0), 0.036, 'grasp'),
        ((0.0, 0.0, 0.0), 0.0, 'lift'),
        ((0.1, 0.0, 0.1), 0.0, 'grasp'),
    ],
)
def test_phases_follow_from_geometry(offset, opening, expected):
    state = TableState(CAN + offset, opening, {'orange': CAN})
    assert phase(state, 'orange') == expected
    assert expected in PHASES
