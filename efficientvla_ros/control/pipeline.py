"""From an action chunk to a joint command, with every limit on the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from efficientvla_ros.control.chunk_fault import chunk_fault
from efficientvla_ros.control.config import ControlConfig
from efficientvla_ros.control.decode import check_actions, decode_chunk
from efficientvla_ros.control.execution import Execution, make_execution
from efficientvla_ros.control.gate import workspace_around
from efficientvla_ros.control.grip_schedule import GripSchedule
from efficientvla_ros.control.joint_motion import joint_motion
from efficientvla_ros.control.kinematics import ArmKinematics, KinematicsError
from efficientvla_ros.control.latency import LatencyEstimate
from efficientvla_ros.control.limits import cap_steps, clamp_workspace
from efficientvla_ros.control.motion_limits import MotionLimits
from efficientvla_ros.control.reasons import HoldReason, Intervention
from efficientvla_ros.control.stopping import braking
from efficientvla_ros.control.tool_path import ToolPath
from efficientvla_ros.control.trajectory import Trajectory
from efficientvla_ros.control.under_way import UnderWay
from efficientvla_ros.types import ActionChunk, InputError, JointCommand

_NS = 1e-9
_BOX_KEPT_BACK = 0.02  # m at each side of the workspace: stops lead on along the way
_PULL_IN = 0.04  # a tool less far outside the box got there by lag or sag: it goes back in, m
_LOST = 0.2  # rad or m between a joint and its command: the arm does not follow
_SAME_INSTANT_NS = 1_000_000
_PLANNED_SHARE = 0.75  # of the acceleration limit
_RANGE_KEPT_BACK = 2e-3  # rad or m at each end of a joint's range


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
        latency: how long commands took lately; thread-safe.
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
        self.latency = LatencyEstimate()
        self.reset()

    @property
    def joint_names(self) -> tuple[str, ...]:
        """Columns of every command: the arm's joints, then the gripper if it rides along."""
        names = self.kinematics.joint_names
        return names if self.gripper_joint is None else (*names, self.gripper_joint)

    def reset(self) -> None:
        """Forgets what was sent, as after a pause or at the start of an episode."""
        self.latency.reset()
        self._under_way = UnderWay()
        self._grip = GripSchedule()
        self._rest_ns = 0
        self.forget_plans()

    def forget_plans(self) -> None:
        """Forgets earlier plans, as for a new instruction; the arm goes on as it is told."""
        self._execution: Execution | None = None
        self._executed_by: ControlConfig | None = None

    def sent(self, now_ns: int) -> None:
        """Tells at which time, ns, the command made last has left; for the latency estimate."""
        self.latency.sent(now_ns)

    def command(
        self, chunk: ActionChunk, joint_positions: np.ndarray, now_ns: int
    ) -> CommandResult:
        """Makes a command from a chunk.

        Args:
            chunk: the plan; without an anchor it is anchored to the pose at `joint_positions`.
                Its steps take 1 / `speed_scale` of their duration.
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
        fault = chunk_fault(chunk, actions)
        if fault is not None:
            return CommandResult(None, *fault)
        anchor = self.kinematics.fk(measured) if chunk.anchor is None else chunk.anchor
        self.latency.made(chunk.stamp_ns, now_ns)
        self._check_tracking(measured, chunk.stamp_ns)
        path = self._tool_path(chunk, actions, anchor)
        start_ns, first_ns = self._start(path, now_ns)
        dropped = int((path.times_ns <= first_ns).sum())
        self._count(Intervention.STEP_DROPPED, dropped)
        if dropped == len(path.times_ns):
            late = max(0.0, (now_ns - int(path.times_ns[-1])) * _NS)
            detail = f'chunk ended {late:.3f} s ago (inference took too long)'
            return CommandResult(None, HoldReason.CHUNK_EXPIRED, detail, anchor)
        position, velocity = self._state(measured, start_ns)
        path = self._merged(path, start_ns, first_ns, position)
        waypoints, reach_error = self._solve(path.poses, position)
        if reach_error > self.config.max_reach_error:
            self.forget_plans()
            detail = f'next tool position is {reach_error:.3f} m out of reach'
            return CommandResult(None, HoldReason.UNREACHABLE, detail, anchor)
        limits = self._planned_limits()
        waypoints = np.clip(waypoints, limits.lower, limits.upper)
        arm, interventions = joint_motion(
            position, velocity, start_ns, path.times_ns, waypoints, limits
        )
        for intervention, steps in interventions.items():
            self._count(intervention, steps)
        grip = self._grip.followed_by(path, start_ns, self.config)
        command, gripper = self._continue(arm, grip, chunk.stamp_ns, now_ns)
        return CommandResult(command, anchor=anchor, gripper=gripper)

    def _tool_path(self, chunk: ActionChunk, actions: np.ndarray, anchor: np.ndarray) -> ToolPath:
        """Capped and clamped tool poses and gripper values with the times they are due."""
        config = self.config
        actions, moved, turned = cap_steps(
            actions, config.max_step_translation, config.max_step_rotation
        )
        self._count(Intervention.STEP_TRANSLATION, moved)
        self._count(Intervention.STEP_ROTATION, turned)
        anchor = self._pulled_in(anchor)
        poses, gripper = decode_chunk(actions, anchor)
        due = np.arange(1, len(actions) + 1) * (chunk.step_duration / config.speed_scale)
        times_ns = chunk.stamp_ns + np.round(due * 1e9).astype(np.int64)
        return ToolPath(chunk.stamp_ns, anchor, times_ns, self._clamped(poses, anchor), gripper)

    def _pulled_in(self, anchor: np.ndarray) -> np.ndarray:
        """The pose [4, 4] to start from: back in the workspace where it is hardly outside."""
        start = anchor[:3, 3]
        inside = np.clip(start, *self._planned_box())
        if not 0.0 < np.abs(inside - start).max() < _PULL_IN:
            return anchor
        anchor = np.array(anchor, dtype=np.float64)
        anchor[:3, 3] = inside
        return anchor

    def _clamped(self, poses: np.ndarray, start: np.ndarray) -> np.ndarray:
        poses, clamped = clamp_workspace(poses, start, *self._planned_box())
        self._count(Intervention.WORKSPACE, clamped)
        return poses

    def _planned_box(self) -> tuple[np.ndarray, np.ndarray]:
        """Corners [3] of the box for poses: joints move on arcs between them, and overshoot."""
        low, high = (np.asarray(c) for c in (self.config.workspace_min, self.config.workspace_max))
        kept_back = np.minimum(_BOX_KEPT_BACK, 0.25 * (high - low))
        return low + kept_back, high - kept_back

    @property
    def _smooth(self) -> bool:
        """Whether acceleration is limited: the arm then needs to know its way a little ahead."""
        return self.config.max_joint_acceleration > 0.0

    def _start(self, path: ToolPath, now_ns: int) -> tuple[int, int]:
        """When the arm goes over to a plan, and the time after which its steps count, ns.

        With limited acceleration nothing changes until the command has safely arrived: what is
        under way until then is sent along. Without, the command takes over as it comes.
        """
        lead, gap = self._lead_ns, round(self.config.min_lead * 1e9)
        if not self._smooth:
            return now_ns, now_ns + lead
        start_ns = now_ns + lead
        if not self._under_way:
            return start_ns, start_ns + gap
        # A braking arm comes to rest first: how it does depends on when its command arrived.
        start_ns = max(start_ns, self._rest_ns)
        knots = self._under_way.after(start_ns - _SAME_INSTANT_NS).times_ns
        if len(knots) and knots[0] < start_ns + _SAME_INSTANT_NS and knots[0] > now_ns:
            start_ns = int(knots[0])
        return start_ns, start_ns + gap

    @property
    def _lead_ns(self) -> int:
        """Time from now in which a command has safely arrived, by what sending took lately, ns."""
        return round((self.config.min_lead + self.latency.to_send()) * 1e9)

    def _check_tracking(self, measured: np.ndarray, stamp_ns: int) -> None:
        """Starts anew from where the arm is when it is not where it was told to be."""
        if not self._under_way:
            return
        wanted, _ = self._under_way.sample(stamp_ns)
        if np.abs(measured - wanted).max() > _LOST:
            self._count(Intervention.TRACKING_LOST, 1)
            self._under_way = UnderWay()
            self._rest_ns = 0
            self.forget_plans()

    def _state(self, measured: np.ndarray, time_ns: int) -> tuple[np.ndarray, np.ndarray]:
        """Position and velocity [joints] that the arm has when the new command takes over."""
        if not self._under_way:
            # Measured a hair outside its limits, the arm is still told nothing outside them.
            kinematics = self.kinematics
            start = np.clip(measured, kinematics.lower, kinematics.upper)
            return start, np.zeros_like(measured)
        return self._under_way.sample(time_ns)

    def _merged(
        self, path: ToolPath, start_ns: int, first_ns: int, position: np.ndarray
    ) -> ToolPath:
        """The steps to execute, after what the mode of execution makes of earlier plans."""
        if self._execution is None or _other_mode(self.config, self._executed_by):
            self._execution = make_execution(self.config)
        self._executed_by = self.config
        there = self.kinematics.fk(position) if self._under_way else None
        merged = self._execution.merge(path, start_ns, there).after(first_ns)
        if self.config.execution == 'replan':
            return merged
        start = path.anchor if there is None else there
        return replace(merged, poses=self._clamped(merged.poses, start))

    def _solve(self, poses: np.ndarray, position: np.ndarray) -> tuple[np.ndarray, float]:
        """Joint waypoints [steps, joints], and the first one's distance from its pose."""
        kinematics = self.kinematics
        waypoints, errors = [], []
        low, high = workspace_around(self.config, kinematics.fk(position)[:3, 3], 0.5)
        q = position
        for pose in poses:
            result = kinematics.ik(pose, q)
            tool = kinematics.fk(result.q)[:3, 3]
            if ((tool < low) | (tool > high)).any():
                # The pose is in the box but out of reach, and the nearest one is outside: stay.
                self._count(Intervention.WORKSPACE, 1)
            else:
                q = result.q
            waypoints.append(q)
            errors.append(result.position_error)
            if result.position_error > 5e-3 or result.rotation_error > 0.05:
                at_limit = ((q <= kinematics.lower) | (q >= kinematics.upper)).any()
                self._count(Intervention.JOINT_LIMIT if at_limit else Intervention.OUT_OF_REACH, 1)
        return np.array(waypoints), errors[0]

    def _planned_limits(self) -> MotionLimits:
        """What plans may use: something is kept back for stops, of one point at any time."""
        limits = self._limits()
        if not self._smooth:
            return limits
        return MotionLimits(
            limits.lower + _RANGE_KEPT_BACK,
            limits.upper - _RANGE_KEPT_BACK,
            limits.velocity,
            _PLANNED_SHARE * limits.acceleration,
        )

    def _limits(self) -> MotionLimits:
        config, kinematics = self.config, self.kinematics
        speed = np.minimum(kinematics.velocity_limits, config.max_joint_velocity)
        most = config.max_joint_acceleration if self._smooth else np.inf
        return MotionLimits(
            kinematics.lower,
            kinematics.upper,
            config.speed_scale * speed,
            np.full(len(speed), most),
        )

    def _continue(
        self, motion: Trajectory, grip: GripSchedule, stamp_ns: int, now_ns: int
    ) -> tuple[JointCommand, np.ndarray]:
        """Follows a motion from its first point on; the command for it, and its gripper column."""
        self._under_way = self._under_way.followed_by(motion)
        self._grip = grip
        return self._message(self._under_way.after(now_ns), stamp_ns)

    def _message(self, points: Trajectory, stamp_ns: int) -> tuple[JointCommand, np.ndarray]:
        """A command of these points, and the position of the gripper joint at each."""
        gripper = self._grip.positions(points.times_ns, self.config)
        positions, velocities = points.positions, points.velocities
        if self.gripper_joint is not None:
            positions = np.column_stack([positions, gripper])
            velocities = np.column_stack([velocities, np.zeros(len(gripper))])
        times = (points.times_ns - stamp_ns) * _NS
        return JointCommand(self.joint_names, stamp_ns, times, positions, velocities), gripper

    def stop_command(
        self, joint_positions: np.ndarray | None, now_ns: int, duration: float = 0.2
    ) -> JointCommand | None:
        """Makes the command that brakes the arm to rest; the gripper keeps its grip.

        Args:
            joint_positions: [joints] measured arm joints, rad or m, in case that the arm is not
                where it was told to be; None where that is not known.
            now_ns: current time, ns.
            duration: time to come to rest, s; longer where the acceleration limit asks for it.

        Returns:
            A single point, or several where the arm can only brake within its limits a little
            later; None when nothing was sent that would have to be stopped.
        """
        self.forget_plans()
        if not self._under_way:
            return None
        if now_ns + self._lead_ns < self._rest_ns:  # it is braking already
            return replace(self._message(self._under_way.after(now_ns), now_ns)[0], brakes=True)
        grip = self._grip.kept(now_ns)
        if joint_positions is not None:
            measured = np.asarray(joint_positions, dtype=np.float64)
            self._check_tracking(measured, now_ns)
            if not self._under_way:
                self._under_way = UnderWay(_still(measured, now_ns))
        position, _ = self._under_way.sample(now_ns)
        lead_ns = self._lead_ns if self._smooth else 0
        to_rest = braking(
            self._under_way, now_ns, lead_ns, duration, self._limits(), self._inside_of(position)
        )
        self._rest_ns = int(to_rest.times_ns[-1]) if self._smooth else 0
        return replace(self._continue(to_rest, grip, now_ns, now_ns)[0], brakes=True)

    def _inside_of(self, start: np.ndarray) -> Callable[[np.ndarray], bool]:
        """Tells whether the tool is in the workspace, or as near as at the start."""
        fk = self.kinematics.fk
        low, high = workspace_around(self.config, fk(start)[:3, 3])

        def inside(q: np.ndarray) -> bool:
            tool = fk(q)[:3, 3]
            return bool((tool >= low).all() and (tool <= high).all())

        return inside

    def _count(self, intervention: Intervention, steps: int) -> None:
        if steps:
            self.counters[intervention.value] += steps


def _still(positions: np.ndarray, time_ns: int) -> Trajectory:
    """An arm that rests at positions [joints]."""
    return Trajectory(np.array([time_ns]), positions[None], np.zeros((1, len(positions))))


def _other_mode(config: ControlConfig, before: ControlConfig | None) -> bool:
    """Whether earlier plans are of no use: another mode, or another speed along the path."""
    names = ('execution', 'blend_steps', 'speed_scale')
    names += ('ensemble_window', 'ensemble_alpha', 'ensemble_decay')
    return any(getattr(config, name) != getattr(before, name) for name in names)


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
        tuple(names), stamp_ns, np.array([duration]), positions, np.zeros_like(positions), True
    )
