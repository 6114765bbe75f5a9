"""Notices that the node's clock jumps or stands still; free of ROS."""

from __future__ import annotations

from collections import deque
from statistics import median

from efficientvla_ros.control.reasons import HoldReason

JUMP_S = 1.0
"""Steps beyond this are a jump, s of the node's clock."""

STANDSTILL_S = 1.0
"""A clock that shows the same time for longer than this stands still, s of real time."""

_FASTER = 3.0  # steps up to this many times what the clock's rate lets expect are no jump


class ClockWatch:
    """Compares the node's clock with a steady one, look by look. For one thread.

    A simulator's clock may run at any rate: it is learnt from the newest looks.
    """

    def __init__(self) -> None:
        """Has not looked yet."""
        self.restart()

    def restart(self) -> None:
        """Forgets the looks before."""
        self._last: tuple[int, float] | None = None
        self._changed_s = 0.0
        self._rates: deque[float] = deque(maxlen=5)

    def look(self, node_ns: int, steady_s: float) -> tuple[HoldReason, str] | None:
        """Compares both clocks; call it several times a second.

        Args:
            node_ns: the node's clock, ns; 0 while it has not started.
            steady_s: a clock that never jumps, s.

        Returns:
            CLOCK_JUMPED or CLOCK_STOPPED with one line of detail; None when all is well.
        """
        last, self._last = self._last, (node_ns, steady_s)
        if last is None or last[0] == 0 or node_ns == 0:
            self._changed_s = steady_s
            return None
        step, lapse = (node_ns - last[0]) * 1e-9, steady_s - last[1]
        if step == 0.0:
            return self._standstill(steady_s)
        self._changed_s = steady_s
        rate = median(self._rates) if self._rates else 1.0
        if step > 0.0 and lapse > 0.0:
            self._rates.append(step / lapse)
        if step < -JUMP_S:
            return HoldReason.CLOCK_JUMPED, f'the clock jumped back by {-step:.2f} s'
        if step > JUMP_S + _FASTER * max(rate, 1.0) * lapse:
            return HoldReason.CLOCK_JUMPED, f'the clock jumped ahead by {step - lapse:.2f} s'
        return None

    def _standstill(self, steady_s: float) -> tuple[HoldReason, str] | None:
        still = steady_s - self._changed_s
        if still < STANDSTILL_S:
            return None
        return HoldReason.CLOCK_STOPPED, f'the clock has not moved for {still:.1f} s'
