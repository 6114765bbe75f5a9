"""From parameters to the settings of the controller."""

from __future__ import annotations

import math

from efficientvla_ros.control.config import ControlConfig
from efficientvla_ros.ros.parameters.safety import workspace
from efficientvla_ros.ros.parameters.table import Settings


def control_config(settings: Settings) -> ControlConfig:
    """Returns execution, limits and gripper values that follow from the parameters.

    A limit that is not set does not limit, as in a dry run before anything is known of the arm.
    """
    low, high = workspace(settings)
    opened, closed = settings['gripper.open_value'], settings['gripper.close_value']
    if settings['gripper.invert']:
        opened, closed = closed, opened
    return ControlConfig(
        execute_steps=settings['control.execute_steps'],
        execution=settings['control.execution'],
        blend_steps=settings['control.blend_steps'],
        ensemble_window=settings['control.ensemble_window'],
        ensemble_alpha=settings['control.ensemble_alpha'],
        ensemble_decay=settings['control.ensemble_decay'],
        speed_scale=settings['safety.speed_scale'],
        max_joint_velocity=settings['safety.max_joint_velocity'] or math.inf,
        max_joint_acceleration=settings['safety.max_joint_acceleration'],
        max_step_translation=settings['safety.max_step_translation'],
        max_step_rotation=settings['safety.max_step_rotation'],
        workspace_min=low,
        workspace_max=high,
        max_reach_error=settings['safety.max_reach_error'],
        gripper_open=opened,
        gripper_closed=closed,
        gripper_threshold=settings['gripper.threshold'],
        gripper_hysteresis=settings['gripper.hysteresis'],
    )
