"""New plans are made beside the ticks: the newest wish wins, and a failure leaves the old plan."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

from efficientvla_ros.models.config import CONFIGS
from efficientvla_ros.ros.parameters.policy import TABLE
from efficientvla_ros.ros.plan_changer import PlanChanger
from efficientvla_ros.types import InputError

PATIENCE = 20.0


def settings(tokens: int, budget_ms: float = 0.0):
    return TABLE.settings(
        {'acceleration.tokens.keep': tokens, 'acceleration.latency_budget_ms': budget_ms}
    )


class Engine:
    """Makes a plan when it is let."""

    config = CONFIGS['cogact-base']

    def __init__(self) -> None:
        self.wishes: list[int] = []
        self.begun, self.free = threading.Semaphore(0), threading.Semaphore(0)

    def set_acceleration(self, config):
        self.wishes.append(config.tokens)
        self.begun.release()
        assert self.free.acquire(timeout=PATIENCE)
        if config.tokens == 13:
            raise RuntimeError('out of memory\nand more')
        return SimpleNamespace(tokens=config.tokens)

    def set_latency_budget(self, milliseconds):
        self.plan = SimpleNamespace(budget=milliseconds)
        return SimpleNamespace(choice='combined')

    def plan_for(self, config):
        if config.tokens > 256:
            raise InputError(f'{config.tokens} tokens, expected at most 256')


@pytest.fixture
def changer():
    engine = Engine()
    heard: list[object] = []
    changed = threading.Semaphore(0)

    def tell(*what: object) -> None:
        heard.append(what)
        changed.release()

    changer = PlanChanger(engine, tell, tell)
    yield changer, engine, heard, changed
    for _ in range(10):
        engine.free.release()
    changer.stop()


def test_wishes_that_wait_are_replaced_by_the_newest(changer):
    changer, engine, heard, changed = changer
    changer.change(settings(10))
    assert engine.begun.acquire(timeout=PATIENCE)
    changer.change(settings(20))  # while the first one is being made
    changer.change(settings(30))
    for _ in range(2):
        engine.free.release()
        assert changed.acquire(timeout=PATIENCE)
    assert engine.wishes == [10, 30]
    assert [(name, plan.tokens) for name, plan in heard] == [
        ('dense (changed)', 10),
        ('dense (changed)', 30),
    ]


def test_a_latency_budget_chooses_the_plan(changer):
    changer, engine, heard, changed = changer
    changer.change(settings(10, budget_ms=30.0))
    assert changed.acquire(timeout=PATIENCE)
    name, plan = heard[0]
    assert name == 'combined (latency budget)' and plan.budget == 30.0
    assert engine.wishes == []


def test_a_plan_that_cannot_be_made_is_told_in_one_line_and_the_next_one_is_made(changer):
    changer, engine, heard, changed = changer
    for tokens in (13, 30):
        engine.free.release()
        changer.change(settings(tokens))
        assert changed.acquire(timeout=PATIENCE)
    assert heard[0] == ('plan stays as it was: out of memory and more',)
    assert heard[1][1].tokens == 30


def test_what_the_model_cannot_run_is_refused_without_making_anything(changer):
    changer, engine, heard, _ = changer
    changer.check(settings(256))
    with pytest.raises(InputError, match=r'parameters acceleration\.\*: 257 tokens, expected'):
        changer.check(settings(257))
    assert engine.wishes == [] and heard == []


def test_nothing_is_made_after_the_stop(changer):
    changer, engine, _, _ = changer
    changer.stop()
    changer.change(settings(10))
    assert engine.wishes == []
