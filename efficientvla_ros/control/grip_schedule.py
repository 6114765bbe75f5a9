"""When the gripper is told to open and to close."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from efficientvla_ros.control.config import ControlConfig
from efficientvla_ros.control.gripper import gripper_states
from efficientvla_ros.control.tool_path import ToolPath


@dataclass(frozen=True)
class GripSchedule:
    """What the gripper was told last, step by step.

    Attributes:
        start_ns: when the first step begins to count, ns.
        due_ns: int64 [steps], when each step ends, ns.
        opened: whether the gripper is to be open in each step; None where it was never told.
        before: what it was told before `start_ns`.
    """

    start_ns: int = 0
    due_ns: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    opened: tuple[bool | None, ...] = ()
    before: bool | None = None

    def is_open(self, time_ns: int) -> bool | None:
        """What the gripper is told at a time, None when nothing was told."""
        if not self.opened:
            return None
        if time_ns <= self.start_ns and self.before is not None:
            return self.before
        step = int(np.searchsorted(self.due_ns, time_ns))
        return self.opened[min(step, len(self.opened) - 1)]

    def followed_by(self, path: ToolPath, start_ns: int, config: ControlConfig) -> GripSchedule:
        """Returns what a path tells the gripper from a time on, with hysteresis."""
        before = self.is_open(start_ns)
        opened = gripper_states(
            path.gripper, config.gripper_threshold, config.gripper_hysteresis, before
        )
        return GripSchedule(start_ns, path.times_ns, tuple(opened.tolist()), before)

    def kept(self, now_ns: int) -> GripSchedule:
        """Returns what the gripper is told now, for good."""
        return GripSchedule(now_ns, np.array([now_ns]), (self.is_open(now_ns),))

    def positions(self, times_ns: np.ndarray, config: ControlConfig) -> np.ndarray:
        """Returns where the gripper joint is told to be at times: [times], open or closed."""
        opened = [self.is_open(time_ns) for time_ns in times_ns.tolist()]
        return np.where(opened, config.gripper_open, config.gripper_closed)
