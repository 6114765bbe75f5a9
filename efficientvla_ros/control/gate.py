"""The last look at a command before it goes to the arm; shares no code with what made it."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from efficientvla_ros.types import JointCommand

WORKSPACE_TOLERANCE = 0.008
"""How far the tool may be outside the box, m: arms move on arcs between two tool poses."""

_SLACK = 1e-3
_JOINT_TOLERANCE = 1e-6
_VELOCITY_TOLERANCE = 1.001


class Limits(Protocol):
    """What a command is held against: see `ControlConfig`."""

    max_joint_velocity: float
    workspace_min: tuple[float, float, float]
    workspace_max: tuple[float, float, float]


class Arm(Protocol):
    """The arm, see `ArmKinematics`."""

    joint_names: tuple[str, ...]
    lower: np.ndarray
    upper: np.ndarray
    velocity_limits: np.ndarray

    def fk(self, q: np.ndarray) -> np.ndarray:
        """Tool pose [4, 4] in the base frame."""


def command_fault(command: JointCommand, arm: Arm, limits: Limits, measured: np.ndarray) -> str:
    """Says in one line why a command must not be sent, '' when it may.

    A tool that is outside the workspace may stay as far outside, but go no further.

    Args:
        command: the command; columns beyond the arm's joints are only checked to be finite.
        arm: the arm.
        limits: limits in force.
        measured: [joints] arm joints that the command was made from, rad or m.
    """
    return (
        _shape_fault(command, len(arm.joint_names))
        or _joint_fault(command, arm, limits)
        or _workspace_fault(command, arm, limits, measured)
    )


def _shape_fault(command: JointCommand, joints: int) -> str:
    times, positions, velocities = command.times, command.positions, command.velocities
    expected = (len(times), len(command.names))
    if len(times) == 0 or positions.shape != expected or velocities.shape != expected:
        return f'positions have shape {positions.shape}, expected {expected}'
    if len(command.names) < joints:
        return f'{len(command.names)} joints, expected at least {joints}'
    if not all(np.isfinite(values).all() for values in (times, positions, velocities)):
        return 'a time, position or velocity is not finite'
    if (np.diff(times) <= 0.0).any():
        return 'times do not increase'
    if velocities[-1].any():
        return 'the last velocity is not zero'
    return ''


def _joint_fault(command: JointCommand, arm: Arm, limits: Limits) -> str:
    joints = len(arm.joint_names)
    positions, velocities = command.positions[:, :joints], command.velocities[:, :joints]
    bad = (positions < arm.lower - _JOINT_TOLERANCE) | (positions > arm.upper + _JOINT_TOLERANCE)
    if bad.any():
        point, joint = np.argwhere(bad)[0]
        return (
            f'joint "{arm.joint_names[joint]}" goes to {positions[point, joint]:.3f}, expected '
            f'[{arm.lower[joint]:g}, {arm.upper[joint]:g}]'
        )
    speed = np.minimum(arm.velocity_limits, limits.max_joint_velocity) * _VELOCITY_TOLERANCE
    mean = np.diff(positions, axis=0) / np.diff(command.times)[:, None]
    for values in (velocities, mean):
        bad = np.abs(values) > speed
        if bad.any():
            point, joint = np.argwhere(bad)[0]
            return (
                f'joint "{arm.joint_names[joint]}" moves at {values[point, joint]:.3f}/s, '
                f'expected at most {speed[joint]:.3f}/s'
            )
    return ''


def _workspace_fault(command: JointCommand, arm: Arm, limits: Limits, measured: np.ndarray) -> str:
    low, high = workspace_around(limits, arm.fk(measured)[:3, 3])
    for row in _along(command, measured):
        tool = arm.fk(row)[:3, 3]
        if ((tool < low) | (tool > high)).any():
            at = ', '.join(f'{value:.3f}' for value in tool)
            return f'the tool goes to ({at}) m, outside the workspace'
    return ''


def _along(command: JointCommand, measured: np.ndarray) -> np.ndarray:
    """Positions [4 x points, joints] at the points and three times on the way to each."""
    joints = len(measured)
    positions = np.vstack([measured, command.positions[:, :joints]])
    velocities = np.vstack([np.zeros(joints), command.velocities[:, :joints]])
    durations = np.diff(command.times, prepend=0.0)[:, None]
    # What the first move starts with is not known here: a straight line stands for it.
    velocities[0] = (positions[1] - positions[0]) / max(float(durations[0, 0]), 1e-6)
    start, move = positions[:-1], np.diff(positions, axis=0)
    leave, arrive = velocities[:-1] * durations, velocities[1:] * durations
    rows = [
        start + u * leave + u**2 * (3 * move - 2 * leave - arrive)
        + u**3 * (leave + arrive - 2 * move)
        for u in (0.25, 0.5, 0.75)
    ]  # fmt: skip
    return np.vstack([*rows, positions[1:]])


def workspace_around(
    limits: Limits, start: np.ndarray, share: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Corners [3] of the box that waypoints must be in, m.

    Args:
        limits: the workspace.
        start: [3] where the tool is; the box reaches there, and hardly further, where that is
            outside: with all of the tolerance on top the arm could leave step by step.
        share: of the tolerance that is used.
    """
    tolerance = share * WORKSPACE_TOLERANCE
    return (
        np.minimum(np.subtract(limits.workspace_min, tolerance), start - _SLACK),
        np.maximum(np.add(limits.workspace_max, tolerance), start + _SLACK),
    )
