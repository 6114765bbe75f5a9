"""The recent past of the joints, to know where the arm was when a picture was taken."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import deque

import numpy as np

from efficientvla_ros.types import JointState


class JointHistory:
    """The newest joint states in order of time; safe to fill and ask from different threads."""

    def __init__(self, capacity: int = 200, max_gap_s: float = 0.5) -> None:
        """Sets up an empty history.

        Args:
            capacity: number of joint states that are kept.
            max_gap_s: how far outside the kept span a time may lie and still be answered, s.

        Raises:
            ValueError: capacity < 1 or max_gap_s < 0.
        """
        if capacity < 1 or max_gap_s < 0.0:
            raise ValueError(
                f'capacity {capacity} and max_gap_s {max_gap_s}: expected >= 1 and >= 0'
            )
        self._states: deque[JointState] = deque(maxlen=capacity)
        self._max_gap_ns = round(max_gap_s * 1e9)
        self._lock = threading.Lock()

    def add(self, state: JointState) -> None:
        """Appends a joint state.

        A change of names, or a clock that jumped back by more than the kept span, starts the
        history anew; a single late state is dropped.
        """
        with self._lock:
            if self._states:
                if state.names != self._states[-1].names:
                    self._states.clear()
                elif state.stamp_ns <= self._states[-1].stamp_ns:
                    if state.stamp_ns >= self._states[0].stamp_ns:
                        return
                    self._states.clear()
            self._states.append(state)

    def clear(self) -> None:
        """Forgets everything."""
        with self._lock:
            self._states.clear()

    @property
    def newest(self) -> JointState | None:
        """The newest joint state, None when empty."""
        with self._lock:
            return self._states[-1] if self._states else None

    @property
    def states(self) -> tuple[JointState, ...]:
        """What is kept, the oldest first."""
        with self._lock:
            return tuple(self._states)

    def at(self, stamp_ns: int) -> np.ndarray | None:
        """Returns the positions [joints] at a time in ns, as `state_at`."""
        state = self.state_at(stamp_ns)
        return None if state is None else state.positions

    def state_at(self, stamp_ns: int) -> JointState | None:
        """Returns the joint state at a time in ns; positions and velocities are interpolated.

        Outside the kept span the nearest end is returned, up to `max_gap_s` away. None when the
        history is empty or the time is further away than that. Velocities are None where one of
        the two neighbours has none.
        """
        with self._lock:
            states = list(self._states)
        if not states:
            return None
        if (
            stamp_ns < states[0].stamp_ns - self._max_gap_ns
            or stamp_ns > states[-1].stamp_ns + self._max_gap_ns
        ):
            return None
        after = bisect_left([state.stamp_ns for state in states], stamp_ns)
        if after == 0 or after == len(states):
            end = states[0] if after == 0 else states[-1]
            positions = np.array(end.positions, dtype=np.float64)
            return JointState(end.names, positions, stamp_ns, end.velocities)
        low, high = states[after - 1], states[after]
        fraction = (stamp_ns - low.stamp_ns) / (high.stamp_ns - low.stamp_ns)
        positions = low.positions + fraction * (high.positions - low.positions)
        velocities = None
        if low.velocities is not None and high.velocities is not None:
            velocities = low.velocities + fraction * (high.velocities - low.velocities)
        return JointState(low.names, positions, stamp_ns, velocities)
