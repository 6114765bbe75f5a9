"""A tick that is due waits for the next image where the newest one has been there for a while."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from efficientvla_ros.ros import ingest as ingest_module
from efficientvla_ros.ros.ingest import Ingest, Listeners
from efficientvla_ros.ros.parameters.policy import TABLE

SECOND = 1_000_000_000


@pytest.fixture
def clock(monkeypatch):
    """The monotonic clock that images arrive by; set `now`."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(ingest_module.time, 'monotonic', lambda: clock.now)
    return clock


def heard(settings, *cameras: str) -> Ingest:
    ingest = Ingest(settings, Listeners(*[lambda: None] * 3), lambda line: None)
    for number, camera in enumerate(cameras, 1):
        stamp = SimpleNamespace(sec=number, nanosec=0)
        message = SimpleNamespace(header=SimpleNamespace(stamp=stamp))
        ingest.on_image(camera, message, number * SECOND)
    return ingest


def test_an_image_that_just_came_is_used(clock):
    settings = TABLE.settings({'cameras.fresh': 0.02})
    ingest = heard(settings, 'camera')
    clock.now += 0.019
    (frame,) = ingest.select(settings)
    assert frame.number == 1


def test_an_older_one_is_left_for_the_next_which_is_used_at_once(clock):
    settings = TABLE.settings({'cameras.fresh': 0.02})
    ingest = heard(settings, 'camera')
    clock.now += 0.021
    assert ingest.select(settings) is None
    # The first tick, and one with another instruction, do not wait.
    assert ingest.select(settings, wait=False) is not None
    ingest.on_image('camera', SimpleNamespace(header=SimpleNamespace(
        stamp=SimpleNamespace(sec=2, nanosec=0))), 2 * SECOND)  # fmt: skip
    (frame,) = ingest.select(settings)
    assert frame.number == 2


def test_zero_takes_the_newest_however_old(clock):
    settings = TABLE.settings({'cameras.fresh': 0.0})
    ingest = heard(settings, 'camera')
    clock.now += 5.0
    assert ingest.select(settings) is not None


def test_the_first_camera_counts(clock):
    names = {'cameras.names': ['front', 'wrist'], 'cameras.fresh': 0.02, 'cameras.max_skew': 0.0}
    settings = TABLE.settings(names)
    ingest = heard(settings, 'wrist', 'front')
    clock.now += 0.05
    ingest.on_image('wrist', SimpleNamespace(header=SimpleNamespace(
        stamp=SimpleNamespace(sec=3, nanosec=0))), 3 * SECOND)  # fmt: skip
    assert ingest.select(settings) is None
