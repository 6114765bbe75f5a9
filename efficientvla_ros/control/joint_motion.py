"""From joint waypoints to a motion that keeps all limits, also between the waypoints."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from efficientvla_ros.control.limits import limit_velocity
from efficientvla_ros.control.motion_limits import MotionLimits
from efficientvla_ros.control.reasons import Intervention
from efficientvla_ros.control.tracking import track
from efficientvla_ros.control.trajectory import Trajectory, waypoint_velocities

_GRID_NS = 20_000_000
_RISE_S = 0.05  # from rest to full speed where no acceleration limit is set
_CHANGED = 1e-3  # rad or m


def joint_motion(
    position: np.ndarray,
    velocity: np.ndarray,
    start_ns: int,
    due_ns: np.ndarray,
    waypoints: np.ndarray,
    limits: MotionLimits,
) -> tuple[Trajectory, dict[Intervention, int]]:
    """Goes from a state through waypoints to rest at the last one, within the limits.

    Cubics through the waypoints where these keep the limits; otherwise a grid of points that
    follows them as closely as the limits allow, and comes to rest a little later if need be.

    Args:
        position: [joints] at the start, rad or m.
        velocity: [joints] at the start.
        start_ns: time of the start, ns.
        due_ns: int64 [steps], when each waypoint is due, all after the start, ns.
        waypoints: [steps, joints] within the joint limits.
        limits: of the joints.

    Returns:
        The motion from the start on, and the limits that changed it, in steps.
    """
    counts: dict[Intervention, int] = {}
    times = (due_ns - start_ns) * 1e-9
    wanted, counts[Intervention.JOINT_VELOCITY] = limit_velocity(
        position, times, waypoints, limits.velocity
    )
    cubics = _cubics(position, velocity, start_ns, due_ns, wanted)
    beyond = limits.around(position, velocity).broken_by(cubics)
    if not any(beyond):
        return cubics, counts
    motion = _tracked(cubics, limits)
    reached = motion.sample_all(due_ns)[0]
    steps = max(1, int((np.abs(reached - wanted) > _CHANGED).any(axis=1).sum()))
    names = (
        Intervention.JOINT_LIMIT,
        Intervention.JOINT_VELOCITY,
        Intervention.JOINT_ACCELERATION,
    )
    for name, broken in zip(names, beyond, strict=True):
        if broken:
            counts[name] = max(counts.get(name, 0), steps)
    return motion, counts


def _cubics(
    position: np.ndarray,
    velocity: np.ndarray,
    start_ns: int,
    due_ns: np.ndarray,
    waypoints: np.ndarray,
) -> Trajectory:
    times_ns = np.concatenate([[start_ns], due_ns])
    positions = np.vstack([position, waypoints])
    velocities = waypoint_velocities((times_ns - start_ns) * 1e-9, positions)
    velocities[0] = velocity
    return Trajectory(times_ns, positions, velocities)


def _tracked(cubics: Trajectory, limits: MotionLimits) -> Trajectory:
    """Follows cubics on a grid of at most 20 ms."""
    start_ns, end_ns = int(cubics.times_ns[0]), int(cubics.times_ns[-1])
    intervals = max(2, -(-(end_ns - start_ns) // _GRID_NS))
    grid_ns = -(-(end_ns - start_ns) // intervals)
    times_ns = start_ns + grid_ns * np.arange(intervals + 1)
    most = np.where(np.isinf(limits.acceleration), limits.velocity / _RISE_S, limits.acceleration)
    positions, velocities = track(
        (cubics.positions[0], cubics.velocities[0]),
        *cubics.sample_all(times_ns),
        grid_ns * 1e-9,
        replace(limits, acceleration=most),
    )
    return Trajectory(start_ns + grid_ns * np.arange(len(positions)), positions, velocities)
