"""Real-time pacing: steady deadlines, catching up, giving up what is too late."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from efficientvla_ros.ros.simulator.pacer import Pacer


class Clock:
    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time


def test_deadlines_are_evenly_spaced_whenever_slots_take_less_than_a_period():
    clock = Clock()
    pacer = Pacer(0.02, 0.25, clock)
    for slot in range(1, 50):
        clock.time += pacer.remaining()
        assert clock.time == pytest.approx(100.0 + 0.02 * slot)
        clock.time += 0.001 * (slot % 15)
        assert pacer.advance() == 0.0
    assert pacer.overruns == 0


def test_a_short_delay_is_caught_up():
    clock = Clock()
    pacer = Pacer(0.02, 0.25, clock)
    clock.time += 0.2
    slots = 0
    while pacer.remaining() <= 0.0:
        assert pacer.advance() == 0.0
        slots += 1
    assert slots == 10


def test_a_long_stall_is_given_up_and_the_next_slot_is_a_full_period_away():
    clock = Clock()
    pacer = Pacer(0.02, 0.25, clock)
    clock.time += 5.0
    lost = pacer.advance()
    assert lost == pytest.approx(5.0 - 0.02)
    assert pacer.remaining() == pytest.approx(0.02)
    assert (pacer.overruns, pacer.lost) == (1, lost)


@settings(deadline=None)  # a loaded machine is no failure
@given(st.lists(st.floats(0.0, 1.0), max_size=60))
def test_slots_run_plus_time_given_up_never_get_ahead_of_the_clock(delays):
    clock = Clock()
    pacer = Pacer(0.02, 0.25, clock)
    for slots, delay in enumerate(delays, start=1):
        clock.time += max(0.0, pacer.remaining()) + delay
        simulated = 0.02 * slots + pacer.lost
        pacer.advance()
        elapsed = clock.time - 100.0
        assert simulated <= elapsed + 1e-9
        assert elapsed - (0.02 * slots + pacer.lost) <= 0.25 + 0.02 + 1e-9
