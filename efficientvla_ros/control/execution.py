"""How a new plan and those before it become the one path that the tool follows.

Plans overlap: each was made from an observation of its own, with a delay of its own. They are
compared by the time at which a pose is due, never by the index of a step.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from dataclasses import replace

import numpy as np

from efficientvla_ros.control.adaptive_ensemble import similarity_weights
from efficientvla_ros.control.config import ControlConfig
from efficientvla_ros.control.rotations import (
    matrix_from_rotation_vector,
    rotation_vector_from_matrix,
)
from efficientvla_ros.control.tool_path import ToolPath, mean_pose


class Execution(ABC):
    """One way to execute overlapping plans; remembers what it needs of earlier ones."""

    @abstractmethod
    def merge(self, path: ToolPath, start_ns: int, under_way: np.ndarray | None) -> ToolPath:
        """Takes the newest plan and returns the steps to execute.

        Args:
            path: the newest plan; some of its steps end after `start_ns`.
            start_ns: when the arm goes over to it, ns.
            under_way: [4, 4] where the tool is commanded to be at that time, base frame; None
                when nothing was commanded before.

        Returns:
            The steps that end after `start_ns`, due at the same times.
        """

    @abstractmethod
    def reset(self) -> None:
        """Forgets earlier plans, as for a new instruction or after a stop."""


class Replan(Execution):
    """The newest plan replaces the one before."""

    def merge(self, path: ToolPath, start_ns: int, under_way: np.ndarray | None) -> ToolPath:
        """Returns what is left of the newest plan."""
        return path.after(start_ns)

    def reset(self) -> None:
        """Has nothing to forget."""


class Blend(Execution):
    """The path starts where the plan before has led and fades over to the newest one.

    The offset between the two at the switch-over is added to the newest plan and goes to zero,
    smoothly at both ends, within `steps` steps. The gripper follows the newest plan alone.
    """

    def __init__(self, steps: int) -> None:
        """`steps` is the length of the fade, in steps of the plan."""
        self._steps = steps
        self.reset()

    def reset(self) -> None:
        """Takes the next plan as it is."""
        self._follows = False

    def merge(self, path: ToolPath, start_ns: int, under_way: np.ndarray | None) -> ToolPath:
        """Returns what is left of the newest plan, with the fading offset on it."""
        left = path.after(start_ns)
        follows, self._follows = self._follows, True
        if not follows or under_way is None:
            return left
        planned = path.at(start_ns)
        shift = under_way[:3, 3] - planned[:3, 3]
        turn = rotation_vector_from_matrix(under_way[:3, :3] @ planned[:3, :3].T)
        poses = left.poses.copy()
        for pose, time_ns in zip(poses, left.times_ns, strict=True):
            weight = _fade((int(time_ns) - start_ns) / (self._steps * path.step_ns))
            pose[:3, 3] += weight * shift
            pose[:3, :3] = matrix_from_rotation_vector(weight * turn) @ pose[:3, :3]
        return replace(left, poses=poses)


class Ensemble(Execution):
    """Averages what all plans that reach that far say about each due time of the newest one."""

    def __init__(self, window: int) -> None:
        """`window` is the number of plans that are averaged at most."""
        self._paths: deque[ToolPath] = deque(maxlen=window)

    def reset(self) -> None:
        """Forgets all plans."""
        self._paths.clear()

    def merge(self, path: ToolPath, start_ns: int, under_way: np.ndarray | None) -> ToolPath:
        """Returns the average over the steps that are left of the newest plan."""
        self._paths.append(path)
        left = path.after(start_ns)
        poses, gripper = left.poses.copy(), left.gripper.copy()
        for step, time_ns in enumerate(left.times_ns.tolist()):
            paths = [known for known in self._paths if known.covers(time_ns)]
            weights = self._weights(paths, time_ns)
            poses[step] = mean_pose(np.stack([known.at(time_ns) for known in paths]), weights)
            values = np.array([known.gripper_at(time_ns) for known in paths])
            gripper[step] = weights @ values / weights.sum()
        return replace(left, poses=poses, gripper=gripper)

    @abstractmethod
    def _weights(self, paths: list[ToolPath], time_ns: int) -> np.ndarray:
        """Weights [paths] at a time, oldest plan first."""


class TemporalEnsemble(Ensemble):
    """ACT's temporal ensemble (arXiv 2304.13705): exp(-decay * i), i = 0 for the oldest plan."""

    def __init__(self, window: int, decay: float) -> None:
        """A larger `decay` trusts older plans more; 0 gives the plain mean."""
        super().__init__(window)
        self._decay = decay

    def _weights(self, paths: list[ToolPath], time_ns: int) -> np.ndarray:
        return np.exp(-self._decay * np.arange(len(paths)))


class AdaptiveEnsemblePaths(Ensemble):
    """CogACT's adaptive ensemble for plans that overlap in time.

    What is compared is what each plan means to do during the step that ends at the time: its
    motion [m, rad] and its gripper value. Poses are averaged, so plans agree about where the tool
    is to be and not only about which way to go.
    """

    def __init__(self, window: int, alpha: float) -> None:
        """`alpha` says how much the similarity to the newest plan counts (CogACT: 0.1)."""
        super().__init__(window)
        self._alpha = alpha

    def _weights(self, paths: list[ToolPath], time_ns: int) -> np.ndarray:
        step_ns = paths[-1].step_ns
        actions = np.stack([_action(path, time_ns, step_ns) for path in paths])
        return similarity_weights(actions, actions[-1], self._alpha)


def _action(path: ToolPath, time_ns: int, step_ns: int) -> np.ndarray:
    """What a plan means to do in the step before a time: [7] like an action of a chunk."""
    begin, end = path.at(time_ns - step_ns), path.at(time_ns)
    turn = rotation_vector_from_matrix(end[:3, :3] @ begin[:3, :3].T)
    return np.array([*(end[:3, 3] - begin[:3, 3]), *turn, path.gripper_at(time_ns)])


def _fade(fraction: float) -> float:
    """1 at 0 and 0 from 1 on, with no slope at both ends."""
    fraction = min(max(fraction, 0.0), 1.0)
    return 1.0 - fraction * fraction * (3.0 - 2.0 * fraction)


_MODES = {
    'replan': lambda config: Replan(),
    'blend': lambda config: Blend(config.blend_steps),
    'adaptive_ensemble': lambda config: AdaptiveEnsemblePaths(
        config.ensemble_window, config.ensemble_alpha
    ),
    'temporal_ensemble': lambda config: TemporalEnsemble(
        config.ensemble_window, config.ensemble_decay
    ),
}


def make_execution(config: ControlConfig) -> Execution:
    """Returns the mode that a configuration names, without earlier plans."""
    return _MODES[config.execution](config)
