"""The audit: deviations in action units, milder ratios past the limit, recovery."""

import math

import numpy as np
import pytest
from naive_plans import deep_cogact, deep_openvla, engine_for, observation, profile_of

from efficientvla_ros.acceleration.config import AccelerationConfig
from efficientvla_ros.models.statistics import ActionStatistics
from efficientvla_ros.runtime.audit import (
    AuditSettings,
    RatioLadder,
    action_deviation,
    relative_deviation,
)
from efficientvla_ros.types import InputError

EAP = AccelerationConfig(channels_ratio=0.4)


@pytest.fixture(scope='module', params=[deep_cogact, deep_openvla])
def model(request):
    return request.param()


@pytest.fixture(scope='module')
def profile(model):
    return profile_of(model)


def update(engine, seed=0):
    """A tick that updates, a gap, and the tick after it; what both reported."""
    engine.reset()
    reports = []
    for _ in range(2):
        reports.append(engine.infer(observation(seed=seed))[1])
        assert engine.settle()
    return reports


def test_deviation_is_by_dimension_and_in_its_unit():
    actions, reference = np.zeros((4, 7)), np.zeros((4, 7))
    actions[:, 0] = [0.01, -0.01, 0.02, 0.0]
    actions[:2, 6] = 1.0
    np.testing.assert_allclose(
        action_deviation(actions, reference), [0.01, 0, 0, 0, 0, 0, 0.5], atol=1e-15
    )


def test_the_worst_dimension_counts_as_a_share_of_its_range():
    low, high = np.full(7, -0.1), np.full(7, 0.3)
    high[2] = low[2]  # a constant dimension cannot deviate
    statistics = ActionStatistics(low, high, np.arange(7) < 6)
    assert relative_deviation(np.array([0, 0.1, 0, 0, 0, 0, 0.1]), statistics) == 0.25
    assert relative_deviation(np.array([0, 0.1, 0, 0, 0, 0, 0.5]), statistics) == 0.5
    assert relative_deviation(np.array([np.nan, 0, 0, 0, 0, 0, 0]), statistics) == math.inf


def test_the_audit_is_what_the_old_pattern_would_have_done(model, profile):
    engine = engine_for(model, profile=profile, acceleration=EAP)
    frozen = AccelerationConfig(channels_ratio=0.4, channels_method='frozen')
    pruned = engine_for(model, profile=profile, acceleration=frozen)
    dense = engine_for(model, profile=profile)
    report = update(engine, seed=4)[1]
    # Before the first update the pattern is calibration's.
    expected = np.abs(
        pruned.infer(observation(seed=4))[0].actions - dense.infer(observation(seed=4))[0].actions
    ).mean(0)
    np.testing.assert_allclose(report.audit_deviation, expected, atol=1e-5)
    assert report.audit_deviation.shape == (7,) and expected.max() > 0


def test_an_audit_changes_nothing_that_a_tick_computes(model, profile):
    settings = AccelerationConfig(channels_ratio=0.4, tokens=6, tokens_hysteresis=0.5)
    with_audit = engine_for(model, profile=profile, acceleration=settings)
    without = engine_for(model, profile=profile, acceleration=settings)
    without.audit = AuditSettings(enabled=False)
    for seed in range(8):
        one, first = with_audit.infer(observation(seed=seed))
        other, second = without.infer(observation(seed=seed))
        assert with_audit.settle() and without.settle()
        assert np.array_equal(one.actions, other.actions)
        assert first.updated == second.updated and second.audit_deviation is None


def test_past_the_limit_less_is_left_out_then_nothing_and_each_step_is_told_once(model, profile):
    engine = engine_for(model, profile=profile, acceleration=EAP)
    engine.audit = AuditSettings(max_deviation=1e-9, patience=2)
    notes, ratios = [], []
    for seed in range(8):
        reports = update(engine, seed)
        notes += [note for report in reports for note in report.notes]
        ratios.append(reports[1].channel_ratio)
    assert ratios == [0.4, 0.2, 0.2, 0.0, 0.0, 0.0, 0.0, 0.0]
    assert len(notes) == 2
    assert '20% of the channels are left out from now on' in notes[0]
    assert 'ticks run dense from now on' in notes[1]
    # At dense the mildest ratio is still audited.
    assert engine.policy.channels.keeper.updates == 8
    assert not any('\n' in note for note in notes)


def test_it_recovers_when_audits_are_good_again(model, profile):
    engine = engine_for(model, profile=profile, acceleration=EAP)
    engine.audit = AuditSettings(max_deviation=1e-9, patience=1)
    update(engine), update(engine)
    assert update(engine)[1].channel_ratio == 0.0
    engine.audit = AuditSettings(max_deviation=1e9, recovery=3)
    ratios = [update(engine)[1].channel_ratio for _ in range(8)]
    assert ratios == [0.0, 0.0, 0.2, 0.2, 0.2, 0.4, 0.4, 0.4]


def test_without_a_limit_any_deviation_is_only_told(model, profile):
    engine = engine_for(model, profile=profile, acceleration=EAP)
    reports = [update(engine, seed)[1] for seed in range(5)]
    assert {report.channel_ratio for report in reports} == {0.4}
    assert all(report.notes == () for report in reports)


def ladder_path(deviations, **settings):
    ladder = RatioLadder(0.4, AuditSettings(max_deviation=0.1, **settings))
    levels = []
    for deviation in deviations:
        before = ladder.level
        note = ladder.observe(deviation)
        assert bool(note) == (ladder.level != before)
        levels.append(ladder.level)
    return levels


def test_one_bad_audit_among_good_ones_changes_nothing():
    assert set(ladder_path([0.01, 0.5, 0.01, 0.5, 0.01], patience=2)) == {0}


def test_between_half_the_limit_and_the_limit_everything_stays():
    path = ladder_path([0.5, 0.5] + [0.08] * 50, patience=2, recovery=3)
    assert path[-1] == 1 and set(path[1:]) == {1}


def test_a_recovery_that_does_not_hold_makes_the_next_one_wait_longer():
    ladder = RatioLadder(0.4, AuditSettings(max_deviation=0.1, patience=1, recovery=2))
    ladder.observe(1.0)
    waits = []
    for _ in range(4):
        waits.append(0)
        while ladder.level:
            ladder.observe(0.0)
            waits[-1] += 1
        ladder.observe(1.0)
    assert waits == [2, 4, 8, 16]


def test_a_deviation_that_is_not_finite_is_a_bad_one():
    assert ladder_path([math.inf, math.inf], patience=1) == [1, 2]


@pytest.mark.parametrize(
    ('values', 'message'),
    [
        ({'max_deviation': -0.1}, 'audit max_deviation is -0.1, expected a finite number from 0'),
        ({'max_deviation': math.nan}, 'audit max_deviation is nan'),
        ({'patience': 0}, 'audit patience is 0, expected a whole number from 1'),
        ({'recovery': 1.5}, 'audit recovery is 1.5'),
    ],
)
def test_settings_that_cannot_be_used_are_quoted(values, message):
    with pytest.raises(InputError) as error:
        AuditSettings(**values)
    assert message in str(error.value)
