"""Forward and inverse kinematics of a serial arm from its URDF, on pinocchio."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

import numpy as np
import pinocchio as pin

from efficientvla_ros.types import InputError

_UNLIMITED = 1e6  # URDF has no infinity: parsers write huge numbers for "no limit"


class KinematicsError(InputError):
    """The robot description does not hold the arm that was asked for."""


@dataclass(frozen=True)
class IkResult:
    """The best joint positions that were found for a pose.

    Attributes:
        q: float64 [joints], rad or m, within the joint limits.
        position_error: distance from the target, m.
        rotation_error: angle from the target, rad.
        converged: both errors are within the solver's tolerances.
    """

    q: np.ndarray
    position_error: float
    rotation_error: float
    converged: bool


class ArmKinematics:
    """Kinematics of the joints named, every other joint of the robot locked at zero.

    Joint vectors are in the order of `joint_names`; poses are of `tcp_frame` in `base_frame`.
    Not thread-safe: each thread needs its own instance.

    Attributes:
        joint_names: the joints, in the order of all joint vectors.
        lower: float64 [joints], rad or m; -inf for a continuous joint.
        upper: float64 [joints], rad or m; inf for a continuous joint.
        velocity_limits: float64 [joints], rad/s or m/s; inf where the URDF has none.
    """

    position_tolerance = 1e-4
    rotation_tolerance = 1e-3

    def __init__(
        self,
        urdf: str,
        joint_names: Sequence[str],
        tcp_frame: str,
        base_frame: str | None = None,
    ) -> None:
        """Builds the kinematic model.

        Args:
            urdf: the robot description, XML text.
            joint_names: moving joints of the arm, in the order of all joint vectors.
            tcp_frame: link whose pose is commanded.
            base_frame: link that poses are expressed in; None is the root of the robot.

        Raises:
            KinematicsError: the URDF cannot be parsed, or a joint or frame is missing or unfit.
        """
        self.joint_names = tuple(joint_names)
        self.tcp_frame = tcp_frame
        self._model = _reduced_model(urdf, self.joint_names)
        self._data = self._model.createData()
        self._read_joints()
        self._tcp = self._frame_id(tcp_frame)
        self._base_inverse = np.eye(4)
        if base_frame is not None:
            self._base_inverse = self._fixed_base(base_frame)

    def copy(self) -> ArmKinematics:
        """Returns the same arm for another thread; costs microseconds."""
        twin = copy.copy(self)
        twin._data = self._model.createData()
        return twin

    def _read_joints(self) -> None:
        model = self._model
        joints = [model.joints[model.getJointId(name)] for name in self.joint_names]
        self._velocity_index = np.array([joint.idx_v for joint in joints])
        self._position_index = np.array([joint.idx_q for joint in joints])
        # A continuous joint is stored as (cos, sin).
        self._continuous = np.array([joint.nq == 2 for joint in joints])
        lower = model.lowerPositionLimit[self._position_index]
        upper = model.upperPositionLimit[self._position_index]
        self.lower = np.where(self._continuous | (lower < -_UNLIMITED), -np.inf, lower)
        self.upper = np.where(self._continuous | (upper > _UNLIMITED), np.inf, upper)
        speed = model.velocityLimit[self._velocity_index]
        self.velocity_limits = np.where((speed <= 0.0) | (speed > _UNLIMITED), np.inf, speed)
        for name, low, high in zip(self.joint_names, self.lower, self.upper, strict=True):
            if not low < high:
                raise KinematicsError(
                    f'robot_description: joint "{name}" has limits [{low:g}, {high:g}], '
                    'expected lower < upper'
                )

    def _frame_id(self, name: str) -> int:
        model = self._model
        if not model.existFrame(name, pin.BODY):
            links = [frame.name for frame in model.frames if frame.type == pin.BODY]
            raise KinematicsError(f'robot_description: no link "{name}"; it has {_listed(links)}')
        return model.getFrameId(name, pin.BODY)

    def _fixed_base(self, name: str) -> np.ndarray:
        frame = self._frame_id(name)
        if self._model.frames[frame].parentJoint != 0:
            raise KinematicsError(
                f'robot_description: base frame "{name}" moves with the arm, '
                'expected a link before its first joint'
            )
        placement = self._model.frames[frame].placement
        return placement.inverse().homogeneous

    def _configuration(self, q: np.ndarray) -> np.ndarray:
        """Turns joint positions [joints] into pinocchio's configuration vector [nq]."""
        configuration = np.empty(self._model.nq)
        if self._continuous.any():
            configuration[self._position_index] = np.where(self._continuous, np.cos(q), q)
            turning = self._position_index[self._continuous]
            configuration[turning + 1] = np.sin(q[self._continuous])
        else:
            configuration[self._position_index] = q
        return configuration

    def _checked(self, q: np.ndarray) -> np.ndarray:
        positions = np.asarray(q, dtype=np.float64)
        expected = (len(self.joint_names),)
        if positions.shape != expected:
            raise KinematicsError(
                f'joint positions have shape {positions.shape}, expected {expected}'
            )
        if not np.isfinite(positions).all():
            raise KinematicsError(f'joint positions {positions.tolist()} are not finite')
        return positions

    def fk(self, q: np.ndarray) -> np.ndarray:
        """Returns the pose [4, 4] of the tool in the base frame at joint positions [joints].

        Raises:
            KinematicsError: q has the wrong length or is not finite.
        """
        configuration = self._configuration(self._checked(q))
        pin.framesForwardKinematics(self._model, self._data, configuration)
        return self._base_inverse @ self._data.oMf[self._tcp].homogeneous

    def ik(self, target: np.ndarray, q0: np.ndarray, max_iterations: int = 50) -> IkResult:
        """Finds joint positions for a tool pose by damped least squares from a warm start.

        Joint limits hold at every iterate. The damping follows the error (Levenberg-Marquardt
        with Sugihara's rule), which converges fast near a solution and stays calm near
        singularities; out of reach, the closest pose found is returned.

        Args:
            target: tool pose [4, 4] in the base frame.
            q0: start, joint positions [joints]; clipped into the joint limits.
            max_iterations: bound on the work.

        Returns:
            The iterate with the smallest error.

        Raises:
            KinematicsError: q0 has the wrong length, or an input is not finite.
        """
        target = np.asarray(target, dtype=np.float64)
        if target.shape != (4, 4) or not np.isfinite(target).all():
            raise KinematicsError('target pose is not a finite [4, 4] matrix')
        goal = np.linalg.inv(self._base_inverse) @ target
        q = np.clip(self._checked(q0), self.lower, self.upper)
        best: IkResult | None = None
        stalled = 0
        for _ in range(max_iterations):
            error, jacobian = self._error(goal, q)
            result = self._result(q, error)
            if best is None or _cost(result) < 0.999 * _cost(best):
                best, stalled = result, 0
            else:
                stalled += 1
            if best.converged or stalled >= 8:
                break
            q = self._step(q, error, jacobian)
        return best

    def _error(self, goal: np.ndarray, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the pose error [6] and the Jacobian [6, joints], both in the tool frame."""
        # This one updates the joint placements too; `computeFrameJacobian` does not.
        pin.computeJointJacobians(self._model, self._data, self._configuration(q))
        pin.updateFramePlacement(self._model, self._data, self._tcp)
        jacobian = pin.getFrameJacobian(self._model, self._data, self._tcp, pin.LOCAL)
        pose = self._data.oMf[self._tcp]
        inverse = pose.rotation.T
        error = np.empty(6)
        error[:3] = inverse @ (goal[:3, 3] - pose.translation)
        error[3:] = pin.log3(inverse @ goal[:3, :3])
        return error, jacobian[:, self._velocity_index]

    def _result(self, q: np.ndarray, error: np.ndarray) -> IkResult:
        position = float(np.sqrt(error[:3] @ error[:3]))
        rotation = float(np.sqrt(error[3:] @ error[3:]))
        converged = position < self.position_tolerance and rotation < self.rotation_tolerance
        return IkResult(q, position, rotation, converged)

    def _step(self, q: np.ndarray, error: np.ndarray, jacobian: np.ndarray) -> np.ndarray:
        """One damped step; joints that would only be pushed into their limit are left out."""
        scaled_error = _SCALE * error
        scaled = _SCALE[:, None] * jacobian
        free = np.ones(len(q), dtype=bool)
        for _ in range(len(q)):
            active = scaled[:, free]
            gradient = active.T @ scaled_error
            damping = 0.5 * (scaled_error @ scaled_error) + 1e-6
            normal = active.T @ active
            normal[np.diag_indices_from(normal)] += damping
            step = np.zeros(len(q))
            step[free] = np.linalg.solve(normal, gradient)
            stuck = free & (
                ((q <= self.lower) & (step < 0.0)) | ((q >= self.upper) & (step > 0.0))
            )
            if not stuck.any():
                break
            free &= ~stuck
            if not free.any():
                return q
        largest = np.abs(step).max()
        if largest > _MAX_STEP:
            step *= _MAX_STEP / largest
        return np.clip(q + step, self.lower, self.upper)


# A rotation error of 1 rad weighs as much as a position error of 0.3 m.
_SCALE = np.array([1.0, 1.0, 1.0, 0.3, 0.3, 0.3])
_MAX_STEP = 0.5  # rad (or m) per iteration


def _cost(result: IkResult) -> float:
    return result.position_error + 0.3 * result.rotation_error


def _listed(names: Sequence[str], limit: int = 20) -> str:
    names = sorted(names)
    shown = ', '.join(names[:limit]) or 'none'
    return shown + (f' and {len(names) - limit} more' if len(names) > limit else '')


def _reduced_model(urdf: str, joint_names: tuple[str, ...]) -> pin.Model:
    """Parses the URDF and locks every joint that is not named."""
    _check_urdf(urdf, joint_names)
    try:
        model = pin.buildModelFromXML(urdf)
    except (ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise KinematicsError(f'robot_description: not a usable URDF ({reason})') from None
    locked = [
        index for index, name in enumerate(model.names) if index > 0 and name not in joint_names
    ]
    return pin.buildReducedModel(model, locked, pin.neutral(model))


def _check_urdf(urdf: str, joint_names: tuple[str, ...]) -> None:
    """Names what is wrong before pinocchio's parser prints its own complaints."""
    try:
        robot = ElementTree.fromstring(urdf)
    except (ElementTree.ParseError, ValueError, TypeError) as error:
        raise KinematicsError(f'robot_description: not well-formed XML ({error})') from None
    if robot.tag != 'robot':
        raise KinematicsError(
            f'robot_description: root element is <{robot.tag}>, expected <robot> (URDF)'
        )
    if not joint_names:
        raise KinematicsError('arm joints: the list is empty, expected at least one joint name')
    if len(set(joint_names)) != len(joint_names):
        raise KinematicsError(f'arm joints: {list(joint_names)} names a joint twice')
    types = {joint.get('name', ''): joint.get('type', '') for joint in robot.findall('joint')}
    moving = [n for n, kind in types.items() if kind in ('revolute', 'continuous', 'prismatic')]
    missing = [name for name in joint_names if name not in moving]
    if missing:
        raise KinematicsError(
            f'robot_description: no moving joint {_listed(missing)}; it has {_listed(moving)}'
        )
