"""Looks at every point of every trajectory, with arithmetic of its own.

It shares nothing with the package: limits and geometry come from the URDF's text, the workspace
and the velocity limit from whoever makes the checker.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from xml.etree import ElementTree

import numpy as np

WORKSPACE_TOLERANCE = 0.010
JOINT_TOLERANCE = 1e-6


def _numbers(text: str | None, default: str) -> np.ndarray:
    return np.array([float(word) for word in (text or default).split()])


def _turn(axis: np.ndarray, angles: np.ndarray | float) -> np.ndarray:
    """Rotation matrices [..., 3, 3] by Rodrigues' formula."""
    x, y, z = axis / math.sqrt(float(axis @ axis))
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angles = np.asarray(angles)[..., None, None]
    return np.eye(3) + np.sin(angles) * cross + (1.0 - np.cos(angles)) * (cross @ cross)


class _Link:
    """One joint on the way from the base to the tool."""

    def __init__(self, element: ElementTree.Element) -> None:
        origin = element.find('origin')
        attributes = {} if origin is None else origin.attrib
        roll, pitch, yaw = _numbers(attributes.get('rpy'), '0 0 0')
        x, y, z = np.eye(3)
        self.offset = _numbers(attributes.get('xyz'), '0 0 0')
        self.rotation = _turn(z, yaw) @ _turn(y, pitch) @ _turn(x, roll)
        self.name, self.kind = element.get('name'), element.get('type')
        axis = element.find('axis')
        self.axis = _numbers(None if axis is None else axis.get('xyz'), '1 0 0')

    def place(self, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rotations and offsets of the child link in the parent link at positions [points]."""
        if self.kind in ('revolute', 'continuous'):
            return self.rotation @ _turn(self.axis, q), self.offset
        if self.kind == 'prismatic':
            return self.rotation, self.offset + q[:, None] * (self.rotation @ self.axis)
        return self.rotation, self.offset


class TrajectoryChecker:
    """Collects faults of trajectories; safe to use from several threads.

    Attributes:
        faults: one line for each fault found.
        commands: trajectories looked at.
        points: points looked at.
    """

    def __init__(
        self,
        urdf: str,
        low: Sequence[float],
        high: Sequence[float],
        max_velocity: float,
        base: str = 'base_link',
        tool: str = 'tcp',
    ) -> None:
        robot = ElementTree.fromstring(urdf)
        joints = robot.findall('joint')
        parents = {joint.find('child').get('link'): joint for joint in joints}
        chain, link = [], tool
        while link != base:
            chain.append(_Link(parents[link]))
            link = parents[link].find('parent').get('link')
        self._chain = chain[::-1]
        self._limits = {
            joint.get('name'): tuple(
                float(joint.find('limit').get(key)) for key in ('lower', 'upper', 'velocity')
            )
            for joint in joints
            if joint.find('limit') is not None
        }
        self._low, self._high, self._speed = np.array(low), np.array(high), max_velocity
        self._lock = threading.Lock()
        self.faults: list[str] = []
        self.commands = self.points = 0

    def tools(self, names: Sequence[str], positions: np.ndarray) -> np.ndarray:
        """Positions [points, 3] of the tool in the base frame at joint positions."""
        points = len(positions)
        place, rotation = np.zeros((points, 3)), np.broadcast_to(np.eye(3), (points, 3, 3))
        columns = {name: positions[:, column] for column, name in enumerate(names)}
        for link in self._chain:
            turn, offset = link.place(columns.get(link.name, np.zeros(points)))
            place = place + (rotation @ np.broadcast_to(offset, (points, 3))[..., None])[..., 0]
            rotation = rotation @ turn
        return place

    def check(self, names, times, positions, velocities, starts=()) -> None:
        """Looks at one trajectory; `starts` are where the arm may have been, by joint name."""
        found = list(self._look(list(names), times, positions, velocities, starts))
        with self._lock:
            self.commands += 1
            self.points += len(times)
            self.faults += found

    def message(self, message, starts=()) -> None:
        """Looks at a JointTrajectory message; `starts` are as those of `check`."""
        points = message.points
        self.check(
            message.joint_names,
            [p.time_from_start.sec + 1e-9 * p.time_from_start.nanosec for p in points],
            [list(p.positions) for p in points],
            [list(p.velocities) for p in points],
            starts,
        )

    def _look(self, names, times, positions, velocities, starts):
        if not len(times):
            yield 'no point'
            return
        for values in (*positions, *velocities):
            if len(values) != len(names):
                yield f'{len(values)} values for {len(names)} joints'
                return
        times, positions, velocities = (
            np.array(values, dtype=float) for values in (times, positions, velocities)
        )
        if not all(np.isfinite(values).all() for values in (times, positions, velocities)):
            yield 'not finite'
            return
        if times[0] < 0 or (times[1:] <= times[:-1]).any():
            yield f'times {list(times)} do not increase'
        if velocities[-1].any():
            yield f'the last velocity is {velocities[-1]}'
        yield from self._joints(names, times, positions, velocities)
        yield from self._tool(names, positions, starts)

    def _joints(self, names, times, positions, velocities):
        for column, name in enumerate(names):
            lower, upper, speed = self._limits[name]
            q, moving = positions[:, column], velocities[:, column]
            if q.min() < lower - JOINT_TOLERANCE or q.max() > upper + JOINT_TOLERANCE:
                yield f'{name} from {q.min()} to {q.max()}, limits {lower} to {upper}'
            if name.startswith('gripper'):
                continue
            peak = _peak(times, q, moving)
            if peak > min(speed, self._speed) * (1.0 + 1e-3):
                yield f'{name} moves at {peak}, limit {min(speed, self._speed)}'

    def _tool(self, names, positions, starts):
        low, high = self._low, self._high
        if starts:
            joints = list(starts[0])
            rows = np.array([[start[name] for name in joints] for start in starts])
            outside = self.tools(joints, rows)
            low, high = np.minimum(low, outside.min(axis=0)), np.maximum(high, outside.max(axis=0))
        tools = self.tools(names, positions)
        excess = np.maximum(low - tools, tools - high).max(axis=1)
        worst = int(excess.argmax())
        if excess[worst] > WORKSPACE_TOLERANCE:
            tool = tools[worst].round(4).tolist()
            yield (
                f'the tool at {tool}, point {worst + 1} of {len(tools)}, '
                f'is {excess[worst]:.4f} m outside the box'
            )


def _peak(times, q, moving) -> float:
    """Largest speed at the points and of the cubics between them."""
    mean, first, last = np.diff(q) / np.diff(times), moving[:-1], moving[1:]
    # v(u) = first + 2 u b + 3 u^2 c, 0 <= u <= 1; it is largest at an end or where v' = 0.
    b, c = 3 * mean - 2 * first - last, first + last - 2 * mean
    with np.errstate(divide='ignore', invalid='ignore'):
        u = np.clip(np.nan_to_num(-b / (3 * c)), 0.0, 1.0)
    between = np.abs(first + 2 * u * b + 3 * u * u * c)
    return float(max(np.abs(moving).max(), between.max(initial=0.0)))
