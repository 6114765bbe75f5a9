"""Status and diagnostics say what adaptive channels did."""

from __future__ import annotations

import math

import numpy as np
import pytest

from efficientvla_ros.control.reasons import HoldReason
from efficientvla_ros.msg import PolicyStatus
from efficientvla_ros.ros.commander import State, Verdict
from efficientvla_ros.ros.parameters.policy import TABLE
from efficientvla_ros.ros.reporting.diagnostics import diagnostic_array
from efficientvla_ros.ros.reporting.status import Telemetry
from efficientvla_ros.types import TickReport

RUNNING = Verdict(State.RUNNING, HoldReason.NONE)
DEVIATION = np.array([0.001, 0.002, 0.0, 0.01, 0.0, 0.0, 0.25])
CHOSE = TickReport(updated=True, update_reason='drift', similarity=0.9, audit_deviation=DEVIATION)
PRUNED = TickReport(
    channel_ratio=0.25, pattern_age=3, similarity=0.99, updates_missed=2, audit_deviation=DEVIATION
)


def filled(*reports: TickReport) -> PolicyStatus:
    telemetry, status = Telemetry(), PolicyStatus()
    for report in reports:
        telemetry.inference_done(report)
    telemetry.fill(status, RUNNING)
    return status


def test_status_is_of_the_newest_tick_and_counts_the_choices():
    status = filled(CHOSE, PRUNED, CHOSE, PRUNED)
    assert (status.channel_ratio, status.pattern_age, status.updates_missed) == (0.25, 3, 2)
    assert status.similarity == 0.99
    assert (status.channel_updates, status.update_reason) == (2, 'drift')
    assert list(status.audit_deviation) == pytest.approx(DEVIATION.tolist())


def test_a_dense_plan_has_nothing_to_tell():
    status = filled(TickReport())
    assert (status.channel_ratio, status.channel_updates, status.update_reason) == (0.0, 0, '')
    assert math.isnan(status.similarity)
    assert len(status.audit_deviation) == 0


def test_an_activation_starts_counting_again():
    telemetry, status = Telemetry(), PolicyStatus()
    telemetry.inference_done(CHOSE)
    telemetry.clear()
    telemetry.fill(status, RUNNING)
    assert (status.channel_updates, status.update_reason) == (0, '')


def test_diagnostics_show_deviations_by_dimension():
    array = diagnostic_array(filled(CHOSE, PRUNED), None, '/policy', TABLE.settings(), {})
    entry = next(e for e in array.status if e.name == 'policy: acceleration')
    values = {value.key: value.value for value in entry.values}
    assert values['channels left out [%]'] == '25.0'
    assert values['channel choice age'] == '3'
    assert values['newest channel update'] == 'drift'
    assert values['audit deviation'] == '0.001 0.002 0 0.01 0 0 0.25'
