"""Who may command the arm, and when: one hold command, nothing after it, no plan from before.

Regressions guarded: a plan that was made before a stop, a reset or a new instruction reached the
arm; a hold was sent again with every check.
"""

from __future__ import annotations

import threading

import numpy as np
import pytest

from efficientvla_ros.control.kinematics import ArmKinematics
from efficientvla_ros.control.pipeline import ChunkController
from efficientvla_ros.control.reasons import HoldReason
from efficientvla_ros.msg import PolicyStatus
from efficientvla_ros.ros.commander import Commander, State, Verdict
from efficientvla_ros.ros.inference_loop import InferenceLoop
from efficientvla_ros.ros.timing import Rate, Window, timed
from efficientvla_ros.simulation.arm import ARM_JOINTS, HOME_POSITIONS, TCP_FRAME, arm_urdf
from efficientvla_ros.types import ActionChunk

HOME = np.array(HOME_POSITIONS[:6])
SECOND = 1_000_000_000


class Bench:
    """A commander with a real controller and a clock that the test moves."""

    def __init__(self) -> None:
        self.now = 100 * SECOND
        self.sent, self.shown, self.verdicts = [], [], []
        self.commander = Commander(
            self.sent.append, lambda: self.now, self.verdicts.append, self.shown.append
        )
        kinematics = ArmKinematics(arm_urdf(), ARM_JOINTS, TCP_FRAME)
        self.commander.attach(ChunkController(kinematics, gripper_joint='gripper'))
        self.commander.open()

    def chunk(self, dx: float = 0.01) -> ActionChunk:
        actions = np.zeros((8, 7))
        actions[:, 0], actions[:, 6] = dx, 1.0
        return ActionChunk(actions, 0.2, self.now, 'pick red can', 1)

    def move(self):
        return self.commander.execute(self.chunk(), HOME, self.commander.epoch)


@pytest.fixture
def bench():
    return Bench()


def test_states_are_those_of_the_message():
    for state in State:
        assert getattr(PolicyStatus, state.name) == state.value


def test_a_plan_becomes_a_command_and_the_state_running(bench):
    assert bench.move().command is not None
    assert len(bench.sent) == 1
    assert bench.commander.verdict.state is State.RUNNING


def test_a_command_that_took_too_long_to_make_is_not_sent(bench, monkeypatch):
    bench.move()
    make = ChunkController.command

    def stalled(*arguments):
        result = make(*arguments)
        bench.now += SECOND  # the process stood still
        return result

    monkeypatch.setattr(ChunkController, 'command', stalled)
    result = bench.move()
    assert result.command is None and result.reason is HoldReason.COMMAND_REJECTED
    assert 'it took 1.00 s to make, expected at most 0.5 s' in bench.commander.verdict.detail
    monkeypatch.undo()
    assert bench.move().command is not None
    assert bench.commander.verdict.state is State.RUNNING


def test_one_hold_command_for_a_reason_that_stays(bench):
    bench.move()
    bench.now += SECOND // 2
    for _ in range(5):
        bench.commander.hold(HoldReason.IMAGE_TOO_OLD, 'camera silent')
    assert len(bench.sent) == 2
    hold = bench.sent[-1]
    assert hold.positions.shape == (1, 7)
    assert not hold.velocities.any()
    assert hold.stamp_ns == bench.now
    assert hold.times[0] == pytest.approx(bench.commander.hold_duration)


def test_another_reason_is_told_but_sends_no_second_hold(bench):
    bench.move()
    bench.commander.hold(HoldReason.IMAGE_TOO_OLD, 'camera silent')
    bench.commander.hold(HoldReason.JOINT_STATE_TOO_OLD, 'arm silent')
    assert len(bench.sent) == 2
    assert [v.reason for v in bench.verdicts[-2:]] == [
        HoldReason.IMAGE_TOO_OLD, HoldReason.JOINT_STATE_TOO_OLD,
    ]  # fmt: skip


def test_the_hold_is_on_the_way_of_the_trajectory(bench):
    bench.move()
    planned = bench.sent[0]
    bench.now += SECOND // 2
    bench.commander.hold(HoldReason.IMAGE_TOO_OLD, '')
    low, high = planned.positions.min(axis=0), planned.positions.max(axis=0)
    held = bench.sent[-1].positions[0]
    assert (held >= low - 1e-6).all() and (held <= high + 1e-6).all()
    at = np.array([np.interp(0.6, planned.times, column) for column in planned.positions.T])
    np.testing.assert_allclose(held, at, atol=0.02)  # half of the braking time further on


def test_nothing_is_held_that_was_never_moved(bench):
    bench.commander.hold(HoldReason.BAD_IMAGE, 'size 0')
    bench.commander.close()
    bench.commander.finish()
    assert bench.sent == []


