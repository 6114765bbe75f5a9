"""What ticks did with channels: kinds, rates, times as they occur, audits and deviations."""

from __future__ import annotations

import json

import numpy as np
import pytest

from efficientvla_ros.evaluation.channel_log import ChannelLog, summarise_channels, tick_kind
from efficientvla_ros.evaluation.deviation import summarise_deviation
from efficientvla_ros.types import TickReport

FIRST, SECOND = np.full(7, 0.1), np.full(7, 0.3)


def update(reason: str, **fields: object) -> TickReport:
    return TickReport(updated=True, update_reason=reason, **fields)


def sparse(**fields: object) -> TickReport:
    return TickReport(channel_ratio=0.25, **fields)


def log(*reports: TickReport) -> dict:
    found = ChannelLog()
    for report in reports:
        found.add(report)
    return json.loads(json.dumps(found.as_dict(), allow_nan=False))


def test_a_tick_is_an_update_or_leaves_channels_out_or_does_neither():
    assert tick_kind(update('change')) == 'update'
    assert tick_kind(update('every frame', channel_ratio=0.25)) == 'update'
    assert tick_kind(sparse()) == 'sparse'
    assert tick_kind(TickReport()) == 'whole'


def test_ticks_that_leave_nothing_out_need_no_log():
    assert log() == {} and log(TickReport(), TickReport()) == {}
    assert summarise_channels([({}, [0.1, 0.2])]) is None


def test_an_audit_counts_once_and_not_one_of_the_episode_before():
    found = log(
        update('first frame', audit_deviation=FIRST),
        sparse(audit_deviation=SECOND, similarity=0.5),
        sparse(audit_deviation=SECOND, similarity=0.75),
    )
    assert found['audits'] == [[0.3] * 7]
    assert found['similarities'] == [None, 0.5, 0.75]


def test_what_a_choice_exchanged_counts_once():
    found = log(
        update('first frame', channels_changed=0.5),  # of the episode before
        sparse(channels_changed=0.1),
        sparse(channels_changed=0.1),
        update('change', channels_changed=0.1),
        sparse(channels_changed=0.3),
    )
    assert found['changed'] == [0.1, 0.3]
    summary = summarise_channels([(found, [0.1] * 5)])
    assert summary['mean_changed'] == pytest.approx(0.2)


def test_updates_missed_are_those_of_the_episode():
    found = log(update('first frame', updates_missed=5), sparse(), sparse(updates_missed=7))
    assert found['missed'] == 2


def test_times_are_of_each_kind_and_of_the_mix_as_it_occurs():
    one = log(update('first frame'), sparse(audit_deviation=FIRST), sparse(audit_deviation=FIRST))
    two = log(update('drift'), sparse(audit_deviation=SECOND), TickReport())
    found = summarise_channels([(one, [0.4, 0.1, 0.1]), ({}, [9.0]), (two, [0.6, 0.2, 0.5])])
    assert found['ticks'] == {'update': 2, 'sparse': 3, 'whole': 1}
    assert found['update_rate'] == pytest.approx(2 / 6)
    assert found['mean_ratio'] == pytest.approx(0.25 * 3 / 6)
    assert found['reasons'] == {'first frame': 1, 'drift': 1}
    assert found['seconds']['update']['p50'] == pytest.approx(0.5)
    assert found['seconds']['sparse']['p50'] == pytest.approx(0.1)
    assert found['seconds']['whole']['p95'] == pytest.approx(0.5)
    assert found['seconds']['mix']['p50'] == pytest.approx(0.3)
    assert found['audits'] == 2 and found['audit_deviation'] == pytest.approx([0.2] * 7)


def test_what_changed_by_itself_is_told_once_even_where_ticks_then_run_whole():
    dead = 'channel updates ended by RuntimeError: ticks run dense from now on'
    logs = [log(TickReport(), TickReport(notes=(dead,))), log(TickReport(notes=(dead,)))]
    found = summarise_channels(zip(logs, ([0.1, 0.1], [0.1])))
    assert found['notes'] == [dead] and found['ticks'] == {'whole': 3}
    assert found['update_rate'] == 0.0


def test_times_must_be_those_of_the_logged_ticks():
    with pytest.raises(ValueError, match='shorter'):
        summarise_channels([(log(sparse(), sparse()), [0.1])])


def test_deviation_is_of_all_ticks_and_of_those_that_left_something_out():
    one = {'kinds': ['update', 'sparse'], 'ratios': [0.0, 0.25], 'relative': [0.0, 0.4]}
    two = {'kinds': ['update'], 'ratios': [0.25], 'deviation': [[0.4] * 7], 'relative': [0.8]}
    found = summarise_deviation([{**one, 'deviation': [[0.0] * 7, [0.2] * 7]}, two])
    assert (found['episodes'], found['ticks']) == (2, 3)
    assert found['deviation'] == pytest.approx([0.2] * 7)
    assert found['relative'] == pytest.approx(0.4)
    assert found['sparse_relative'] == pytest.approx(0.6)


def test_a_plan_without_channels_is_pruned_at_every_tick():
    part = {'kinds': ['whole'], 'ratios': [0.0], 'deviation': [[0.1] * 7], 'relative': [0.3]}
    assert summarise_deviation([part])['sparse_relative'] == pytest.approx(0.3)
    part['kinds'] = ['update']
    assert summarise_deviation([part])['sparse_relative'] is None
