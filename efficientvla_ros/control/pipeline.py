"""From an action chunk to a joint command, with every limit on the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from efficientvla_ros.control.config import ControlConfig
from efficientvla_ros.control.decode import check_actions, decode_chunk
from efficientvla_ros.control.gripper import gripper_states
from efficientvla_ros.control.kinematics import ArmKinematics, KinematicsError
from efficientvla_ros.control.limits import cap_steps, clamp_workspace, limit_velocity
from efficientvla_ros.control.reasons import HoldReason, Intervention
from efficientvla_ros.control.trajectory import Trajectory, waypoint_velocities
from efficientvla_ros.types import EE_DELTA_BASE, ActionChunk, InputError, JointCommand

_NS = 1e-9


@dataclass(frozen=True)
class CommandResult:
    """A command, or the reason why there is none.

    Attributes:
        command: what to send; None means hold.
        reason: why the arm holds, `HoldReason.NONE` with a command.
        detail: one line with the numbers behind the reason.
        anchor: [4, 4] tool pose in the base frame that the chunk was anchored to.
        gripper: [points] position of the gripper joint at each point of the command, also where
            the gripper does not ride in it.
    """

    command: JointCommand | None
    reason: HoldReason = HoldReason.NONE
    detail: str = ''
    anchor: np.ndarray | None = None
    gripper: np.ndarray | None = None


class ChunkController:
    """Makes joint commands from chunks and remembers what it sent. For one thread.

    Attributes:
        config: settings; may be replaced between two calls.
        counters: how often each `HoldReason` and `Intervention` happened (by its value, in steps
            for interventions), and `commands`.
    """

    def __init__(
        self,
        kinematics: ArmKinematics,
        config: ControlConfig | None = None,
        gripper_joint: str | None = None,
    ) -> None:
        """Sets up a controller.

        Args:
            kinematics: the arm; its joints are the first columns of every command.
            config: settings, the defaults if None.
            gripper_joint: joint appended as last column; None keeps the gripper out.
        """
        self.kinematics = kinematics
        self.config = config or ControlConfig()
        self.gripper_joint = gripper_joint
        self.counters: Counter[str] = Counter()
        self.reset()

    @property
    def joint_names(self) -> tuple[str, ...]:
        """Columns of every command: the arm's joints, then the gripper if it rides along."""
        names = self.kinematics.joint_names
        return names if self.gripper_joint is None else (*names, self.gripper_joint)

    def reset(self) -> None:
        """Forgets what was sent, as after a pause or at the start of an episode."""
        self._sent: Trajectory | None = None
        self._sent_open: np.ndarray | None = None

    def command(
        self, chunk: ActionChunk, joint_positions: np.ndarray, now_ns: int
    ) -> CommandResult:
        """Makes a command from a chunk.

        Args:
            chunk: the plan; without an anchor it is anchored to the pose at `joint_positions`.
            joint_positions: [joints] arm joints when the observation was made, rad or m.
            now_ns: current time, ns of the clock of `chunk.stamp_ns`.

        Returns:
            The command, or why there is none. Never raises for bad content.
        """
        try:
            result = self._command(chunk, np.asarray(joint_positions, dtype=np.float64), now_ns)
        except KinematicsError as error:
            result = CommandResult(None, HoldReason.NO_JOINT_STATE, str(error))
        except InputError as error:
            result = CommandResult(None, HoldReason.BAD_CHUNK, str(error))
        self.counters[result.reason.value or 'commands'] += 1
        return result

    def _command(self, chunk: ActionChunk, measured: np.ndarray, now_ns: int) -> CommandResult:
        actions = check_actions(chunk.actions)
        fault = _chunk_fault(chunk, actions)
        if fault is not None:
            return fault
        anchor = self.kinematics.fk(measured) if chunk.anchor is None else chunk.anchor
        poses, gripper_values = self._tool_path(actions, anchor)
        due = np.arange(1, len(actions) + 1) * chunk.step_duration
        elapsed = (now_ns - chunk.stamp_ns) * _NS
        dropped = int((due <= elapsed + self.config.min_lead).sum())
        self._count(Intervention.STEP_DROPPED, dropped)
        if dropped == len(actions):
            late = max(0.0, elapsed - due[-1])
            detail = f'chunk ended {late:.3f} s ago (inference took too long)'
            return CommandResult(None, HoldReason.CHUNK_EXPIRED, detail, anchor)
        waypoints, reach_error = self._solve(poses, measured, dropped)
        if reach_error > self.config.max_reach_error:
            detail = f'next tool position is {reach_error:.3f} m out of reach'
            return CommandResult(None, HoldReason.UNREACHABLE, detail, anchor)
        due = due[dropped:]
        gripper = self._gripper(gripper_values[dropped:], now_ns)
        positions, velocities = self._timed(chunk.stamp_ns, due, waypoints, measured, now_ns)
        command = self._with_gripper(chunk.stamp_ns, due, positions, velocities, gripper)
        return CommandResult(command, anchor=anchor, gripper=gripper)

    def _tool_path(self, actions: np.ndarray, anchor: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Capped and clamped tool poses [horizon, 4, 4] and gripper values [horizon]."""
        config = self.config
        actions, moved, turned = cap_steps(
            actions, config.max_step_translation, config.max_step_rotation
        )
        self._count(Intervention.STEP_TRANSLATION, moved)
        self._count(Intervention.STEP_ROTATION, turned)
        poses, gripper = decode_chunk(actions, anchor)
        poses, clamped = clamp_workspace(
            poses, anchor, np.asarray(config.workspace_min), np.asarray(config.workspace_max)
        )
        self._count(Intervention.WORKSPACE, clamped)
        return poses, gripper

    def _solve(
        self, poses: np.ndarray, measured: np.ndarray, dropped: int
    ) -> tuple[np.ndarray, float]:
        """Joint waypoints [steps left, joints], and the first one's distance from its pose."""
        kinematics = self.kinematics
        waypoints, errors = [], []
        q = measured
        # A dropped step is solved only where it is needed to lead on to the first one left.
        for pose in poses[max(0, dropped - 1) :]:
            result = kinematics.ik(pose, q)
            q = result.q
            waypoints.append(q)
            errors.append(result.position_error)
            if result.position_error > 5e-3 or result.rotation_error > 0.05:
                at_limit = ((q <= kinematics.lower) | (q >= kinematics.upper)).any()
                self._count(Intervention.JOINT_LIMIT if at_limit else Intervention.OUT_OF_REACH, 1)
        skip = min(dropped, 1)
        return np.array(waypoints[skip:]), errors[skip]

    def _timed(
        self,
        stamp_ns: int,
        due: np.ndarray,
        waypoints: np.ndarray,
        measured: np.ndarray,
        now_ns: int,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Positions and velocities [steps left, joints], limited from where the arm is now on."""
        elapsed = (now_ns - stamp_ns) * _NS
        start, start_velocity = self._expected(measured, stamp_ns, now_ns)
        speed = np.minimum(self.kinematics.velocity_limits, self.config.max_joint_velocity)
        waypoints, limited = limit_velocity(start, due - elapsed, waypoints, speed)
        self._count(Intervention.JOINT_VELOCITY, limited)
        times = np.concatenate([[elapsed], due])
        positions = np.vstack([start, waypoints])
        velocities = waypoint_velocities(times, positions)
        velocities[0] = start_velocity
        times_ns = stamp_ns + np.round(times * 1e9).astype(np.int64)
        self._sent = Trajectory(times_ns, positions, velocities)
        return positions[1:], velocities[1:]

    def _expected(
        self, measured: np.ndarray, stamp_ns: int, now_ns: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Where the arm is now: as measured at the observation, plus what it was told since."""
        if self._sent is None:
            return measured, np.zeros_like(measured)
        then, _ = self._sent.sample(stamp_ns)
        now, velocity = self._sent.sample(now_ns)
        return measured + (now - then), velocity

    def _gripper(self, values: np.ndarray, now_ns: int) -> np.ndarray:
        """Positions of the gripper joint [points]."""
        config = self.config
        states = gripper_states(
            values, config.gripper_threshold, config.gripper_hysteresis, self._is_open(now_ns)
        )
        self._sent_open = states
        return np.where(states, config.gripper_open, config.gripper_closed)

    def _is_open(self, now_ns: int) -> bool | None:
        """What the gripper was last told to be, None at the start."""
        if self._sent is None or self._sent_open is None:
            return None
        step = int(np.searchsorted(self._sent.times_ns[1:], now_ns))
        return bool(self._sent_open[min(step, len(self._sent_open) - 1)])

    def _with_gripper(
        self,
        stamp_ns: int,
        times: np.ndarray,
        positions: np.ndarray,
        velocities: np.ndarray,
        gripper: np.ndarray,
    ) -> JointCommand:
        """Adds the gripper's column where it rides along.

        Its velocity is zero at every point: the fingers move within the step that says so, from
        its start to its end, and never beyond the open or closed position.
        """
        if self.gripper_joint is not None:
            positions = np.column_stack([positions, gripper])
            velocities = np.column_stack([velocities, np.zeros(len(times))])
        return JointCommand(self.joint_names, stamp_ns, times, positions, velocities)

    def stop_command(
        self, joint_positions: np.ndarray | None, now_ns: int, duration: float = 0.2
    ) -> JointCommand | None:
        """Makes the command that brakes the arm to rest; the gripper keeps its grip.

        Args:
            joint_positions: [joints] measured arm joints, rad or m; None takes where the
                trajectory sent is now, as when joint states are what is missing.
            now_ns: current time, ns.
            duration: time to come to rest, s.

        Returns:
            A single point, or None when nothing was sent that would have to be stopped.
        """
        if self._sent is None:
            return None
        position, velocity = self._sent.sample(now_ns)
        if joint_positions is not None and len(self._sent.times_ns) > 1:
            position = np.asarray(joint_positions, dtype=np.float64)
        # A constant deceleration to rest covers half of velocity * duration. An arm that was
        # stopped before keeps that position: measuring it anew each time would let it sag.
        target = position + 0.5 * duration * velocity
        target = np.clip(target, self.kinematics.lower, self.kinematics.upper)
        is_open = self._is_open(now_ns)
        gripper = self.config.gripper_open if is_open else self.config.gripper_closed
        self._sent = Trajectory.hold(target, now_ns)
        self._sent_open = np.array([is_open])
        times, at_rest = np.array([duration]), np.zeros((1, len(target)))
        return self._with_gripper(now_ns, times, target[None], at_rest, np.array([gripper]))

    def _count(self, intervention: Intervention, steps: int) -> None:
        if steps:
            self.counters[intervention.value] += steps


def _chunk_fault(chunk: ActionChunk, actions: np.ndarray) -> CommandResult | None:
    if chunk.action_space != EE_DELTA_BASE:
        detail = f'action space is "{chunk.action_space}", expected "{EE_DELTA_BASE}"'
        return CommandResult(None, HoldReason.BAD_CHUNK, detail)
    if not (np.isfinite(chunk.step_duration) and chunk.step_duration > 0.0):
        detail = f'step duration is {chunk.step_duration} s, expected > 0'
        return CommandResult(None, HoldReason.BAD_CHUNK, detail)
    if chunk.anchor is not None and not (
        np.shape(chunk.anchor) == (4, 4) and np.isfinite(chunk.anchor).all()
    ):
        return CommandResult(None, HoldReason.BAD_CHUNK, 'anchor is not a finite [4, 4] pose')
    bad = ~np.isfinite(actions)
    if bad.any():
        step, column = np.argwhere(bad)[0]
        detail = f'{int(bad.sum())} action values are not finite, first at [{step}, {column}]'
        return CommandResult(None, HoldReason.NON_FINITE, detail)
    return None


def hold_command(
    names: Sequence[str], positions: np.ndarray, stamp_ns: int, duration: float = 0.2
) -> JointCommand:
    """Returns the one-point command that brings joints to rest at positions [joints].

    Args:
        names: joint names.
        positions: where to hold, rad or m.
        stamp_ns: current time, ns.
        duration: time to get there, s.
    """
    positions = np.array(positions, dtype=np.float64)[None]
    return JointCommand(
        tuple(names), stamp_ns, np.array([duration]), positions, np.zeros_like(positions)
    )
