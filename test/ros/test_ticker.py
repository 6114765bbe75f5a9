"""The clock of command streams: punctual at 200 Hz, silent when there is nothing to do."""

from __future__ import annotations

import threading
import time

import pytest

from efficientvla_ros.ros.outputs.ticker import Ticker


class Work:
    """Counts ticks; `left` of them are still to do."""

    def __init__(self, left: int) -> None:
        self.left, self.times = left, []

    def __call__(self) -> bool:
        self.times.append(time.monotonic())
        self.left -= 1
        return self.left > 0


@pytest.fixture
def make_ticker():
    made = []

    def make(period, tick, failed=lambda error: None) -> Ticker:
        made.append(Ticker(period, tick, failed))
        return made[-1]

    yield make
    for ticker in made:
        ticker.stop()


def test_it_ticks_at_its_rate_until_there_is_nothing_left_to_do(make_ticker):
    work = Work(200)
    ticker = make_ticker(0.005, work)
    ticker.wake()
    assert ticker.rests(10.0)
    took = work.times[-1] - work.times[0]
    assert work.left == 0
    # Missed ticks are left out, not made up for in a burst: never faster than the rate.
    assert took >= 199 * 0.005 - 0.02
    median, _ = ticker.late.quantiles(0.5, 0.99)
    assert median < 0.0025


def test_it_rests_until_it_is_woken(make_ticker):
    work = Work(1)
    ticker = make_ticker(0.001, work)
    assert work.times == []
    for count in (1, 2):
        ticker.wake()
        assert ticker.rests(5.0)
        assert len(work.times) == count


def test_being_woken_during_the_last_tick_is_not_lost(make_ticker):
    begun, may_end, ticks = threading.Semaphore(0), threading.Semaphore(0), []

    def tick() -> bool:
        ticks.append(1)
        begun.release()
        may_end.acquire(timeout=5.0)
        return False

    ticker = make_ticker(0.001, tick)
    ticker.wake()
    begun.acquire(timeout=5.0)
    ticker.wake()
    may_end.release(2)
    assert ticker.rests(5.0)
    assert len(ticks) == 2


def test_what_a_tick_raises_is_told_and_ends_nothing_else(make_ticker):
    errors = []
    ticker = make_ticker(0.001, lambda: 1 / 0, errors.append)
    for count in (1, 2):
        ticker.wake()
        assert ticker.rests(5.0)
        assert len(errors) == count


def test_after_stop_no_tick_runs(make_ticker):
    work = Work(10**6)
    ticker = make_ticker(0.001, work)
    ticker.wake()
    ticker.stop()
    count = len(work.times)
    ticker.wake()
    assert not ticker.rests(0.02)
    assert len(work.times) == count


def test_a_stall_leaves_ticks_out(make_ticker):
    work = Work(20)

    def tick() -> bool:
        if len(work.times) == 5:
            time.sleep(0.05)
        return work()

    ticker = make_ticker(0.005, tick)
    ticker.wake()
    assert ticker.rests(5.0)
    assert ticker.missed >= 8
    gaps = [b - a for a, b in zip(work.times[6:], work.times[7:])]
    assert sorted(gaps)[len(gaps) // 2] > 0.003
