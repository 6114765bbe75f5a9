"""Clocks that jump or stand still are noticed; simulators of any speed are not taken for that."""

from __future__ import annotations

import pytest

from efficientvla_ros.control.reasons import HoldReason
from efficientvla_ros.ros.clock_watch import ClockWatch

SECOND = 1_000_000_000


class Looks:
    """Looks ten times a second, as the node does."""

    def __init__(self, start_ns: int = 1000 * SECOND) -> None:
        self.watch = ClockWatch()
        self.node_ns, self.steady = start_ns, 50.0
        self.watch.look(self.node_ns, self.steady)

    def look(self, step: float, lapse: float = 0.1):
        self.node_ns += round(step * SECOND)
        self.steady += lapse
        return self.watch.look(self.node_ns, self.steady)


@pytest.mark.parametrize('rate', [0.05, 0.5, 1.0, 5.0])
def test_a_clock_of_any_rate_is_fine(rate):
    looks = Looks()
    assert [looks.look(0.1 * rate) for _ in range(50)] == [None] * 50


def test_a_very_fast_simulator_is_learnt():
    looks = Looks()
    found = [looks.look(2.0) for _ in range(20)]
    assert found[-10:] == [None] * 10


@pytest.mark.parametrize(
    ('step', 'words'), [(-1.5, 'back'), (-3600.0, 'back'), (2.0, 'ahead'), (3600.0, 'ahead')]
)
def test_a_jump_is_named_once(step, words):
    looks = Looks()
    for _ in range(10):
        looks.look(0.1)
    reason, detail = looks.look(step)
    assert reason is HoldReason.CLOCK_JUMPED
    assert words in detail
    assert looks.look(0.1) is None


def test_a_small_correction_is_no_jump():
    looks = Looks()
    assert looks.look(-0.5) is None
    assert looks.look(0.9) is None


def test_a_process_that_slept_is_no_jump():
    assert Looks().look(30.0, lapse=30.0) is None


def test_a_clock_that_stands_still_is_named_until_it_moves():
    looks = Looks()
    found = [looks.look(0.0) for _ in range(15)]
    assert found[0] is None
    assert found[-1][0] is HoldReason.CLOCK_STOPPED
    assert looks.look(0.1) is None


def test_a_clock_that_has_not_started_is_no_jump_when_it_does():
    looks = Looks(0)
    assert looks.look(0.0) is None
    looks.node_ns = 1000 * SECOND
    assert looks.look(0.0) is None
