"""The scripted expert: decisions from the state alone, success in the simulator."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from efficientvla_ros.control.kinematics import ArmKinematics
from efficientvla_ros.control.pipeline import ChunkController
from efficientvla_ros.simulation.arm import ARM_JOINTS, FINGER_OPEN, TCP_FRAME, arm_urdf
from efficientvla_ros.simulation.environment import TabletopEnvironment
from efficientvla_ros.simulation.expert import STEP_LATERAL, STEP_VERTICAL, TableState, plan
from efficientvla_ros.simulation.success import SUCCESS
from efficientvla_ros.simulation.tasks import CONTROL_PERIOD
from efficientvla_ros.types import ActionChunk


def _state(tcp=(0.30, 0.0, 0.15), opening=FINGER_OPEN) -> TableState:
    objects = {
        'red can': np.array([0.30, 0.10, 0.0375]),
        'blue can': np.array([0.30, -0.10, 0.0375]),
        'orange': np.array([0.36, 0.0, 0.029]),
    }
    return TableState(np.array(tcp), opening, objects)


@given(
    tcp=st.tuples(st.floats(0.2, 0.4), st.floats(-0.17, 0.17), st.floats(0.03, 0.25)),
    opening=st.floats(0.0, FINGER_OPEN),
    target=st.sampled_from(['red can', 'blue can', 'orange']),
)
@settings(max_examples=150, deadline=None)
def test_any_state_leads_to_a_lifted_target_within_limits(tcp, opening, target):
    actions = plan(_state(tcp, opening), target, horizon=40)
    assert np.linalg.norm(actions[:, :2], axis=1).max() <= STEP_LATERAL + 1e-9
    assert np.abs(actions[:, 2]).max() <= STEP_VERTICAL + 1e-9
    assert not actions[:, 3:6].any()
    assert set(actions[:, 6]) <= {0.0, 1.0}
    path = np.array(tcp) + np.cumsum(actions[:, :3], axis=0)
    goal = _state().objects[target]
    np.testing.assert_allclose(path[-1, :2], goal[:2], atol=0.02)
    assert path[-1, 2] > goal[2] + 0.08 and actions[-1, 6] == 0.0


def test_planning_changes_nothing_and_remembers_nothing():
    state = _state()
    first = plan(state, 'red can')
    plan(_state((0.36, 0.0, 0.03), 0.028), 'orange')
    np.testing.assert_array_equal(plan(state, 'red can'), first)
    np.testing.assert_array_equal(state.tcp, _state().tcp)
    for name, position in _state().objects.items():
        np.testing.assert_array_equal(state.objects[name], position)


def test_plan_goes_on_as_a_plan_from_its_own_next_state():
    state = _state()
    whole = plan(state, 'red can', 16)
    state.tcp = state.tcp + whole[0, :3]
    np.testing.assert_allclose(plan(state, 'red can', 15), whole[1:], atol=1e-12)


def test_hovers_before_it_descends():
    actions = plan(_state((0.30, 0.0, 0.035)), 'red can')
    assert actions[0, 2] > 0.02 and np.linalg.norm(actions[0, :2]) < 0.01


def test_closes_at_the_target_and_lifts_once_closed():
    assert plan(_state((0.302, 0.097, 0.040)), 'red can', 1)[0, 6] == 0.0
    lift = plan(_state((0.300, 0.100, 0.0375), 0.0265), 'red can', 1)[0]
    assert lift[6] == 0.0 and lift[2] == pytest.approx(STEP_VERTICAL)


def test_waits_for_the_fingers_before_it_lifts():
    closing = plan(_state((0.300, 0.100, 0.0375), 0.036), 'red can', 1)[0]
    assert closing[6] == 0.0 and not closing[:3].any()


def test_closed_on_nothing_opens_and_goes_up():
    action = plan(_state((0.30, 0.0, 0.05), 0.0), 'red can', 1)[0]
    assert action[6] == 1.0 and action[2] > 0.0 and not action[:2].any()


def test_another_object_is_set_down_and_released():
    state = _state((0.36, 0.0, 0.099), 0.0285)
    state.objects['orange'] = np.array([0.36, 0.0, 0.099])
    actions = plan(state, 'red can', 6)
    assert actions[0, 6] == 0.0 and actions[0, 2] < 0.0  # down first
    released = int(np.argmax(actions[:, 6]))
    assert state.tcp[2] + actions[:released, 2].sum() < 0.045
    assert actions[released + 1, 2] > 0.0  # then up


@pytest.fixture(scope='module')
def environment():
    with TabletopEnvironment(64, 64) as environment:
        yield environment


def _run(environment, seed: int, latency: float, periods: int, swap_at: int = -1) -> int:
    """Runs an episode with the expert; returns the number of control periods."""
    kinematics = ArmKinematics(arm_urdf(), ARM_JOINTS, TCP_FRAME)
    chunks = ChunkController(kinematics, gripper_joint='gripper')
    environment.reset(seed)
    while environment.outcome is None:
        if swap_at >= 0 and environment.steps >= swap_at:
            environment.set_target(environment.episode.distractors[0])
            swap_at = -1
        actions = plan(environment.table_state(), environment.target, 4)
        chunk = ActionChunk(actions, CONTROL_PERIOD, environment.now_ns, '', 0)
        now_ns = environment.now_ns + round(latency * 1e9)
        joints = environment.sim.joint_positions()[:-1]
        environment.act(chunks.command(chunk, joints, now_ns).command, latency, periods)
        assert environment.rejected == ''
    return environment.steps


@pytest.mark.parametrize(
    ('latency', 'periods', 'seeds'), [(0.0, 1, range(40)), (0.1, 2, range(40, 80))]
)
def test_expert_succeeds(environment, latency, periods, seeds):
    outcomes, steps = Counter(), []
    for seed in seeds:
        steps.append(_run(environment, seed, latency, periods))
        outcomes[environment.outcome] += 1
    assert outcomes == {SUCCESS: len(seeds)}
    assert 8 <= np.mean(steps) <= 14


@pytest.mark.parametrize('swap_at', [0, 4, 7, 8])
def test_expert_follows_a_target_changed_under_way(environment, swap_at):
    for seed in range(100, 105):
        _run(environment, seed, 0.1, 1, swap_at)
        assert environment.outcome == SUCCESS
        assert environment.lifted_object == environment.episode.distractors[0]