@pytest.mark.parametrize('interruption', ['discard', 'reset', 'stop', 'hold', 'close'])
def test_a_plan_from_before_an_interruption_is_thrown_away(bench, interruption):
    bench.move()
    epoch, chunk = bench.commander.epoch, bench.chunk()
    sent = len(bench.sent)
    if interruption == 'stop':
        bench.commander.latch(State.STOPPED, HoldReason.STOPPED)
    elif interruption == 'hold':
        bench.commander.hold(HoldReason.IMAGE_TOO_OLD, '')
    else:
        getattr(bench.commander, interruption)()
    assert bench.commander.execute(chunk, HOME, epoch) is None
    assert all(len(command.times) == 1 for command in bench.sent[sent:])


def test_the_hold_is_the_last_command_when_commanding_ends(bench):
    bench.move()
    epoch = bench.commander.epoch
    bench.commander.close()
    assert bench.commander.execute(bench.chunk(), HOME, epoch) is None
    assert bench.move() is None
    bench.commander.finish()
    assert [len(command.times) for command in bench.sent[1:]] == [1]
    assert bench.commander.verdict.state is State.IDLE


def test_a_stop_stays_through_deactivate_and_activate_until_reset(bench):
    bench.move()
    bench.commander.latch(State.STOPPED, HoldReason.STOPPED)
    bench.commander.close()
    bench.commander.finish()
    bench.commander.open()
    assert bench.move() is None
    assert bench.commander.verdict.state is State.STOPPED
    bench.commander.reset()
    assert bench.move().command is not None


def test_a_hold_ends_with_the_next_good_plan(bench):
    bench.move()
    bench.commander.hold(HoldReason.BAD_IMAGE, 'size 0')
    assert bench.move().command is not None
    assert bench.commander.verdict.state is State.RUNNING


def test_a_plan_that_is_not_finite_holds(bench):
    bench.move()
    result = bench.commander.execute(bench.chunk(np.nan), HOME, bench.commander.epoch)
    assert result.reason is HoldReason.NON_FINITE
    assert bench.commander.verdict.reason is HoldReason.NON_FINITE
    assert len(bench.sent[-1].times) == 1


def test_a_verdict_that_is_out_of_date_does_not_hold(bench):
    epoch = bench.commander.epoch
    bench.commander.discard()
    bench.commander.hold(HoldReason.BAD_IMAGE, 'of an earlier epoch', epoch)
    assert bench.commander.verdict.reason is HoldReason.STARTING


def test_what_has_not_arrived_yet_is_no_reason_right_after_the_start(bench):
    bench.commander.hold(HoldReason.NO_IMAGE, '')
    assert bench.commander.verdict.reason is HoldReason.STARTING


def test_after_a_reset_the_old_trajectory_is_not_held(bench):
    # The robot may have been moved meanwhile: holding where the old plan was would move it.
    bench.move()
    bench.commander.reset()
    bench.commander.close()
    bench.commander.finish()
    assert len(bench.sent) == 1


def test_a_dry_run_shows_everything_and_sends_nothing(bench):
    bench.commander.set_dry_run(True)
    assert bench.move().command is not None
    assert bench.commander.verdict.state is State.HOLDING
    assert bench.commander.verdict.reason is HoldReason.DRY_RUN
    bench.commander.hold(HoldReason.IMAGE_TOO_OLD, '')
    bench.commander.close()
    bench.commander.finish()
    assert bench.sent == [] and bench.commander.commands_sent == 0
    assert [len(command.times) for command in bench.shown] == [8, 1]


def test_a_dry_run_begins_with_a_hold_and_ends_at_rest(bench):
    bench.move()
    bench.now += SECOND // 2
    bench.commander.set_dry_run(True)
    assert [len(command.times) for command in bench.sent] == [8, 1]
    bench.move()
    epoch = bench.commander.epoch
    bench.commander.set_dry_run(False)
    assert bench.commander.verdict == Verdict(State.HOLDING, HoldReason.STARTING)
    # What was planned in the dry run is not sent, and no hold for a move that never was.
    assert bench.commander.execute(bench.chunk(), HOME, epoch) is None
    assert len(bench.sent) == 2
    bench.move()
    assert len(bench.sent) == 3


def test_a_stop_outlasts_a_change_of_the_dry_run(bench):
    bench.commander.latch(State.STOPPED, HoldReason.STOPPED)
    bench.commander.set_dry_run(True)
    bench.commander.set_dry_run(False)
    assert bench.commander.verdict.state is State.STOPPED


def test_holds_are_counted_by_reason(bench):
    for _ in range(2):
        bench.move()
        for _ in range(3):
            bench.commander.hold(HoldReason.IMAGE_TOO_OLD, '')
    bench.commander.latch(State.STOPPED, HoldReason.STOPPED)
    assert bench.commander.holds['image_too_old'] == 2
    assert bench.commander.holds['stopped'] == 1
    epoch = bench.commander.epoch - 1
    bench.commander.execute(bench.chunk(), HOME, epoch)
    assert bench.commander.discarded == 1


