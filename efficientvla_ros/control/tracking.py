"""Follows a reference as fast as limits of position, velocity and acceleration allow.

A joint is a double integrator with a constant acceleration over each interval of a grid, which a
cubic through the grid's points reproduces exactly: what holds here holds between the points too.

The reference is followed twice. Backward in time, from rest at its end: the result brakes and
speeds up early enough to stay within the limits. Then forward from where the joints are, with a
little more acceleration, so that what they are behind is made up for.
"""

from __future__ import annotations

import math

import numpy as np

from efficientvla_ros.control.motion_limits import MotionLimits

_SHARE = 0.8  # of the acceleration limit that the reference may take; the rest catches up
_END_SHARE = 0.7  # of it that braking before the end of a joint's range counts on
_LEAST_WEIGHT = 0.3
_AT_REST = 1e-9


def track(
    start: tuple[np.ndarray, np.ndarray],
    positions: np.ndarray,
    velocities: np.ndarray,
    period: float,
    limits: MotionLimits,
    longest_tail: float = 20.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the motion from a state along a reference to rest at its last point.

    Args:
        start: position and velocity [joints] at the first point of the grid.
        positions: [points, joints] of the reference on the grid, rad or m.
        velocities: [points, joints] of the reference; the last row is zero.
        period: of the grid, s.
        limits: of the joints; the acceleration limit must be finite.
        longest_tail: the longest time after the reference's end that is spent to reach it, s.

    Returns:
        Positions and velocities [points or more, joints] on the grid; the last velocity is zero.
    """
    limits = limits.around(*start)
    calm = MotionLimits(limits.lower, limits.upper, limits.velocity, _SHARE * limits.acceleration)
    ahead = _Follower(calm, period)
    ahead.begin(positions[-1], np.zeros(len(start[0])))
    ahead.follow(positions[::-1], -velocities[::-1])
    reference = np.array(ahead.positions)[::-1], -np.array(ahead.velocities)[::-1]
    follower = _Follower(limits, period)
    follower.begin(*start)
    follower.follow(*reference)
    follower.finish(positions[-1], round(longest_tail / period))
    return np.array(follower.positions), np.array(follower.velocities)


class _Follower:
    """Joints on their way; plain floats, which for six joints are faster than arrays."""

    def __init__(self, limits: MotionLimits, period: float) -> None:
        self._lower = limits.lower.tolist()
        self._upper = limits.upper.tolist()
        self._velocity = limits.velocity.tolist()
        self._acceleration = limits.acceleration.tolist()
        self._period = period

    def begin(self, position: np.ndarray, velocity: np.ndarray) -> None:
        self._position, self._speed = position.tolist(), velocity.tolist()
        self.positions, self.velocities = [self._position], [self._speed]

    def follow(self, positions: np.ndarray, velocities: np.ndarray) -> None:
        """Takes one step for each interval of a reference [points, joints]."""
        pushes = (np.diff(velocities, axis=0) / self._period).tolist()
        for row in zip(positions.tolist(), velocities.tolist(), pushes):
            self._step(*row)

    def finish(self, goal: np.ndarray, most: int) -> None:
        """Goes to a point and rests there; after too many steps it rests where it can."""
        target, still = goal.tolist(), [0.0] * len(goal)
        for _ in range(most):
            if self._rests_at(target):
                break
            self._step(target, still, still)
        while max(map(abs, self._speed)) > _AT_REST:
            self._step(self._position, self._speed, still, stopping=True)
        self.velocities[-1] = still

    def _rests_at(self, target: list[float]) -> bool:
        far = max(abs(a - b) for a, b in zip(self._position, target))
        return far < 1e-6 and max(map(abs, self._speed)) < _AT_REST

    def _step(
        self,
        target: list[float],
        rate: list[float],
        push: list[float],
        stopping: bool = False,
    ) -> None:
        """One interval toward a reference.

        Args:
            target: where the reference is.
            rate: its velocity.
            push: its acceleration.
            stopping: brake to rest instead.
        """
        period = self._period
        errors = [p - r for p, r in zip(self._position, target)]
        largest = max(map(abs, errors))
        positions, speeds = [], []
        for joint, error in enumerate(errors):
            position, speed = self._position[joint], self._speed[joint]
            strongest = self._acceleration[joint]
            if stopping:
                wanted = -speed / period
            else:
                given = min(max(push[joint], -_SHARE * strongest), _SHARE * strongest)
                # Joints that have less to make up for take it slower: a straight line to there.
                weight = max(abs(error) / largest, _LEAST_WEIGHT) if largest > 1e-5 else 1.0
                room = weight * (strongest - abs(given))
                wanted = given + _pull(error, speed - rate[joint], room, period)
            low, high = self._range(joint, position, speed)
            push_now = max(low, min(high, wanted))
            positions.append(position + period * (speed + 0.5 * period * push_now))
            speeds.append(speed + period * push_now)
        self._position, self._speed = positions, speeds
        self.positions.append(positions)
        self.velocities.append(speeds)

    def _range(self, joint: int, position: float, speed: float) -> tuple[float, float]:
        """Accelerations after which the joint can still be stopped within all its limits."""
        period, most = self._period, self._acceleration[joint]
        fastest = self._velocity[joint]
        high = min(
            most,
            (fastest - speed) / period,
            _highest(self._upper[joint] - position, speed, _END_SHARE * most, period),
        )
        low = max(
            -most,
            (-fastest - speed) / period,
            -_highest(position - self._lower[joint], -speed, _END_SHARE * most, period),
        )
        return min(low, most), max(high, -most)


def _highest(room: float, speed: float, most: float, period: float) -> float:
    """The largest acceleration for one interval after which braking ends before the limit.

    Args:
        room: distance to the limit.
        speed: toward the limit.
        most: largest deceleration.
        period: length of the interval, s.
    """
    if room == math.inf:
        return math.inf
    excess = 2.0 * room - speed * period
    if excess < 0.0:  # it has to turn back within the interval
        return -speed * speed / (2.0 * room) if room > 0.0 else -most
    end = 0.5 * (math.sqrt(most * period * (most * period) + 4.0 * most * excess) - most * period)
    return (end - speed) / period


def _pull(error: float, rate: float, most: float, period: float) -> float:
    """Time-optimal acceleration that brings an error and its rate to zero on a grid.

    Han's discrete-time optimal law. It is made for Euler's rule; with the error half an interval
    back that rule is exact for a constant acceleration over an interval.
    """
    error -= 0.5 * period * rate
    step = most * period
    reach = error + period * rate
    if abs(reach) > step * period:
        root = math.sqrt(step * step + 8.0 * most * abs(reach))
        surface = rate + math.copysign(0.5 * (root - step), reach)
    else:
        surface = rate + reach / period
    if abs(surface) > step:
        return -math.copysign(most, surface)
    return -most * surface / step
