"""What the gripper is told when: the steps' times, the shortest dwell, the grip when braking."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from efficientvla_ros.control.gripper import GripperSchedule

NS = 1_000_000_000
OPEN, CLOSED = 0.04, 0.0


def times(*seconds: float) -> np.ndarray:
    return np.round(np.array(seconds) * NS).astype(np.int64)


def test_a_value_acts_from_the_end_of_the_step_before():
    schedule = GripperSchedule()
    schedule.plan(times(1.2, 1.4, 1.6), np.array([OPEN, OPEN, CLOSED]), NS)
    assert schedule.value(NS // 2) is None
    assert schedule.value(NS) == OPEN
    assert schedule.pending(NS)
    assert schedule.value(int(1.39 * NS)) == OPEN
    assert schedule.value(int(1.41 * NS)) == CLOSED
    assert not schedule.pending(int(1.41 * NS))


def test_a_new_plan_replaces_what_has_not_begun():
    schedule = GripperSchedule()
    schedule.plan(times(1.2, 1.4, 1.6), np.array([OPEN, OPEN, CLOSED]), NS)
    schedule.plan(times(1.5, 1.7), np.array([OPEN, OPEN]), int(1.3 * NS))
    assert schedule.value(2 * NS) == OPEN


def test_braking_keeps_the_grip_of_now():
    schedule = GripperSchedule()
    assert schedule.keep(NS) is None
    schedule.plan(times(1.2, 1.4), np.array([CLOSED, OPEN]), NS)
    assert schedule.keep(int(1.1 * NS)) == CLOSED
    assert schedule.value(2 * NS) == CLOSED


def test_a_change_that_comes_too_early_waits():
    schedule = GripperSchedule(min_dwell=0.5)
    first = schedule.plan(times(1.2, 1.4, 1.6), np.array([OPEN, CLOSED, OPEN]), NS)
    np.testing.assert_array_equal(first, [OPEN, OPEN, OPEN])
    later = schedule.plan(times(1.4, 1.6, 1.8), np.full(3, CLOSED), int(1.3 * NS))
    np.testing.assert_array_equal(later, [OPEN, OPEN, CLOSED])
    assert schedule.value(int(1.61 * NS)) == CLOSED


def test_after_a_reset_nothing_is_known():
    schedule = GripperSchedule(min_dwell=5.0)
    schedule.plan(times(1.2), np.array([OPEN]), NS)
    schedule.clear()
    assert schedule.plan(times(1.4), np.array([CLOSED]), int(1.2 * NS)).tolist() == [CLOSED]


@given(
    st.lists(
        st.tuples(st.integers(1, 900), st.lists(st.booleans(), min_size=1, max_size=8)),
        min_size=1,
        max_size=6,
    ),
    st.floats(0.0, 1.0),
)
def test_two_changes_are_never_closer_than_the_dwell(plans, dwell):
    schedule, now, told = GripperSchedule(dwell), NS, []
    for gap_ms, values in plans:
        end = now + gap_ms * 1_000_000
        due = now + np.arange(1, len(values) + 1) * 200_000_000
        result = schedule.plan(due, np.where(values, OPEN, CLOSED), now)
        assert set(result) <= {OPEN, CLOSED}
        told += [(t, schedule.value(t)) for t in range(now, end, 1_000_000)]
        now = end
    changes = [b[0] for a, b in pairwise(told) if a[1] != b[1]]
    assert all(later - earlier >= dwell * NS - 2_000_000 for earlier, later in pairwise(changes))
