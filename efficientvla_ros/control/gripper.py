"""Gripper values of a chunk to open/closed decisions, and what the gripper is told when."""

from __future__ import annotations

import numpy as np


def gripper_states(
    values: np.ndarray, threshold: float, hysteresis: float, was_open: bool | None
) -> np.ndarray:
    """Decides for each step whether the gripper is to be open.

    Args:
        values: [steps] 1 = open, 0 = closed.
        threshold: values above it mean open.
        hysteresis: closer than this to the threshold the gripper stays as it was.
        was_open: state before the first step, None when it is not known.

    Returns:
        bool [steps], True = open.
    """
    states = np.empty(len(values), dtype=bool)
    state = was_open
    for index, value in enumerate(values):
        if state is None or abs(value - threshold) >= hysteresis:
            state = bool(value > threshold)
        states[index] = state
    return states


class GripperSchedule:
    """What the gripper is told from now on; the value of a point acts from the point before on.

    A change of direction waits until the one before is `min_dwell` old. Not thread-safe.

    Attributes:
        min_dwell: shortest time between two changes, s.
    """

    def __init__(self, min_dwell: float = 0.0) -> None:
        """Starts with nothing known about the gripper."""
        self.min_dwell = min_dwell
        self.clear()

    def clear(self) -> None:
        """Forgets everything, as when the robot may have been moved by others."""
        self._begins: list[int] = []
        self._values: list[float] = []

    def _index(self, now_ns: int) -> int:
        """Index of the entry that acts at a time in ns; -1 where nothing is known."""
        return int(np.searchsorted(self._begins, now_ns, side='right')) - 1

    def value(self, now_ns: int) -> float | None:
        """What the gripper is told at a time in ns, m or rad; None when nothing is known."""
        index = self._index(now_ns)
        return None if index < 0 else self._values[index]

    def pending(self, now_ns: int) -> bool:
        """Whether a change is still to come after a time in ns."""
        return bool(self._begins) and self._begins[-1] > now_ns

    def plan(self, times_ns: np.ndarray, values: np.ndarray, now_ns: int) -> np.ndarray:
        """Replaces what has not begun yet.

        Args:
            times_ns: int64 [points] at which the steps end, ns, increasing.
            values: [points] position of the gripper joint in each step, m or rad.
            now_ns: current time, ns.

        Returns:
            float64 [points], the values that go to the gripper: some changes come later than
            asked for.
        """
        self._forget_future(now_ns)
        result = np.empty(len(values))
        begins = [now_ns, *(max(now_ns, int(time)) for time in times_ns[:-1])]
        for index, (begin_ns, value) in enumerate(zip(begins, values)):
            self._begin(begin_ns, float(value))
            result[index] = self._values[-1]
        return result

    def keep(self, now_ns: int) -> float | None:
        """Cancels what has not begun yet; returns the value that stays, None if not known."""
        self._forget_future(now_ns)
        return self._values[-1] if self._values else None

    def _forget_future(self, now_ns: int) -> None:
        index = self._index(now_ns)
        self._begins, self._values = (
            (self._begins[index : index + 1], self._values[index : index + 1])
            if index >= 0
            else ([], [])
        )

    def _begin(self, begin_ns: int, value: float) -> None:
        if self._values:
            age = (begin_ns - self._begins[-1]) * 1e-9
            if value == self._values[-1] or age < self.min_dwell:
                return
        self._begins.append(begin_ns)
        self._values.append(value)
