"""The latency estimate: quantiles of what is in the window, without the first ticks."""

from __future__ import annotations

import pytest

from efficientvla_ros.control.latency import LatencyEstimate

MS = 1_000_000


def filled(*milliseconds: int, skipped: int = 2, window: int = 50) -> LatencyEstimate:
    estimate = LatencyEstimate(window, skipped)
    for index, value in enumerate(milliseconds):
        estimate.made(index * 1000 * MS, (index * 1000 + value) * MS)
        estimate.sent((index * 1000 + value + value // 10) * MS)
    return estimate


def test_the_first_ticks_after_a_start_never_enter():
    estimate = filled(2000, 900)
    assert (estimate.count, estimate.to_command(), estimate.to_send()) == (0, None, 0.0)
    estimate = filled(2000, 900, 100, 120)
    assert estimate.count == 2
    assert estimate.to_command(1.0) == pytest.approx(0.12)
    assert estimate.to_send(1.0) == pytest.approx(0.012)


def test_quantiles_are_values_that_were_measured():
    estimate = filled(*range(10, 110, 10), skipped=0)
    assert estimate.to_command(0.5) == pytest.approx(0.05)
    assert estimate.to_command(0.95) == pytest.approx(0.1)
    assert estimate.to_command(0.0) == pytest.approx(0.01)


def test_only_the_newest_count():
    estimate = filled(*[400] * 20, *[50] * 10, skipped=0, window=10)
    assert estimate.to_command(1.0) == pytest.approx(0.05)


def test_a_clock_that_jumped_is_no_latency():
    estimate = LatencyEstimate(skipped=0)
    estimate.made(5000 * MS, 1000 * MS)
    estimate.made(0, 3_600_000 * MS)
    estimate.sent(0)
    assert estimate.count == 0 and estimate.to_send() == 0.0


def test_a_reset_starts_over_with_first_ticks():
    estimate = filled(100, 100, 100)
    estimate.reset()
    estimate.made(0, 800 * MS)
    assert estimate.count == 0
