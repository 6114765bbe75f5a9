"""Updates hold their rate, come with changes and drift, and never too late."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from efficientvla_ros.acceleration.config import AccelerationError
from efficientvla_ros.acceleration.update_controller import (
    UpdateController,
    UpdateOptions,
    UpdateReason,
)

similarities = st.lists(
    st.tuples(st.floats(-1.0, 1.0), st.floats(-1.0, 1.0)), min_size=1, max_size=200
)


class Scene:
    """A position that wanders; similarity falls with its distance."""

    def __init__(self, kind: str, seed: int = 0) -> None:
        self._rng, self._kind = np.random.default_rng(seed), kind
        self._position = self._updated = 0.0
        self._tick = 0

    def step(self) -> tuple[float, float]:
        rng, self._tick = self._rng, self._tick + 1
        if self._kind == 'noise':
            return 1.0 - abs(rng.normal(0.0, 0.02)), 1.0 - abs(rng.normal(0.0, 0.05))
        pace = {'drift': 0.0, 'walk': 0.01 * (1.0 + 2.0 * np.sin(self._tick / 30) ** 2)}
        move = rng.normal(0.001, pace[self._kind]) if pace[self._kind] else 0.001
        self._position += move
        return 1.0 - abs(move), 1.0 - abs(self._position - self._updated)

    def update(self) -> None:
        self._updated = self._position


def run(options: UpdateOptions, scene: Scene, ticks: int) -> list[UpdateReason]:
    controller, reasons = UpdateController(options), []
    for _ in range(ticks):
        decision = controller.decide(*scene.step())
        if decision.update:
            scene.update()
        reasons.append(decision.reason)
    return reasons


def share(reasons: list[UpdateReason]) -> float:
    return sum(reason is not UpdateReason.NONE for reason in reasons) / len(reasons)


@pytest.mark.parametrize('kind', ['noise', 'drift', 'walk'])
@pytest.mark.parametrize('window', [5, 10, 50])
@pytest.mark.parametrize('rate', [0.1, 0.15, 0.3, 0.5])
def test_the_rate_is_held(kind, window, rate):
    reasons = run(UpdateOptions(rate=rate, window=window, max_age=None), Scene(kind), 3000)
    assert share(reasons) == pytest.approx(rate, abs=0.02)
    assert share(reasons[2000:]) == pytest.approx(rate, abs=0.03)


def test_the_updates_come_with_the_largest_changes():
    options = UpdateOptions(rate=0.1, max_age=None)
    controller, rng = UpdateController(options), np.random.default_rng(0)
    updated, others = [], []
    for _ in range(2000):
        previous = 1.0 - rng.exponential(0.02)
        update = controller.decide(previous, 0.9).update
        (updated if update else others).append(1.0 - previous)
    assert np.median(updated) > 2.0 * np.median(others)
    assert share_of_largest(updated, others) > 0.5


def share_of_largest(updated: list[float], others: list[float]) -> float:
    """How many of the largest changes, as many as there were updates, came with an update."""
    limit = np.sort(np.concatenate((updated, others)))[-len(updated)]
    return float(np.mean(np.array(updated) >= limit))


def test_the_published_trigger_compares_with_the_quantile_of_the_window():
    options = UpdateOptions(rate=None, quantile=0.3, window=7, max_age=None, refractory=0)
    controller, rng = UpdateController(options), np.random.default_rng(0)
    values: list[float] = []
    for tick in range(500):
        value = rng.uniform(0.5, 1.0)
        found = controller.decide(value, 1.0).reason
        if tick > len(values[-7:]) and len(values) >= 8:
            is_low = value < np.quantile(values[-7:], 0.3)
            assert (found is UpdateReason.CHANGE) == is_low
        if tick:
            values.append(value)
    assert controller.level == 0.3


def test_a_slow_drift_updates_though_neighbouring_frames_are_alike():
    reasons = run(UpdateOptions(rate=0.1, max_age=None), Scene('drift'), 300)
    assert UpdateReason.DRIFT in reasons
    assert UpdateReason.CHANGE not in reasons


def test_a_still_scene_updates_by_age_alone_and_its_end_is_no_burst():
    options = UpdateOptions(rate=0.1, window=10, max_age=40)
    controller, scene = UpdateController(options), Scene('walk')
    still = [controller.decide(1.0, 1.0).reason for _ in range(400)]
    assert set(still[20:]) == {UpdateReason.NONE, UpdateReason.AGE}
    moving = []
    for _ in range(200):
        decision = controller.decide(*scene.step())
        if decision.update:
            scene.update()
        moving.append(decision.reason)
    assert share(moving) < 0.2
    assert share(moving[:20]) <= 0.35


@settings(max_examples=50)
@given(
    similarities,
    st.sampled_from([None, 0.0, 0.05, 0.2, 0.5]),
    st.integers(0, 3),
    st.integers(4, 20),
    st.integers(1, 12),
)
def test_ages_stay_in_their_bounds(values, rate, refractory, max_age, window):
    options = UpdateOptions(rate=rate, refractory=refractory, max_age=max_age, window=window)
    has_rest = rate is None or rate * (1 + refractory) <= 1.0
    controller, expected = UpdateController(options), None
    for pair in values:
        decision = controller.decide(*pair)
        since = 0 if expected is None else expected + 1
        expected = 0 if decision.update else since
        assert decision.age == expected <= max_age - 1 or decision.update
        if decision.reason not in (UpdateReason.NONE, UpdateReason.FIRST) and has_rest:
            assert since > refractory


@given(similarities, st.sampled_from([None, 0.0, 0.1, 1.0]))
def test_the_first_frame_and_another_instruction_always_update(values, rate):
    controller = UpdateController(UpdateOptions(rate=rate))
    assert controller.decide(None, None).reason is UpdateReason.FIRST
    for pair in values:
        controller.decide(*pair)
    assert controller.decide(1.0, 1.0, instruction_changed=True).reason is UpdateReason.INSTRUCTION
    # Directly after an update as well.
    assert controller.decide(1.0, 1.0, instruction_changed=True).update
    controller.reset()
    assert controller.decide(1.0, 1.0).reason is UpdateReason.FIRST


def test_an_episode_forgets_the_window_and_keeps_what_holds_the_rate():
    options = UpdateOptions(rate=None, quantile=0.05, window=5, max_age=None, refractory=0)
    controller = UpdateController(options)
    for value in (0.9, 0.91, 0.92, 0.93, 0.94, 0.95):
        controller.decide(value, 1.0)
    controller.reset()
    controller.decide(0.5, 1.0)
    # Far below the last episode's window, and nothing to compare with in this one.
    assert not controller.decide(0.5, 1.0).update

    held = UpdateController(UpdateOptions(rate=0.1))
    for value in np.random.default_rng(0).uniform(0.0, 1.0, 200):
        held.decide(value, value)
    level = held.level
    assert level != UpdateOptions().quantile
    held.reset()
    assert held.level == level


def test_every_frame_is_a_rate_of_one():
    reasons = run(UpdateOptions(rate=1.0), Scene('walk'), 50)
    assert reasons == [UpdateReason.FIRST] + 49 * [UpdateReason.EVERY_FRAME]


def test_a_rate_of_zero_leaves_first_frames_instructions_and_ages():
    reasons = run(UpdateOptions(rate=0.0, max_age=25), Scene('walk'), 100)
    assert [index for index, reason in enumerate(reasons) if reason is not UpdateReason.NONE] == [
        0,
        25,
        50,
        75,
    ]


def test_while_the_window_fills_updates_come_at_the_rate():
    controller = UpdateController(UpdateOptions(rate=0.2, window=12))
    rng = np.random.default_rng(0)
    reasons = [controller.decide(*rng.uniform(0, 1, 2)).reason for _ in range(12)]
    wanted = [UpdateReason.WARM_UP if tick in (5, 10) else UpdateReason.NONE for tick in range(12)]
    assert reasons == [UpdateReason.FIRST, *wanted[1:]]


@pytest.mark.parametrize('bad', [float('nan'), float('inf')])
def test_similarities_that_are_not_finite_update_and_do_not_enter_the_window(bad):
    options = UpdateOptions(rate=0.1, window=3, max_age=None)
    controller = UpdateController(options)
    for value in (0.9, 0.8, 0.85, 0.9, 0.8, 0.85):
        controller.decide(value, value)
    assert controller.decide(bad, 0.9).reason is UpdateReason.NOT_FINITE
    assert controller.decide(bad, bad).reason is UpdateReason.NONE  # refractory
    assert controller.decide(1.0, 1.0).reason is UpdateReason.NONE
    assert controller.decide(0.1, 1.0).reason is UpdateReason.CHANGE


@pytest.mark.parametrize(
    ('option', 'value'),
    [
        ('rate', 1.2),
        ('rate', float('nan')),
        ('quantile', -0.1),
        ('window', 0),
        ('max_age', 0),
        ('refractory', -1),
    ],
)
def test_an_option_that_cannot_be_used_is_quoted(option, value):
    with pytest.raises(AccelerationError, match=f'update {option} is {value}, expected'):
        UpdateOptions(**{option: value})
