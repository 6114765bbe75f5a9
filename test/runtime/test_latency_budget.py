"""A latency budget takes the mildest plan that fits, and another one when the machine changes."""

import numpy as np
import pytest
from naive_plans import deep_cogact, engine_for, observation, profile_of

from efficientvla_ros.runtime.latency_budget import LatencyBudget, percentile
from efficientvla_ros.types import InputError

MEASURED = {'dense': 0.100, 'light': 0.060, 'strong': 0.030}


def budget(seconds, **options) -> LatencyBudget:
    return LatencyBudget(seconds, MEASURED, **{'window': 20, 'least': 5, **options})


def run(found: LatencyBudget, ticks: int, slowness: float = 1.0, spread: float = 0.0):
    """Ticks as the plans would take them on a machine slower by a factor; notes and choices."""
    rng, notes, choices = np.random.default_rng(0), [], []
    for _ in range(ticks):
        noise = 1.0 + spread * rng.uniform(-1.0, 0.0)
        notes.append(found.observe(MEASURED[found.choice] * slowness * noise))
        choices.append(found.choice)
    return [note for note in notes if note], choices


@pytest.mark.parametrize(
    ('seconds', 'choice'),
    [(0.2, 'dense'), (0.1, 'dense'), (0.099, 'light'), (0.05, 'strong'), (0.001, 'strong')],
)
def test_the_mildest_plan_that_fits_is_chosen(seconds, choice):
    assert budget(seconds).choice == choice


def test_a_machine_that_slows_down_gets_a_stronger_plan_at_once_and_a_line_says_so():
    found = budget(0.110)
    assert run(found, 50) == ([], ['dense'] * 50)
    notes, choices = run(found, 60, slowness=1.5)
    assert found.choice == 'light' and choices.index('light') < 20 and len(notes) == 1
    assert notes[0].startswith('latency budget: ') and 'over 110 ms, light from now on' in notes[0]


def test_a_plan_that_would_not_fit_either_is_passed_over():
    found = budget(0.110)
    run(found, 40, slowness=2.0)
    assert found.choice == 'strong'


def test_a_machine_that_recovers_gets_the_milder_plan_back_after_a_while():
    found = budget(0.120)
    run(found, 40, slowness=1.5)
    _, choices = run(found, 100)
    assert choices[-1] == 'dense' and choices[:15] == ['light'] * 15


def test_a_machine_at_the_edge_does_not_go_to_and_fro():
    found = budget(0.110)
    run(found, 40, slowness=1.5)
    # Dense would take 105 ms: within the budget, but without a tenth to spare.
    notes, choices = run(found, 300, slowness=1.05, spread=0.1)
    assert set(choices) == {'light'} and notes == []


def test_a_return_that_does_not_hold_makes_the_next_one_wait_longer():
    found, returns, since = budget(0.120), [], 0
    for _ in range(3000):
        # Light ticks look fast, dense ones turn out slow.
        slowness = 1.0 if found.choice == 'light' else 1.5
        since += 1
        if found.observe(MEASURED[found.choice] * slowness) and found.choice == 'dense':
            returns.append(since)
        if found.choice == 'dense':
            since = 0
    assert len(returns) > 3
    assert returns == sorted(returns) and returns[-1] >= 8 * returns[0]


def test_where_nothing_fits_the_fastest_runs_and_stays():
    found = budget(0.001)
    notes, choices = run(found, 100)
    assert set(choices) == {'strong'} and notes == [] and not found.fits


def test_a_few_slow_ticks_change_nothing():
    found = budget(0.110, window=100)
    for tick in range(500):
        found.observe(0.4 if tick % 25 == 24 else 0.1)
    assert found.choice == 'dense' and found.fits


def test_the_percentile_is_the_95th():
    assert percentile([float(n) for n in range(101)]) == pytest.approx(95.0)


@pytest.fixture(scope='module')
def engine():
    model = deep_cogact()
    return engine_for(model, profile=profile_of(model))


def test_the_engine_measures_its_plans_and_runs_the_choice(engine):
    found = engine.set_latency_budget(60_000.0, ('dense', 'efficientvla'), runs=3)
    assert found.choice == 'dense' and engine.latency_budget is found
    assert engine.plan.config == engine.plan_for('dense').config
    found = engine.set_latency_budget(1e-3, ('dense', 'combined'), runs=3)
    fastest = min(found._measured, key=found._measured.get)
    assert found.choice == fastest
    chunk, report = engine.infer(observation())
    assert np.isfinite(chunk.actions).all() and report.notes == ()


def test_the_engine_follows_when_ticks_get_slow_and_says_it_once(engine, monkeypatch):
    found = engine.set_latency_budget(60_000.0, ('dense', 'efficientvla'), runs=2)
    found._measured.update({'dense': 0.1, 'efficientvla': 0.05})
    monkeypatch.setattr(found, 'seconds', 1e-9)
    notes = [note for _ in range(15) for note in engine.infer(observation())[1].notes]
    assert len(notes) == 1 and 'efficientvla from now on' in notes[0]
    assert engine.plan.config == engine.plan_for('efficientvla').config
    assert engine.infer(observation())[1].layers_run == len(engine.plan.layers) < 7


def test_a_plan_set_by_hand_ends_the_budget(engine):
    engine.set_latency_budget(60_000.0, ('dense',), runs=2)
    engine.set_acceleration('tokens')
    assert engine.latency_budget is None
    engine.set_latency_budget(60_000.0, ('dense',), runs=2)
    assert engine.set_latency_budget(None) is None and engine.latency_budget is None


@pytest.mark.parametrize('milliseconds', [0.0, -1.0, float('nan'), float('inf')])
def test_a_budget_that_is_none_is_refused_and_the_plan_stays(engine, milliseconds):
    plan = engine.set_acceleration('tokens')
    with pytest.raises(InputError, match='latency budget is'):
        engine.set_latency_budget(milliseconds)
    with pytest.raises(InputError, match="preset 'fast' is unknown"):
        engine.set_latency_budget(50.0, ('dense', 'fast'), runs=1)
    assert engine.plan is plan