def test_a_command_outside_the_limits_is_not_sent_and_not_remembered(bench, monkeypatch):
    bench.move()
    command = ChunkController.command

    def too_far(self, chunk, joints, now_ns):
        result = command(self, chunk, joints, now_ns)
        result.command.positions[2, 0] = 9.0
        return result

    monkeypatch.setattr(ChunkController, 'command', too_far)
    bench.now += SECOND // 2
    result = bench.move()
    assert result.command is None
    assert result.reason is HoldReason.COMMAND_REJECTED
    assert 'joint "waist" goes to 9.000' in result.detail
    hold = bench.sent[-1]
    assert len(bench.sent) == 2 and len(hold.times) == 1
    assert abs(hold.positions[0, 0]) < 0.5
    assert bench.commander.controller.counters['command_rejected'] == 1


def test_a_plan_that_does_not_come_in_time_is_named_and_still_taken(bench):
    bench.move()
    epoch = bench.commander.epoch
    bench.now += SECOND
    bench.commander.look_for_late_plan()
    assert bench.commander.verdict.state is State.RUNNING
    bench.now += SECOND
    chunk = bench.chunk()
    bench.commander.look_for_late_plan()
    assert bench.commander.verdict.reason is HoldReason.INFERENCE_LATE
    assert len(bench.sent) == 1  # the arm rests: there is nothing to brake
    assert bench.commander.execute(chunk, HOME, epoch).command is not None
    assert bench.commander.verdict.state is State.RUNNING


def test_a_jump_of_the_clock_starts_over_but_ends_no_stop(bench):
    bench.move()
    epoch = bench.commander.epoch
    bench.commander.start_over(HoldReason.CLOCK_JUMPED, 'back by 5 s')
    assert bench.commander.verdict.reason is HoldReason.CLOCK_JUMPED
    assert bench.commander.execute(bench.chunk(), HOME, epoch) is None
    bench.commander.latch(State.STOPPED, HoldReason.STOPPED)
    bench.commander.start_over(HoldReason.CLOCK_JUMPED, 'back by 5 s')
    assert bench.commander.verdict.state is State.STOPPED


class Ticks:
    """A tick that the test holds up and counts."""

    def __init__(self, worked: bool = True) -> None:
        self.worked = worked
        self.begun, self.may_end = threading.Semaphore(0), threading.Semaphore(0)

    def __call__(self) -> bool:
        self.begun.release()
        self.may_end.acquire(timeout=10.0)
        return self.worked

    def wait(self, timeout: float = 10.0) -> bool:
        return self.begun.acquire(timeout=timeout)


def test_stopping_the_loop_waits_for_the_tick_under_way():
    ticks = Ticks()
    loop = InferenceLoop(ticks, lambda error: None)
    loop.start()
    loop.request()
    assert ticks.wait()
    assert not loop.stop(timeout_s=0.05)
    ticks.may_end.release()
    assert loop.stop()


def test_requests_during_a_tick_run_one_more_and_count_as_missed():
    ticks = Ticks()
    loop = InferenceLoop(ticks, lambda error: None)
    loop.start()
    loop.request()
    assert ticks.wait()
    for _ in range(3):
        loop.request()
    assert loop.missed == 2
    ticks.may_end.release(2)
    assert ticks.wait()
    loop.stop()
    assert not ticks.wait(timeout=0.05)


def test_a_tick_that_found_nothing_new_runs_again_with_the_next_offer():
    ticks = Ticks(worked=False)
    loop = InferenceLoop(ticks, lambda error: None)
    ticks.may_end.release(100)
    loop.start()
    loop.offer()
    assert not ticks.wait(timeout=0.05)  # nobody asked for a tick yet
    loop.request()
    assert ticks.wait()
    assert not ticks.wait(timeout=0.05)
    ticks.worked = True
    loop.offer()
    assert ticks.wait()
    loop.offer()
    assert not ticks.wait(timeout=0.05)
    assert loop.missed == 0
    loop.stop()


def test_the_loop_survives_a_tick_that_raises():
    errors, raised = [], threading.Event()

    def on_error(error: Exception) -> None:
        errors.append(error)
        raised.set()

    def tick() -> bool:
        raise ValueError('broken')

    loop = InferenceLoop(tick, on_error)
    loop.start()
    for _ in range(2):
        raised.clear()
        loop.request()
        assert raised.wait(10.0)
    assert loop.stop()
    assert len(errors) == 2


def test_a_window_keeps_the_newest_values_only():
    window = Window(4)
    assert window.quantiles(0.5, 1.0) == (0.0, 0.0)
    for value in (9.0, 1.0, 2.0, 3.0, 4.0):
        window.add(value)
    assert window.quantiles(0.0, 0.5, 1.0) == (1.0, 3.0, 4.0)
    assert len(window) == 4


def test_a_timed_callback_is_measured_also_when_it_raises():
    window = Window()

    def fail() -> None:
        raise ValueError

    with pytest.raises(ValueError):
        timed(window, fail)()
    assert len(window) == 1


def test_a_rate_is_zero_without_events():
    rate = Rate()
    assert rate.hertz == 0.0
    rate.tick()
    assert rate.hertz == 0.0
