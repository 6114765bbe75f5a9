"""Sampling of timed joint waypoints, as joint_trajectory_controller does it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Trajectory:
    """Joint waypoints joined by straight lines, or by cubics where velocities are given.

    Before the first waypoint the first one is held, after the last one the last one.

    Attributes:
        times_ns: int64 [points], strictly increasing, ns of the node's clock.
        positions: float64 [points, joints], rad or m.
        velocities: float64 [points, joints], rad/s or m/s, or None for straight lines.
    """

    times_ns: np.ndarray
    positions: np.ndarray
    velocities: np.ndarray | None = None

    @classmethod
    def hold(cls, positions: np.ndarray, now_ns: int) -> Trajectory:
        """Returns the trajectory that stands still at positions [joints]."""
        return cls(
            np.array([now_ns], dtype=np.int64),
            np.array(positions, dtype=np.float64)[None],
        )

    def sample(self, now_ns: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns positions [joints] and velocities [joints] at a time in ns."""
        times = self.times_ns
        if now_ns < times[0] or now_ns >= times[-1]:
            positions = self.positions[0 if now_ns < times[0] else -1]
            return positions.copy(), np.zeros_like(positions)
        after = int(np.searchsorted(times, now_ns, side='right'))
        before = after - 1
        duration = (times[after] - times[before]) * 1e-9
        fraction = (now_ns - times[before]) * 1e-9 / duration
        start, end = self.positions[before], self.positions[after]
        if self.velocities is None:
            return start + fraction * (end - start), (end - start) / duration
        return _cubic(
            start, end, self.velocities[before], self.velocities[after], duration, fraction
        )

    def sample_all(self, times_ns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns positions and velocities [times, joints] at many times, ns; as `sample`."""
        times = self.times_ns
        outside = (times_ns < times[0]) | (times_ns >= times[-1])
        after = np.clip(np.searchsorted(times, times_ns, side='right'), 1, None)
        after[outside] = min(1, len(times) - 1)
        before = np.maximum(after - 1, 0)
        duration = np.where(outside, 1.0, (times[after] - times[before]) * 1e-9)[:, None]
        u = (times_ns - times[before])[:, None] * 1e-9 / duration
        start, end = self.positions[before], self.positions[after]
        if self.velocities is None:
            positions, velocities = start + u * (end - start), (end - start) / duration
        else:
            ends = self.velocities[before], self.velocities[after]
            positions, velocities = _cubic(start, end, *ends, duration, u)
        positions[times_ns < times[0]] = self.positions[0]
        positions[times_ns >= times[-1]] = self.positions[-1]
        velocities[outside] = 0.0
        return positions, velocities


def _cubic(
    start: np.ndarray,
    end: np.ndarray,
    start_velocity: np.ndarray,
    end_velocity: np.ndarray,
    duration: float | np.ndarray,
    u: float | np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Hermite cubic at fraction u of a segment: positions and velocities [(times,) joints]."""
    slope = (end - start) / duration
    bend = 3.0 * slope - 2.0 * start_velocity - end_velocity
    twist = start_velocity + end_velocity - 2.0 * slope
    positions = start + duration * u * (start_velocity + u * (bend + u * twist))
    velocities = start_velocity + u * (2.0 * bend + 3.0 * u * twist)
    return positions, velocities


def waypoint_velocities(times: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Velocities for cubics through waypoints that never overshoot a waypoint.

    Central differences, limited joint by joint (Fritsch and Carlson): zero where the direction
    changes, at most three times the smaller neighbouring slope elsewhere. So every joint moves
    monotonically between two waypoints, and limits that hold at waypoints hold in between.

    Args:
        times: float64 [points], strictly increasing, s.
        positions: float64 [points, joints].

    Returns:
        float64 [points, joints]; the first and the last row are zero.
    """
    velocities = np.zeros_like(positions)
    if len(times) < 3:
        return velocities
    slopes = np.diff(positions, axis=0) / np.diff(times)[:, None]
    central = (positions[2:] - positions[:-2]) / (times[2:] - times[:-2])[:, None]
    before, after = slopes[:-1], slopes[1:]
    bound = 3.0 * np.minimum(np.abs(before), np.abs(after))
    same_direction = before * after > 0.0
    velocities[1:-1] = np.where(same_direction, np.clip(central, -bound, bound), 0.0)
    return velocities
