"""What is counted while the node runs, and which level of diagnostics it gets."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest

from efficientvla_ros.control.reasons import HoldReason
from efficientvla_ros.msg import PolicyStatus
from efficientvla_ros.ros.cameras.camera_meter import CameraMeter
from efficientvla_ros.ros.commander import State, Verdict
from efficientvla_ros.ros.inference_loop import InferenceLoop
from efficientvla_ros.ros.parameters.policy import TABLE
from efficientvla_ros.ros.reporting.diagnostics import diagnostic_array
from efficientvla_ros.ros.reporting.status import Telemetry, fill_guards, fill_settings
from efficientvla_ros.types import ActionChunk, JointCommand, TickReport

RUNNING = Verdict(State.RUNNING)
OK, WARN, ERROR, STALE = b'\x00', b'\x01', b'\x02', b'\x03'
MS = 1_000_000


def held(reason: HoldReason, detail: str = '') -> Verdict:
    return Verdict(State.HOLDING, reason, detail)


def command(stamp_ms: int, last_s: float, points: int = 3) -> JointCommand:
    times = np.linspace(0.2, last_s, points)
    zeros = np.zeros((points, 1))
    return JointCommand(('joint',), stamp_ms * MS, times, zeros, zeros)


def chunk(stamp_ms: int) -> ActionChunk:
    return ActionChunk(np.zeros((8, 7)), 0.2, stamp_ms * MS, 'pick', 0)


def filled(telemetry: Telemetry, verdict: Verdict = RUNNING) -> PolicyStatus:
    status = PolicyStatus()
    telemetry.fill(status, verdict)
    return status


def test_times_of_a_plan_are_not_mixed_with_those_of_the_plan_before():
    telemetry = Telemetry()
    for name, seconds in (('dense', 0.5), ('cache', 0.25)):
        telemetry.plan_changed(name)
        for _ in range(5):
            telemetry.inference_started(seconds)
            telemetry.inference_done(TickReport({'vision': seconds}), None, chunk(0))
        status = filled(telemetry)
        costs = [status.inference_p50, status.inference_p99, status.stage_p50[0], status.input_p50]
        assert (status.preset, costs) == (name, [seconds] * 4)
    assert status.ticks == 10, 'counters go on'
    telemetry.plan_changed('dense')
    assert filled(telemetry).inference_p50 == 0.0


def test_percentiles_of_stages_and_of_the_whole_inference():
    telemetry = Telemetry()
    for milliseconds in range(1, 101):
        report = TickReport({'vision': milliseconds * 1e-3, 'language': 0.5})
        telemetry.inference_done(report, None, chunk(0))
        telemetry.inference_started(milliseconds * 1e-4)
    status = filled(telemetry)
    assert list(status.stage_names) == ['vision', 'language']
    p = [status.stage_p50[0], status.stage_p95[0], status.stage_p99[0]]
    assert p == pytest.approx([0.05, 0.095, 0.099], abs=1.1e-3)
    assert status.inference_p99 == pytest.approx(status.stage_p99[0] + 0.5)
    assert status.input_p95 == pytest.approx(0.0095, abs=1.1e-4)
    assert (status.ticks, status.chunk_actions) == (100, 8)


def test_latency_and_what_was_left_of_the_plan_before():
    telemetry = Telemetry()
    telemetry.commanded(command(0, 1.6), chunk(0), 100 * MS)
    assert filled(telemetry).chunk_depth_p50 == 0.0  # nothing was replaced yet
    telemetry.commanded(command(600, 1.6, 7), chunk(600), 750 * MS)
    status = filled(telemetry)
    assert status.chunk_depth_p50 == pytest.approx(1.6 - 0.75)
    assert status.latency_p99 == pytest.approx(0.15)
    assert status.chunk_waypoints == 7
    telemetry.changed(held(HoldReason.NO_IMAGE), 800 * MS)
    telemetry.commanded(command(9000, 1.6), chunk(9000), 9100 * MS)
    assert filled(telemetry).chunk_depth_p05 == pytest.approx(0.85)  # a stop is no depth
    telemetry.commanded(command(11_000, 1.6), chunk(11_000), 11_100 * MS)
    assert filled(telemetry).chunk_depth_p05 == pytest.approx(-0.5)  # it had run out


def test_ticks_without_a_command_are_counted_by_what_came_of_them():
    telemetry = Telemetry()
    telemetry.tick_ended(True, False, 3)
    telemetry.tick_ended(False, True, 4)
    telemetry.tick_ended(False, False, 5)
    telemetry.tick_failed('not finite')
    status = filled(telemetry)
    assert (status.ticks_held, status.ticks_discarded, status.ticks_failed) == (1, 1, 1)
    assert status.parameter_revision == 5
    telemetry.clear()
    assert filled(telemetry).ticks_held == 0


def test_guards_are_split_into_changes_and_holds():
    status = PolicyStatus()
    counters = Counter(commands=9, workspace_clamped=4, chunk_expired=2)
    fill_guards(status, counters, {'chunk_expired': 2})
    assert (list(status.intervention_names), list(status.intervention_counts)) == (
        ['workspace_clamped'], [4],
    )  # fmt: skip
    assert (list(status.hold_names), list(status.hold_counts)) == (['chunk_expired'], [2])


def test_settings_that_are_not_there_say_that_the_arm_is_commanded_at_full_speed():
    status, settings = PolicyStatus(), {'command.interface': 'joint_trajectory'}
    fill_settings(status, settings)
    assert (status.dry_run, status.speed_scale, status.execution) == (False, 1.0, '')
    fill_settings(status, {**settings, 'safety.dry_run': True, 'safety.speed_scale': 0.2})
    assert (status.dry_run, status.speed_scale) == (True, 0.2)


def test_a_camera_has_rate_jitter_and_age():
    meter = CameraMeter()
    assert meter.age(5) == -1.0
    for index in range(60):
        meter.arrived(index, 10.0 + index / 30 + (0.01 if index % 10 == 0 else 0.0))
    rate, jitter = meter.rhythm(12.0)
    assert rate == pytest.approx(30.0, rel=0.02)
    assert jitter == pytest.approx(0.01, abs=1e-3)
    assert meter.age(59 + 20 * MS) == pytest.approx(0.02)
    assert meter.rhythm(60.0) == (0.0, 0.0)  # long silent


def test_a_tick_that_finds_nothing_new_is_counted_once_however_often_it_is_tried():
    tried = []
    loop = InferenceLoop(lambda: tried.append(0) or len(tried) > 3, lambda error: None)
    loop.start()
    loop.request()
    while len(tried) < 4:
        loop.offer()
    loop.stop()
    assert (loop.starved, loop.missed) == (1, 0)


def status(**values: object) -> PolicyStatus:
    message = PolicyStatus(
        state=PolicyStatus.RUNNING, ticks=9, rate=2.0, tick_period=0.5, inference_p95=0.1,
        preset='dense', camera_names=['camera'], camera_rate=[30.0], camera_age=[0.03],
        camera_jitter=[0.001],
    )  # fmt: skip
    for name, value in values.items():
        setattr(message, name, value)
    return message


def levels(now: PolicyStatus, before: PolicyStatus | None = None) -> SimpleNamespace:
    array = diagnostic_array(now, before, '/arm/policy_node', TABLE.settings(), {})
    assert all(entry.name.startswith('arm/policy_node: ') for entry in array.status)
    entries = {entry.name.split(': ')[1].split()[0]: entry for entry in array.status}
    return SimpleNamespace(**entries)


def test_a_node_that_runs_well_is_ok_in_every_part():
    entries = levels(status(), status())
    assert {entry.level for entry in vars(entries).values()} == {OK}
    assert entries.safety.message == 'quiet'
    assert entries.camera.message == '30.0 Hz'


def test_an_unconfigured_node_is_stale_in_its_parts_and_an_error_after_a_failure():
    fresh = PolicyStatus()
    entries = levels(fresh)
    assert entries.policy.level == OK
    assert entries.inference.level == entries.safety.level == entries.acceleration.level == STALE
    fresh.last_error = 'configure failed: x'
    assert levels(fresh).policy.level == ERROR


@pytest.mark.parametrize(
    ('part', 'level', 'now'),
    [
        ('policy', WARN, {'state': PolicyStatus.HOLDING, 'hold_reason': 'no_image'}),
        ('policy', ERROR, {'state': PolicyStatus.ERROR, 'hold_reason': 'too_many_failures'}),
        ('safety', WARN, {'state': PolicyStatus.STOPPED, 'hold_reason': 'stopped'}),
        ('safety', ERROR, {'state': PolicyStatus.ERROR, 'hold_reason': 'too_many_failures'}),
        ('safety', WARN, {'intervention_names': ['joint_limit'], 'intervention_counts': [3]}),
        ('safety', OK, {'intervention_names': ['step_dropped'], 'intervention_counts': [3]}),
        ('inference', WARN, {'ticks_late': 1}),
        ('inference', WARN, {'ticks_failed': 1}),
        ('inference', WARN, {'inference_p95': 0.6}),
        ('inference', ERROR, {'rate': 0.0}),
        ('acceleration', WARN, {'updates_missed': 2}),
        ('acceleration', WARN, {'acceleration_note': 'audit: ticks run dense from now on'}),
        ('camera', WARN, {'camera_age': [0.3]}),
        ('camera', ERROR, {'camera_age': [0.7]}),
        ('camera', STALE, {'camera_age': [-1.0]}),
        ('camera', WARN, {'camera_jitter': [0.03]}),
    ],
)
def test_levels_follow_the_rules(part, level, now):
    entry = getattr(levels(status(**now), status()), part)
    assert entry.level == level, entry.message
    if part in ('policy', 'safety') and 'hold_reason' in now:
        assert now['hold_reason'] in entry.message


def test_what_was_there_a_second_ago_is_no_warning_any_more():
    same = status(
        ticks_late=3, updates_missed=1, acceleration_note='x',
        intervention_names=['joint_limit'], intervention_counts=[3],
    )  # fmt: skip
    assert {entry.level for entry in vars(levels(same, same)).values()} == {OK}


def test_a_dry_run_is_told():
    assert levels(status(dry_run=True)).safety.message == 'dry run: nothing is sent to the arm'
