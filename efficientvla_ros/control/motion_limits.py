"""Limits of the joints' motion, at every instant of a trajectory made of cubics."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from efficientvla_ros.control.trajectory import Trajectory

_SLACK = 1e-6


@dataclass(frozen=True)
class MotionLimits:
    """Limits of the joints.

    Attributes:
        lower: float64 [joints], lowest position, rad or m; -inf for none.
        upper: float64 [joints], highest position, rad or m; inf for none.
        velocity: float64 [joints], rad/s or m/s.
        acceleration: float64 [joints], rad/s^2 or m/s^2; inf for none.
    """

    lower: np.ndarray
    upper: np.ndarray
    velocity: np.ndarray
    acceleration: np.ndarray

    def around(self, position: np.ndarray, velocity: np.ndarray) -> MotionLimits:
        """Returns the limits for a motion from a state [joints] that may be beyond them.

        Joints outside their range are not pulled in at once: they go no further out than it
        takes to brake.
        """
        way = 0.5 * velocity * np.abs(velocity) / self.acceleration
        ends = position, position + way
        return MotionLimits(
            np.minimum(self.lower, np.minimum(*ends)),
            np.maximum(self.upper, np.maximum(*ends)),
            self.velocity,
            self.acceleration,
        )

    def broken_by(self, trajectory: Trajectory) -> tuple[bool, bool, bool]:
        """Whether cubics leave the range, are too fast, accelerate too much; at any instant."""
        begin, end = trajectory.positions[:-1], trajectory.positions[1:]
        v0, v1 = trajectory.velocities[:-1], trajectory.velocities[1:]
        span = (np.diff(trajectory.times_ns) * 1e-9)[:, None]
        slope = (end - begin) / span
        # Over u in [0, 1] the velocity is v0 + 2 bend u + 3 twist u^2.
        bend, twist = 3.0 * slope - 2.0 * v0 - v1, v0 + v1 - 2.0 * slope
        acceleration = np.maximum(np.abs(2.0 * bend), np.abs(2.0 * bend + 6.0 * twist)) / span
        with np.errstate(divide='ignore', invalid='ignore'):
            peak = np.clip(np.nan_to_num(-bend / (3.0 * twist)), 0.0, 1.0)
            root = np.sqrt(np.maximum(bend * bend - 3.0 * twist * v0, 0.0))
            # The stable form of both zeros of the velocity: q / a and c / q.
            q = -(bend + np.where(bend >= 0.0, root, -root))
            turns = [
                np.clip(np.nan_to_num(u, posinf=0.0, neginf=0.0), 0.0, 1.0)
                for u in (q / (3.0 * twist), v0 / q)
            ]
        fastest = np.abs(v0 + peak * (2.0 * bend + 3.0 * peak * twist))
        fastest = np.maximum(fastest, np.maximum(np.abs(v0), np.abs(v1)))
        places = [begin, end]
        places += [begin + span * u * (v0 + u * (bend + u * twist)) for u in turns]
        return (
            bool(
                (np.min(places, axis=0) < self.lower - _SLACK).any()
                or (np.max(places, axis=0) > self.upper + _SLACK).any()
            ),
            bool((fastest > self.velocity * (1.0 + _SLACK) + 1e-9).any()),
            bool((acceleration > self.acceleration * (1.0 + _SLACK) + 1e-9).any()),
        )
