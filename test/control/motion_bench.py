"""A simulated arm that receives commands as joint_trajectory_controller does, and a checker.

The checker shares nothing with the code that limits: it samples what the receiver makes of the
messages at 1 kHz and looks at differences.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from efficientvla_ros.control.config import ControlConfig
from efficientvla_ros.control.kinematics import ArmKinematics
from efficientvla_ros.control.pipeline import ChunkController, CommandResult
from efficientvla_ros.simulation.arm import HOME_POSITIONS
from efficientvla_ros.simulation.trajectory_controller import JointTrajectoryController
from efficientvla_ros.types import ActionChunk, JointCommand

MS = 1_000_000
STEP = 0.2
HORIZON = 8


@dataclass
class Bench:
    """One arm under one controller; `run` follows a schedule of ticks."""

    kinematics: ArmKinematics
    config: ControlConfig
    now_ns: int = 1_000_000_000
    points: int = 0
    results: list[CommandResult] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.controller = ChunkController(self.kinematics, self.config, 'gripper')
        self.receiver = JointTrajectoryController(self.controller.joint_names)
        self.receiver.reset(np.array(HOME_POSITIONS), self.now_ns)
        self.times_ns: list[int] = []
        self.samples: list[tuple[np.ndarray, np.ndarray]] = []

    @property
    def arm(self) -> np.ndarray:
        return self.receiver.sample(self.now_ns)[0][:6]

    def run_until(self, time_ns: int) -> None:
        for now_ns in range(self.now_ns, time_ns, MS):
            self.times_ns.append(now_ns)
            self.samples.append(self.receiver.sample(now_ns))
        self.now_ns = max(self.now_ns, time_ns)

    def settle(self) -> None:
        """Runs until the arm has come to rest, 30 s at most."""
        for _ in range(300):
            self.run_until(self.now_ns + 100 * MS)
            if not np.any([velocity for _, velocity in self.samples[-100:]]):
                break

    def deliver(self, command: JointCommand, transport_ms: int = 0) -> None:
        self.run_until(self.now_ns + transport_ms * MS)
        check_message(command)
        accepted, why = self.receiver.accept(
            command.names, command.stamp_ns, command.times, command.positions,
            command.velocities, self.now_ns,
        )  # fmt: skip
        assert accepted, why
        self.points += len(command.times)

    def tick(self, actions: np.ndarray, latency_ms: int, transport_ms: int = 0) -> CommandResult:
        """Observes, plans for a while, commands; a hold brakes, as in the node."""
        observed, stamp_ns = self.arm, self.now_ns
        self.run_until(stamp_ns + latency_ms * MS)
        chunk = ActionChunk(actions, STEP, stamp_ns, 'pick', len(self.results))
        result = self.controller.command(chunk, observed, self.now_ns)
        self.results.append(result)
        if result.command is None:
            self.stop(transport_ms)
        else:
            self.deliver(result.command, transport_ms)
        return result

    def stop(self, transport_ms: int = 0) -> None:
        command = self.controller.stop_command(None, self.now_ns)
        if command is not None:
            self.deliver(command, transport_ms)

    def check(self, velocity: float, acceleration: float) -> None:
        """Raises AssertionError where the arm was ever beyond a limit."""
        positions = np.array([row[:6] for row, _ in self.samples])
        velocities = np.array([row[:6] for _, row in self.samples])
        kinematics = self.kinematics
        fastest = np.minimum(velocity, kinematics.velocity_limits)
        assert (np.abs(velocities) <= fastest * (1 + 1e-5) + 1e-7).all()
        assert (positions >= kinematics.lower - 1e-5).all()
        assert (positions <= kinematics.upper + 1e-5).all()
        jumps = np.abs(np.diff(velocities, axis=0))
        worst = float(jumps.max()) / 1e-3
        assert worst <= acceleration * (1 + 1e-3) + 1e-5, f'{worst} rad/s^2'
        # What is called velocity is what the positions do.
        moved = np.diff(positions, axis=0)
        mean = 0.5e-3 * (velocities[1:] + velocities[:-1])
        np.testing.assert_allclose(moved, mean, atol=acceleration * 1e-6)


def check_message(command: JointCommand) -> None:
    """What a real joint_trajectory_controller asks of a message."""
    assert np.isfinite(command.times).all()
    assert np.isfinite(command.positions).all() and np.isfinite(command.velocities).all()
    assert (np.diff(command.times) > 0.0).all()
    np.testing.assert_array_equal(command.velocities[-1], 0.0)


def smooth_chunks(rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Plans of a hand that wanders about, with what a policy's output shivers by."""
    heading = rng.normal(0.0, 0.01, 6)
    while True:
        heading = 0.8 * heading + rng.normal(0.0, 0.01, 6)
        actions = np.tile(np.append(heading, rng.random() > 0.5), (HORIZON, 1))
        actions[:, :6] += rng.normal(0.0, 0.002, (HORIZON, 6))
        yield actions


def hostile_chunks(rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Plans that turn back and forth, jump, or push out of the workspace at full length."""
    while True:
        size = 10.0 ** rng.uniform(-3, 1)
        actions = rng.uniform(-size, size, (HORIZON, 7))
        if rng.random() < 0.3:
            actions[:] = actions[0]
        elif rng.random() < 0.3:
            actions[::2] *= -1.0
        yield actions
