"""Whatever a model puts out: nothing outside the limits is ever sent.

Ten thousand plans and more, sane and insane, with holds, stops, resets and new limits in between,
go through the commander; a checker with arithmetic of its own looks at every point that comes out.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from trajectory_checker import TrajectoryChecker

from efficientvla_ros.control.config import ControlConfig
from efficientvla_ros.control.kinematics import ArmKinematics
from efficientvla_ros.control.pipeline import ChunkController
from efficientvla_ros.control.reasons import HoldReason
from efficientvla_ros.ros.commander import Commander, State
from efficientvla_ros.simulation.arm import ARM_JOINTS, HOME_POSITIONS, TCP_FRAME, arm_urdf
from efficientvla_ros.types import ActionChunk

SECOND = 1_000_000_000
PLANS = 12_000
_PER_RUN = 100
KINEMATICS = ArmKinematics(arm_urdf(), ARM_JOINTS, TCP_FRAME)
STEP = 0.2

SANE = ('steady', 'zigzag', 'down', 'out')
KINDS = (*SANE, *SANE, *SANE, 'wild', 'huge', 'not finite', 'tiny', 'short', 'wrong shape')
EVENTS = ('', '', '', '', 'hold', 'stop', 'reset', 'discard', 'dry run', 'limits', 'moved')


def actions_of(kind: str, rng: np.random.Generator) -> np.ndarray:
    """A plan [3 to 7, 7] of a kind."""
    steps = rng.integers(3, 8)
    actions = np.zeros((steps, 7))
    actions[:, 6] = rng.random(steps)
    if kind == 'steady':
        actions[:, :6] = rng.normal(0.0, [0.02] * 3 + [0.1] * 3)
    elif kind == 'zigzag':
        actions[:, :6] = rng.normal(0.0, [0.03] * 3 + [0.2] * 3, (steps, 6))
    elif kind == 'down':
        actions[:, 2] = -rng.uniform(0.0, 0.06)
    elif kind == 'out':
        actions[:, :2] = 0.06 * np.array([np.cos(a := rng.uniform(0, 7)), np.sin(a)])
    elif kind == 'wild':
        actions[:, :6] = rng.normal(0.0, 1.0, (steps, 6))
    elif kind == 'huge':
        actions[:, :6] = rng.normal(0.0, 1.0, (steps, 6)) * 10.0 ** rng.uniform(2, 300)
    elif kind == 'not finite':
        actions[rng.integers(steps), rng.integers(7)] = rng.choice([np.nan, np.inf, -np.inf])
    elif kind == 'tiny':
        actions[:] = 5e-324
    elif kind == 'short':
        return actions[: rng.integers(0, 2)]
    else:
        return actions[:, :6]
    return actions


class Run:
    """A commander with an arm that follows what it is sent."""

    def __init__(self, seed: int, max_velocity: float) -> None:
        self.rng = np.random.default_rng(seed)
        self.now = 100 * SECOND
        self.config = ControlConfig(max_joint_velocity=max_velocity)
        self.commander = Commander(self.sent, lambda: self.now, lambda verdict: None, self.shown)
        self.controller = ChunkController(KINEMATICS, self.config, 'gripper')
        self.checker = self.make_checker()
        self.joints = np.array(HOME_POSITIONS[:6])
        self.observed = self.joints
        self.way = None
        self.commander.attach(self.controller)
        self.commander.open()

    def make_checker(self) -> TrajectoryChecker:
        config = self.config
        return TrajectoryChecker(
            arm_urdf(), config.workspace_min, config.workspace_max, config.max_joint_velocity
        )

    def look_at(self, command) -> None:
        start = dict(zip(ARM_JOINTS, self.observed))
        self.checker.check(
            command.names, command.times, command.positions, command.velocities, [start]
        )

    def sent(self, command) -> None:
        assert not self.commander.dry_run
        self.look_at(command)
        begin = self.now, self.joints
        due = command.stamp_ns + np.round(command.times * SECOND).astype(np.int64)
        self.way = begin, due, command.positions[:, :6]

    def shown(self, command) -> None:
        assert self.commander.dry_run

    def wait(self, seconds: float) -> None:
        """Time passes, and the arm follows."""
        self.now += round(seconds * SECOND)
        if self.way is not None:
            (begin, joints), due, positions = self.way
            times = np.concatenate([[begin], due])
            rows = np.vstack([joints, positions])
            self.joints = np.array([np.interp(self.now, times, row) for row in rows.T])

    def plan(self, kind: str, latency: float) -> None:
        """One tick: look, think, command."""
        stamp, epoch = self.now, self.commander.epoch
        self.observed = self.joints + self.rng.normal(0.0, 1e-3, 6)
        actions = actions_of(kind, self.rng)
        chunk = ActionChunk(actions, STEP, stamp, 'pick', 0)
        self.wait(latency)
        result = self.commander.execute(chunk, self.observed, epoch)
        if kind in ('not finite', 'wrong shape') and result is not None:
            assert result.command is None

    def disturb(self, event: str) -> None:
        commander = self.commander
        if event == 'hold':
            commander.hold(HoldReason.IMAGE_TOO_OLD, '')
        elif event == 'stop':
            commander.latch(State.STOPPED, HoldReason.STOPPED)
            self.wait(0.3)
            commander.reset()
        elif event in ('reset', 'discard'):
            getattr(commander, event)()
        elif event == 'dry run':
            commander.set_dry_run(True)
            self.plan('steady', 0.1)
            commander.set_dry_run(False)
        elif event == 'limits':
            commander.hold(HoldReason.IMAGE_TOO_OLD, '')
            tool = KINEMATICS.fk(self.joints)[:3, 3]
            low = np.minimum(self.rng.uniform([0.0, -0.3, 0.0], [0.15, -0.1, 0.1]), tool - 0.02)
            high = np.maximum(self.rng.uniform([0.3, 0.1, 0.2], [0.6, 0.4, 0.5]), tool + 0.02)
            self.config = replace(
                self.config,
                workspace_min=tuple(low),
                workspace_max=tuple(high),
                max_joint_velocity=float(self.rng.uniform(0.1, 3.0)),
            )
            self.commander.controller.config = self.config
            faults, commands, points = (
                self.checker.faults, self.checker.commands, self.checker.points
            )  # fmt: skip
            self.checker = self.make_checker()
            self.checker.faults = faults
            self.checker.commands, self.checker.points = commands, points
        elif event == 'moved':
            commander.reset()
            self.way = None
            self.joints = self.somewhere()

    def somewhere(self) -> np.ndarray:
        """Random joints [6] with the tool in the workspace."""
        low, span = KINEMATICS.lower, KINEMATICS.upper - KINEMATICS.lower
        while True:
            joints = low + self.rng.uniform(0.05, 0.95, 6) * span
            tool = KINEMATICS.fk(joints)[:3, 3]
            inside = (tool > self.config.workspace_min) & (tool < self.config.workspace_max)
            if inside.all():
                return joints


step = st.tuples(
    st.sampled_from(KINDS),
    st.floats(0.0, 0.4),  # latency, s; now and then longer than the whole plan
    st.floats(0.0, 1.0),  # until the next tick, s
    st.sampled_from(EVENTS),
)
totals = {'plans': 0, 'commands': 0, 'points': 0, 'rejected': 0}


@settings(
    max_examples=PLANS // _PER_RUN,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
    database=None,
    phases=[Phase.generate],  # shrinking a run of a hundred plans takes minutes
)
@given(
    seed=st.integers(0, 2**32 - 1),
    max_velocity=st.sampled_from([0.2, 1.0, 2.0, 10.0]),
    steps=st.lists(step, min_size=10, max_size=10),
)
def every_point_is_within_limits(seed, max_velocity, steps):
    run = Run(seed, max_velocity)
    for _ in range(_PER_RUN // 10):  # the same pattern again, with other numbers
        for kind, latency, gap, event in steps:
            run.plan(kind, latency if run.rng.random() > 0.05 else 5.0 * latency)
            run.wait(gap)
            run.disturb(event)
            totals['plans'] += 1
    run.commander.close()
    run.commander.finish()
    totals['commands'] += run.checker.commands
    totals['points'] += run.checker.points
    totals['rejected'] += run.commander.controller.counters[HoldReason.COMMAND_REJECTED.value]
    assert not run.checker.faults, run.checker.faults[:3]


@pytest.mark.timeout(600)
def test_nothing_outside_the_limits_is_sent_whatever_the_plans():
    every_point_is_within_limits()
    assert totals['commands'] >= 10_000 and totals['points'] >= 30_000, totals
    # The last check is a safety net, not the way to keep within limits.
    assert totals['rejected'] < 0.05 * totals['commands']


def test_the_checker_finds_what_is_wrong():
    # A checker that never complains would prove nothing.
    checker = TrajectoryChecker(arm_urdf(), [0.05, -0.4, 0.0], [0.6, 0.4, 0.5], 2.0)
    names, home = [*ARM_JOINTS, 'gripper'], list(HOME_POSITIONS)
    still = [0.0] * 7

    def faults(times, positions, velocities):
        checker.faults.clear()
        checker.check(names, times, positions, velocities)
        return ' '.join(checker.faults)

    assert faults([0.5, 1.0], [home, home], [still, still]) == ''
    assert 'do not increase' in faults([1.0, 1.0], [home, home], [still, still])
    assert 'not finite' in faults([1.0], [[np.nan] * 7], [still])
    assert 'last velocity' in faults([1.0], [home], [[0.1] * 7])
    far = [3.0, *home[1:]]
    assert 'waist moves' in faults([0.5, 1.0], [home, far], [still, still])
    assert 'waist from' in faults([1.0], [[9.0, *home[1:]]], [still])
    assert 'outside the box' in faults([1.0], [[3.0, *home[1:]]], [still])
    tool = KINEMATICS.fk(np.array(home[:6]))[:3, 3]
    np.testing.assert_allclose(checker.tools(names, np.array([home]))[0], tool, atol=1e-9)
