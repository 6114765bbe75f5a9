"""Overlapping plans to one path: aligned by due time, whatever the stamps and delays."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from efficientvla_ros.control.adaptive_ensemble import AdaptiveEnsemble
from efficientvla_ros.control.config import EXECUTIONS, ControlConfig
from efficientvla_ros.control.decode import decode_chunk
from efficientvla_ros.control.execution import make_execution
from efficientvla_ros.control.rotations import rotation_angle
from efficientvla_ros.control.tool_path import ToolPath

MS = 1_000_000
STEP = 200 * MS
START = 10_000 * MS


def path_of(actions: np.ndarray, stamp_ns: int = START, anchor: np.ndarray | None = None):
    anchor = np.eye(4) if anchor is None else anchor
    poses, gripper = decode_chunk(actions, anchor)
    times_ns = stamp_ns + STEP * np.arange(1, len(actions) + 1)
    return ToolPath(stamp_ns, anchor, times_ns, poses, gripper)


def even_path(stamp_ms: int, count: int = 8, x: float = 0.0, grip: float = 1.0) -> ToolPath:
    """Part of one motion in time: 0.05 m/s along x and 0.5 rad/s about z from START on."""
    actions = np.tile([0.01, 0, 0, 0, 0, 0.1, grip], (count, 1))
    anchor = np.eye(4)
    angle = 0.5e-3 * stamp_ms
    anchor[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    anchor[0, 3] = 0.05e-3 * stamp_ms + x
    return path_of(actions, START + stamp_ms * MS, anchor)


def mode(name: str, **fields):
    return make_execution(ControlConfig(execution=name, **fields))


@pytest.mark.parametrize('name', EXECUTIONS)
@given(stamps=st.lists(st.integers(1, 700), min_size=1, max_size=5), delay=st.integers(0, 500))
def test_plans_that_agree_are_executed_as_they_are_whatever_their_stamps(name, stamps, delay):
    execution = mode(name)
    stamp = 0
    for gap in stamps:
        stamp += gap
        path = even_path(stamp)
        start_ns = path.stamp_ns + delay * MS
        merged = execution.merge(path, start_ns, path.at(start_ns))
        left = path.after(start_ns)
        np.testing.assert_array_equal(merged.times_ns, left.times_ns)
        np.testing.assert_allclose(merged.poses, left.poses, atol=1e-9)
        np.testing.assert_allclose(merged.gripper, left.gripper)


def test_replan_takes_the_newest_plan_alone():
    execution = mode('replan')
    execution.merge(even_path(0), START, None)
    newest = even_path(300, x=0.05)
    merged = execution.merge(newest, START + 400 * MS, np.eye(4))
    np.testing.assert_array_equal(merged.poses, newest.poses)


def blended(u: float) -> float:
    return 1.0 - u * u * (3.0 - 2.0 * u)


def test_blend_starts_where_the_old_plan_leads_and_ends_on_the_new_one():
    execution = mode('blend', blend_steps=3)
    execution.merge(even_path(0), START, None)
    newest = even_path(300, x=0.06, grip=0.0)
    start_ns = START + 400 * MS
    under_way = even_path(0).at(start_ns)
    merged = execution.merge(newest, start_ns, under_way)
    # 0.1, 0.3 and 0.5 s after the switch-over; the fade takes 0.6 s.
    offset = merged.poses[:, 0, 3] - newest.poses[:, 0, 3]
    expected = [-0.06 * blended(u) for u in (1 / 6, 3 / 6, 5 / 6)] + [0.0] * 5
    np.testing.assert_allclose(offset, expected, atol=1e-9)
    np.testing.assert_array_equal(merged.gripper, newest.gripper)


def test_blend_fades_a_turn_along_the_shortest_way():
    execution = mode('blend', blend_steps=2)
    execution.merge(even_path(0), START, None)
    newest = even_path(0)
    turned = newest.at(START).copy()
    turned[:3, :3] = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]]) @ turned[:3, :3]
    merged = execution.merge(newest, START, turned)
    angles = [
        rotation_angle(a[:3, :3] @ b[:3, :3].T)
        for a, b in zip(merged.poses, newest.poses, strict=True)
    ]
    np.testing.assert_allclose(angles, [np.pi / 4] + [0.0] * 7, atol=1e-7)


@pytest.mark.parametrize('stamp_ms', [200, 300])
def test_the_temporal_ensemble_weighs_from_the_oldest_plan_on(stamp_ms):
    execution = mode('temporal_ensemble', ensemble_decay=0.5)
    execution.merge(even_path(0, x=0.3), START, None)
    execution.merge(even_path(stamp_ms, x=0.1), START, None)
    newest = even_path(2 * stamp_ms, grip=0.0)
    merged = execution.merge(newest, newest.stamp_ns, None)
    weights = np.exp([0.0, -0.5, -1.0])
    for step, time_ns in enumerate(merged.times_ns):
        ages = [END for END in (1600, 1600 + stamp_ms, 1600 + 2 * stamp_ms)]
        alive = [time_ns <= START + end * MS for end in ages]
        offsets = np.array([0.3, 0.1, 0.0])[alive]
        used = weights[: sum(alive)] / weights[: sum(alive)].sum()
        x = merged.poses[step, 0, 3] - newest.poses[step, 0, 3]
        assert x == pytest.approx(used @ offsets, abs=1e-9)
        assert merged.gripper[step] == pytest.approx(1.0 - used[-1], abs=1e-9)


@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 6))
def test_the_adaptive_ensemble_weighs_like_cogact_when_plans_are_a_step_apart(seed, count):
    """Plans made at every step on one anchor: the same weights as one action a step."""
    rng = np.random.default_rng(seed)
    chunks = [
        np.append(rng.normal(0, 0.02, (8, 3)), np.zeros((8, 4)), axis=1) for _ in range(count)
    ]
    for chunk in chunks:
        chunk[:, 6] = rng.random(8) > 0.5
    execution = mode('adaptive_ensemble', ensemble_window=4, ensemble_alpha=0.7)
    reference = AdaptiveEnsemble(4, 0.7)
    for index, chunk in enumerate(chunks):
        merged = execution.merge(path_of(chunk, START + index * STEP), START + index * STEP, None)
        action = reference.step(chunk)
    assert merged.gripper[0] == pytest.approx(action[6], abs=1e-12)


def test_a_plan_that_points_away_counts_less_in_the_adaptive_ensemble():
    execution = mode('adaptive_ensemble', ensemble_alpha=1.0)
    away, newest = np.zeros((8, 7)), np.zeros((8, 7))
    away[:, 0], newest[:, 0] = -0.01, 0.01
    execution.merge(path_of(away), START, None)
    merged = execution.merge(path_of(newest), START, None)
    np.testing.assert_allclose(
        merged.poses[:, 0, 3], np.tanh(1.0) * 0.01 * np.arange(1, 9), rtol=1e-3
    )


@pytest.mark.parametrize('name', ['adaptive_ensemble', 'temporal_ensemble'])
def test_no_more_plans_are_averaged_than_the_window_holds(name):
    execution = mode(name, ensemble_window=1)
    execution.merge(even_path(0, x=0.3), START, None)
    newest = even_path(100)
    merged = execution.merge(newest, newest.stamp_ns, None)
    np.testing.assert_allclose(merged.poses, newest.poses, atol=1e-12)


@pytest.mark.parametrize('name', EXECUTIONS)
def test_after_a_reset_earlier_plans_count_for_nothing(name):
    execution = mode(name)
    execution.merge(even_path(0, x=0.3), START, None)
    execution.reset()
    newest = even_path(100)
    merged = execution.merge(newest, newest.stamp_ns, even_path(0, x=0.3).at(newest.stamp_ns))
    np.testing.assert_allclose(merged.poses, newest.poses, atol=1e-12)
