"""The true state of the table, as the expert and the success predicates see it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from efficientvla_ros.simulation.cabinet import HANDLE_HALF_WIDTH, Cabinet
from efficientvla_ros.simulation.objects import OBJECT_MODELS

OPEN_ENOUGH = 0.039
"""Travel of a finger from which on the gripper counts as open, m."""

_GRIP_SLACK = 0.004
_BETWEEN = np.array([0.018, 0.020, 0.030])


@dataclass
class TableState:
    """Tool, objects and furniture.

    Attributes:
        tcp: float64 [3] position of the tool in the base frame, m.
        opening: travel of one finger, m (0 = closed).
        objects: object name -> centre float64 [3] in the base frame, m.
        plate: centre of the plate float64 [3], None where there is none.
        cabinet: where it stands and how far its drawer is out, None where there is none.
        tilts: object name -> angle between its axis and the vertical, rad; upright if absent.
        drawer_shift: part of the drawer's opening that came from outside, not from the arm, m.
    """

    tcp: np.ndarray
    opening: float
    objects: Mapping[str, np.ndarray] = field(default_factory=dict)
    plate: np.ndarray | None = None
    cabinet: Cabinet | None = None
    tilts: Mapping[str, float] = field(default_factory=dict)
    drawer_shift: float = 0.0

    @property
    def open(self) -> bool:
        """Whether the gripper is open."""
        return self.opening >= OPEN_ENOUGH

    def holds(self, name: str) -> bool:
        """Whether the object is between the fingers."""
        return bool(np.all(np.abs(self.objects[name] - self.tcp) < _BETWEEN))

    def grips(self, name: str) -> bool:
        """Whether the fingers touch the object from both sides."""
        return self.holds(name) and self.opening < OBJECT_MODELS[name].radius + _GRIP_SLACK

    def holds_handle(self) -> bool:
        """Whether the drawer's handle is between the fingers."""
        if self.cabinet is None:
            return False
        return bool(np.all(np.abs(self.cabinet.handle - self.tcp) < _BETWEEN))

    def grips_handle(self) -> bool:
        """Whether the fingers touch the drawer's handle from both sides."""
        return self.holds_handle() and self.opening < HANDLE_HALF_WIDTH + _GRIP_SLACK
