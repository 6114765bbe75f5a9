"""How a moving arm comes to rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import takewhile

import numpy as np

from efficientvla_ros.control.motion_limits import MotionLimits
from efficientvla_ros.control.trajectory import Trajectory
from efficientvla_ros.control.under_way import UnderWay

_STEP = 1.2  # from one duration that is tried to the next
_TRIES = 12
_SHORTEST = 0.02  # s: without an acceleration limit nothing else keeps a stop from being a jump
_ARRIVALS = 4  # parts of the lead at whose ends a command may come
_DELAYS_NS = tuple(1_000_000 * ms for ms in (0, 50, 100, 200, 300, 400))
_SHARES = (0.98, 1.25, 1.6, 2.0, 4.0)  # of the acceleration limit, one after the other


Allowed = Callable[[np.ndarray], bool]
"""Whether the arm may rest at joint positions [joints]."""


def braking(
    under_way: UnderWay,
    now_ns: int,
    lead_ns: int,
    duration: float,
    limits: MotionLimits,
    allowed: Allowed,
) -> Trajectory:
    """Finds the way to rest: one cubic that keeps the limits, as soon as there is one.

    The point of rest lies ahead on the way that is planned anyway, or straight on where that needs
    less acceleration. It is found for any arrival of the command within the lead. Where no point
    will do (one joint is about to reach its limit and another needs longer) the arm goes on as
    planned, which keeps the limits, and brakes up to 0.4 s later. If that does not help either,
    range and velocity go before the acceleration, and all of them before what is allowed.

    Args:
        under_way: what the arm follows; something must be under way.
        now_ns: current time, ns.
        lead_ns: longest time that the command takes to arrive, ns.
        duration: time to rest that is wanted, s.
        limits: of the joints.
        allowed: where the arm is to rest, if a point there keeps the limits.

    Returns:
        Points from now on; the arm rests at the last one.
    """
    position, velocity = under_way.sample(now_ns)
    limits = limits.around(position, velocity)
    for share in _SHARES:
        softer = replace(limits, acceleration=share * limits.acceleration)
        for where in (allowed, _anywhere):
            for later_ns in _DELAYS_NS:
                arrival = (now_ns + later_ns, max(0, lead_ns - later_ns))
                rest = _within(under_way, arrival, duration, softer, where)
                if rest is not None:
                    return _way(under_way, now_ns, now_ns + later_ns, rest)
    ahead, _ = under_way.sample(now_ns + round(0.5e9 * duration))
    return _way(under_way, now_ns, now_ns, (now_ns + round(duration * 1e9), ahead))


def _way(
    under_way: UnderWay, now_ns: int, begin_ns: int, rest: tuple[int, np.ndarray]
) -> Trajectory:
    """As planned until the begin, from there on to rest."""
    end_ns, goal = rest
    planned = under_way.trajectory.times_ns
    between = planned[(planned > now_ns) & (planned < begin_ns)]
    times = np.unique(np.concatenate([[now_ns], between, [begin_ns]]))
    positions, velocities = zip(*(under_way.sample(int(time)) for time in times), strict=True)
    return Trajectory(
        np.append(times, end_ns),
        np.stack([*positions, goal]),
        np.stack([*velocities, np.zeros_like(goal)]),
    )


def _anywhere(_: np.ndarray) -> bool:
    return True


def _within(
    under_way: UnderWay,
    arrival: tuple[int, int],
    duration: float,
    limits: MotionLimits,
    allowed: Allowed,
) -> tuple[int, np.ndarray] | None:
    """A point of rest that keeps all limits, None when there is none."""
    now_ns, lead_ns = arrival
    position, velocity = under_way.sample(now_ns)
    least = float((np.abs(velocity) / limits.acceleration).max())
    for tried in _durations(max(duration, least), max(least, 2e-9 * lead_ns, _SHORTEST)):
        end_ns = now_ns + round(tried * 1e9)
        ahead, _ = under_way.sample(now_ns + round(0.5e9 * tried))
        straight = position + 0.5 * tried * velocity
        for goal in (ahead, np.clip(straight, limits.lower, limits.upper)):
            if allowed(goal) and not _breaks(under_way, arrival, (end_ns, goal), limits):
                return end_ns, goal
    return None


def _durations(wanted: float, least: float) -> Iterator[float]:
    """The duration that is wanted, then shorter ones (a joint is close to its end), then longer.

    All in s; none is shorter than `least` but the wanted one.
    """
    yield wanted
    yield from takewhile(lambda time: time > least, (wanted / _STEP**k for k in range(1, _TRIES)))
    yield least
    yield from (wanted * _STEP**k for k in range(1, _TRIES))


def _breaks(
    under_way: UnderWay,
    arrival: tuple[int, int],
    rest: tuple[int, np.ndarray],
    limits: MotionLimits,
) -> bool:
    """Whether a command that comes now, or as late as the lead allows, breaks a limit."""
    now_ns, lead_ns = arrival
    end_ns, goal = rest
    for begin_ns in sorted(
        {now_ns + lead_ns * part // _ARRIVALS for part in range(_ARRIVALS + 1)}
    ):
        if begin_ns >= end_ns:
            continue
        position, velocity = under_way.sample(begin_ns)
        cubic = Trajectory(
            np.array([begin_ns, end_ns]),
            np.stack([position, goal]),
            np.stack([velocity, np.zeros_like(velocity)]),
        )
        if any(limits.broken_by(cubic)):
            return True
    return False
