"""Parameters `control.*`; free of ROS."""

from __future__ import annotations

from collections.abc import Mapping

from efficientvla_ros.control.config import EXECUTIONS
from efficientvla_ros.ros.parameters.table import Changes, Spec, Value, check_names

_ARM = ['waist', 'shoulder', 'elbow', 'forearm_roll', 'wrist_angle', 'wrist_rotate']

# One parameter a block reads better than one argument a line.
# fmt: off
SPECS: tuple[Spec, ...] = (
    Spec(
        'control.rate', 0.0,
        'Inferences per second; 0 derives it: 1 / (execute_steps x step duration of the model).',
        unit='Hz', low=0.0, high=200.0,
    ),
    Spec(
        'control.execute_steps', 3,
        'Actions of a plan that are meant to be executed before the next plan replaces it; at '
        'most as many as a plan has.',
        low=1, high=64,
    ),
    Spec(
        'control.execution', 'replan',
        'What a new plan does to those before it: `replan` replaces them, `blend` fades over from '
        'the plan before, `adaptive_ensemble` and `temporal_ensemble` average all plans that '
        'reach that far.',
        choices=EXECUTIONS,
    ),
    Spec(
        'control.blend_steps', 3,
        'With `blend`: actions within which the offset from the plan before fades away.',
        low=1, high=64,
    ),
    Spec(
        'control.ensemble_window', 7,
        'With the ensembles: how many of the newest plans are averaged at most.',
        low=1, high=100,
    ),
    Spec(
        'control.ensemble_alpha', 0.1,
        'With `adaptive_ensemble`: how much more a plan counts that is like the newest one; 0 is '
        'the plain mean.',
        low=0.0, high=100.0,
    ),
    Spec(
        'control.ensemble_decay', 0.01,
        'With `temporal_ensemble`: plan i, counted from the oldest, weighs exp(-decay i); larger '
        'values trust older plans more, 0 is the plain mean.',
        low=0.0, high=100.0,
    ),
    Spec(
        'control.base_frame', 'base_link',
        'Link in which actions are expressed; also the frame_id of what is published.',
        changes=Changes.NEVER,
    ),
    Spec(
        'control.tcp_frame', 'tcp', 'Link that the actions move.', changes=Changes.NEVER
    ),
    Spec(
        'control.joints', _ARM,
        'Joints of the arm, without the gripper, as they are called in robot_description.',
        changes=Changes.NEVER,
    ),
)
# fmt: on


def check_together(values: Mapping[str, Value]) -> None:
    """Checks what one parameter alone cannot tell."""
    check_names(values, 'control.joints')
