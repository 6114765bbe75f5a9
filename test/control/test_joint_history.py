"""Where the joints were when a picture was taken."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from efficientvla_ros.control.joint_history import JointHistory
from efficientvla_ros.types import JointState

MS = 1_000_000


def state(stamp_ms: float, *positions: float, names: tuple[str, ...] = ('a', 'b')) -> JointState:
    return JointState(names, np.array(positions), round(stamp_ms * MS))


def filled(*stamps_ms: float, **settings) -> JointHistory:
    """A history in which joint a moves at 1 unit per second and b is 7."""
    history = JointHistory(**settings)
    for stamp in stamps_ms:
        history.add(state(stamp, stamp / 1000.0, 7.0))
    return history


@given(st.floats(0, 200))
def test_between_two_states_positions_are_interpolated(stamp_ms):
    history = filled(0, 20, 50, 200)
    np.testing.assert_allclose(history.at(round(stamp_ms * MS)), [stamp_ms / 1000, 7], atol=1e-8)


def test_just_outside_the_span_the_nearest_end_counts():
    history = filled(1000, 1020, max_gap_s=0.1)
    np.testing.assert_allclose(history.at(1100 * MS), [1.02, 7])
    np.testing.assert_allclose(history.at(950 * MS), [1.0, 7])


@pytest.mark.parametrize('stamp_ms', [850, 1150])
def test_far_outside_the_span_there_is_no_answer(stamp_ms):
    assert filled(1000, 1020, max_gap_s=0.1).at(stamp_ms * MS) is None


def test_an_empty_history_has_no_answer():
    history = JointHistory()
    assert history.at(0) is None
    assert history.newest is None


def test_only_the_newest_states_are_kept():
    history = filled(*range(0, 1000, 10), capacity=3, max_gap_s=0.0)
    assert history.at(960 * MS) is None
    np.testing.assert_allclose(history.at(975 * MS), [0.975, 7])
    assert history.newest.stamp_ns == 990 * MS


def test_a_late_state_is_dropped():
    history = filled(0, 20, 40)
    history.add(state(30, 99.0, 99.0))
    np.testing.assert_allclose(history.at(30 * MS), [0.03, 7])


def test_a_clock_that_jumps_back_starts_the_history_anew():
    history = filled(5000, 5020)
    history.add(state(10, 0.01, 7.0))
    np.testing.assert_allclose(history.at(10 * MS), [0.01, 7])
    assert history.at(5000 * MS) is None


def test_other_joint_names_start_the_history_anew():
    history = filled(0, 20)
    history.add(state(40, 1.0, names=('c',)))
    np.testing.assert_allclose(history.at(30 * MS), [1.0])


def test_the_answer_is_a_copy():
    history = filled(0)
    history.at(0)[:] = 99.0
    np.testing.assert_allclose(history.at(0), [0.0, 7.0])


@pytest.mark.parametrize('settings', [{'capacity': 0}, {'max_gap_s': -1.0}])
def test_unusable_settings_are_refused(settings):
    with pytest.raises(ValueError, match='expected'):
        JointHistory(**settings)
