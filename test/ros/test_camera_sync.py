"""Images of several cameras become one observation by `latest`, `hold` and `as_of`."""

from __future__ import annotations

import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from efficientvla_ros.ros.cameras.camera_sync import (
    AS_OF,
    HOLD,
    LATEST,
    POLICIES,
    CameraSync,
    Frame,
)

CAMERAS = ('front', 'wrist', 'side')
MS = 1_000_000

arrivals = st.lists(
    st.tuples(st.sampled_from(CAMERAS), st.integers(0, 400)), min_size=1, max_size=60
)


def synced(policy: str, rows=(), cameras=CAMERAS, capacity: int = 64) -> CameraSync:
    """Rows: (camera, stamp in ms), in the order of arrival."""
    sync = CameraSync(cameras)
    sync.policy, sync.capacity = policy, capacity
    for number, (camera, stamp) in enumerate(rows, 1):
        sync.add(Frame(camera, None, stamp * MS, number))
    return sync


def stamps(selection) -> list[int] | None:
    return None if selection.frames is None else [f.stamp_ns // MS for f in selection.frames]


@given(arrivals)
def test_as_of_never_takes_an_image_from_the_future_of_the_first_camera(rows):
    selection = synced(AS_OF, rows).select(0)
    if selection.frames is None:
        return
    lead = selection.frames[0]
    assert lead.stamp_ns == max(s for c, s in rows if c == 'front') * MS
    for frame in selection.frames[1:]:
        before = [s * MS for c, s in rows if c == frame.camera and s * MS <= lead.stamp_ns]
        assert frame.stamp_ns == max(before)


@given(arrivals)
def test_as_of_finds_images_wherever_there_are_some(rows):
    lead = max((s for c, s in rows if c == 'front'), default=None)
    there = lead is not None and all(
        any(s <= lead for c, s in rows if c == camera) for camera in CAMERAS[1:]
    )
    assert (synced(AS_OF, rows).select(0).frames is not None) == there


@given(st.sampled_from(POLICIES), arrivals, st.integers(1, 100))
def test_skew_stays_within_the_bound_or_is_named(policy, rows, bound):
    sync = synced(policy, rows)
    free, bounded = sync.select(0, wait=False), sync.select(bound * MS, wait=False)
    if bounded.frames is not None:
        assert all(abs(s - stamps(bounded)[0]) <= bound for s in stamps(bounded))
        assert stamps(bounded) == stamps(free)
    elif free.frames is not None:
        assert 'expected at most' in bounded.fault and 'camera "' in bounded.fault


@given(st.sampled_from([LATEST, AS_OF]), st.data(), arrivals)
def test_the_order_of_arrival_does_not_matter(policy, data, rows):
    rows = list(dict.fromkeys(rows))  # equal stamps of one camera: the later arrival wins
    shuffled = data.draw(st.permutations(rows))
    one, other = synced(policy, rows).select(0), synced(policy, shuffled).select(0)
    assert stamps(one) == stamps(other)
    assert bool(one.fault) == bool(other.fault)


@given(st.sampled_from(POLICIES), arrivals, st.integers(1, 5))
def test_histories_are_bounded_and_keep_messages_by_reference(policy, rows, capacity):
    class Message:
        pass

    sync = synced(policy, capacity=capacity)
    alive = weakref.WeakSet()
    for number, (camera, stamp) in enumerate(rows, 1):
        message = Message()
        alive.add(message)
        sync.add(Frame(camera, message, stamp * MS, number))
        del message
    each = capacity if policy == AS_OF else 1
    assert len(alive) <= 1 + 2 * each


def test_a_skew_fault_names_camera_and_amount():
    selection = synced(LATEST, [('front', 300), ('wrist', 40), ('side', 290)]).select(100 * MS)
    assert selection.frames is None
    assert selection.fault == (
        'camera "wrist": image is 0.260 s older than that of "front", expected at most 0.1 s '
        '(cameras.max_skew)'
    )


def test_as_of_without_an_image_from_before_is_named():
    selection = synced(AS_OF, [('front', 100), ('wrist', 130), ('side', 90)]).select(0)
    assert 'camera "wrist": no image from before the newest one of "front"' in selection.fault
    assert '0.030 s younger' in selection.fault


@pytest.mark.parametrize('policy', POLICIES)
def test_nothing_is_used_twice_unless_asked_for(policy):
    sync = synced(policy, [('front', 10), ('wrist', 9), ('side', 8)])
    assert stamps(sync.select(0)) == [10, 9, 8]
    sync.use()
    assert sync.select(0).frames is None
    assert not sync.select(0).fault
    assert stamps(sync.select(0, wait=False)) == [10, 9, 8]


def test_hold_waits_for_every_camera_but_keeps_the_last_image_of_one_that_lags():
    sync = synced(HOLD, [('front', 0), ('wrist', 0)], CAMERAS[:2])
    sync.use()
    sync.add(Frame('front', None, 33 * MS, 3))
    assert sync.select(0).frames is None
    sync.add(Frame('wrist', None, 34 * MS, 4))
    assert stamps(sync.select(0)) == [33, 34]
    sync.use()
    sync.add(Frame('front', None, 66 * MS, 5))
    assert sync.select(0).frames is None
    sync.add(Frame('front', None, 99 * MS, 6))
    assert sync.select(0).frames is None  # a camera at half the rate does not lag
    sync.add(Frame('front', None, 132 * MS, 7))
    assert stamps(sync.select(0)) == [132, 34]
    sync.use()
    sync.add(Frame('wrist', None, 140 * MS, 8))
    assert sync.select(0).frames is None  # the first camera leads


def test_a_camera_that_was_never_heard_gives_no_observation():
    for policy in POLICIES:
        assert synced(policy, [('front', 1), ('side', 1)]).select(0).frames is None
