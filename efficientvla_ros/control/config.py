"""Settings of the way from a chunk to a command."""

from __future__ import annotations

import math
from dataclasses import dataclass

EXECUTIONS = ('replan', 'blend', 'adaptive_ensemble', 'temporal_ensemble')
"""Ways to execute overlapping plans, see `control.execution`."""


@dataclass(frozen=True)
class ControlConfig:
    """Limits and gripper values; invalid ones are refused with the value quoted.

    Attributes:
        execute_steps: steps of a chunk that are meant to run before the next chunk arrives; the
            rest is there for the case that it comes late.
        execution: how overlapping plans become one path, one of `EXECUTIONS`.
        blend_steps: steps in which `blend` fades over to the newest plan.
        ensemble_window: plans that an ensemble averages at most.
        ensemble_alpha: how much similarity counts in `adaptive_ensemble`.
        ensemble_decay: decay of the weights from the oldest plan on in `temporal_ensemble`.
        min_lead: shortest time from a command to its first change of the motion, s; steps due
            earlier are dropped like past ones.
        speed_scale: speed of the motion, 0.01 to 1: steps take 1 / speed_scale as long and the
            velocity limits are scaled.
        max_joint_velocity: cap for every arm joint, rad/s; the URDF's limit holds too.
        max_joint_acceleration: cap for every arm joint, rad/s^2 or m/s^2; 0 is no limit.
        max_step_translation: cap for the translation of one step, m.
        max_step_rotation: cap for the rotation of one step, rad.
        workspace_min: lower corner of the box that holds the tool, base frame, m.
        workspace_max: upper corner of that box, m.
        max_reach_error: how far the closest reachable pose of the next step may be from the
            wanted one before the arm holds instead, m.
        gripper_open: position of the gripper joint when open, m or rad.
        gripper_closed: position of the gripper joint when closed, m or rad.
        gripper_threshold: actions above it open the gripper.
        gripper_hysteresis: half width of the band around the threshold in which the gripper
            stays as it was.
    """

    execute_steps: int = 3
    execution: str = 'replan'
    blend_steps: int = 3
    ensemble_window: int = 7
    ensemble_alpha: float = 0.1
    ensemble_decay: float = 0.01
    min_lead: float = 0.02
    speed_scale: float = 1.0
    max_joint_velocity: float = 2.0
    max_joint_acceleration: float = 0.0
    max_step_translation: float = 0.06
    max_step_rotation: float = 0.5
    workspace_min: tuple[float, float, float] = (0.05, -0.4, 0.0)
    workspace_max: tuple[float, float, float] = (0.6, 0.4, 0.5)
    max_reach_error: float = 0.05
    gripper_open: float = 0.045
    gripper_closed: float = 0.0
    gripper_threshold: float = 0.5
    gripper_hysteresis: float = 0.0

    def __post_init__(self) -> None:
        """Checks every value.

        Raises:
            ValueError: names the setting, its value and what was expected.
        """
        for name in ('execute_steps', 'blend_steps', 'ensemble_window'):
            _require(self, name, getattr(self, name) >= 1, 'at least 1')
        _require(self, 'execution', self.execution in EXECUTIONS, f'one of {EXECUTIONS}')
        _require(self, 'ensemble_alpha', math.isfinite(self.ensemble_alpha), 'a finite number')
        _require(self, 'ensemble_decay', 0.0 <= self.ensemble_decay <= 100.0, 'in [0, 100]')
        _require(self, 'speed_scale', 0.01 <= self.speed_scale <= 1.0, 'in [0.01, 1]')
        _require(
            self,
            'max_joint_acceleration',
            0.0 <= self.max_joint_acceleration < math.inf,
            'a positive number, or 0 for no limit',
        )
        for name in (
            'max_joint_velocity',
            'max_step_translation',
            'max_step_rotation',
            'max_reach_error',
        ):
            _require(self, name, getattr(self, name) > 0.0, 'a positive number')
        for name in ('gripper_open', 'gripper_closed'):
            _require(self, name, math.isfinite(getattr(self, name)), 'a finite number')
        _require(self, 'min_lead', 0.0 <= self.min_lead < 10.0, 'seconds in [0, 10)')
        _require(self, 'gripper_threshold', 0.0 <= self.gripper_threshold <= 1.0, 'in [0, 1]')
        _require(self, 'gripper_hysteresis', 0.0 <= self.gripper_hysteresis < 0.5, 'in [0, 0.5)')
        low, high = self.workspace_min, self.workspace_max
        if len(low) != 3 or len(high) != 3 or not all(a < b for a, b in zip(low, high)):
            raise ValueError(
                f'workspace_min is {low!r} and workspace_max is {high!r}, '
                'expected x y z each and min < max'
            )


def _require(config: ControlConfig, name: str, valid: bool, expected: str) -> None:
    if not valid:
        raise ValueError(f'{name} is {getattr(config, name)!r}, expected {expected}')
