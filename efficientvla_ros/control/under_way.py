"""The trajectory that the arm follows now, put together from the commands that were sent."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from efficientvla_ros.control.trajectory import Trajectory

_HISTORY_NS = 5_000_000_000


@dataclass(frozen=True)
class UnderWay:
    """What a trajectory controller makes of one command after the other.

    Each command replaces the one before from its first point on; what was followed until then
    stays known for five seconds.

    Attributes:
        trajectory: of the arm's joints; None when nothing was commanded.
    """

    trajectory: Trajectory | None = None

    def __bool__(self) -> bool:
        """Whether anything was commanded."""
        return self.trajectory is not None

    def sample(self, time_ns: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns positions and velocities [joints] at a time; something must be under way."""
        return self.trajectory.sample(time_ns)

    def followed_by(self, motion: Trajectory) -> UnderWay:
        """Returns what is followed when a motion takes over that begins on the way under way."""
        old = self.trajectory
        if old is None:
            return UnderWay(motion)
        first_ns = int(motion.times_ns[0])
        kept = (old.times_ns < first_ns) & (old.times_ns > first_ns - _HISTORY_NS)
        return UnderWay(
            Trajectory(
                np.concatenate([old.times_ns[kept], motion.times_ns]),
                np.vstack([old.positions[kept], motion.positions]),
                np.vstack([old.velocities[kept], motion.velocities]),
            )
        )

    def after(self, time_ns: int) -> Trajectory:
        """Returns the points after a time; there may be none."""
        left = self.trajectory.times_ns > time_ns
        return Trajectory(
            self.trajectory.times_ns[left],
            self.trajectory.positions[left],
            self.trajectory.velocities[left],
        )
