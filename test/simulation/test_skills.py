"""The expert of the tasks with furniture: from any state, without memory, in closed loop."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from efficientvla_ros.evaluation.closed_loop import make_controller, run_episode
from efficientvla_ros.evaluation.expert_policy import ExpertPolicy
from efficientvla_ros.simulation.arm import FINGER_OPEN
from efficientvla_ros.simulation.cabinet import TRAVEL, Cabinet
from efficientvla_ros.simulation.environment import TabletopEnvironment
from efficientvla_ros.simulation.expert import STEP_LATERAL, STEP_VERTICAL, _advance, plan
from efficientvla_ros.simulation.goals import Goal, goal_for
from efficientvla_ros.simulation.objects import OBJECT_MODELS
from efficientvla_ros.simulation.placement import NEAR_GAP, gap, placed, spot
from efficientvla_ros.simulation.success import SUCCESS
from efficientvla_ros.simulation.table_state import TableState
from efficientvla_ros.simulation.tasks import sample_episode

GOALS = (
    Goal('move_near', 'apple', 'blue can'),
    Goal('move_near', 'cup', 'apple'),
    Goal('open_drawer'),
    Goal('close_drawer'),
    goal_for('place_drawer', 'apple'),
    goal_for('place_plate', 'cup'),
)


def _state(tcp=(0.26, 0.0, 0.20), opening=FINGER_OPEN, drawer=0.05) -> TableState:
    objects = {
        'apple': np.array([0.28, -0.13, 0.030]),
        'blue can': np.array([0.36, -0.02, 0.0375]),
        'cup': np.array([0.24, 0.0, 0.026]),
    }
    plate = np.array([0.37, -0.15, 0.004])
    return TableState(np.array(tcp), opening, objects, plate, Cabinet(0.20, 0.165, drawer))


def _follow(state: TableState, goal: Goal, steps: int) -> tuple[TableState, np.ndarray]:
    actions = plan(state, goal, steps)
    for row in actions:
        state = _advance(state, row[:3], row[6])
    return state, actions


@given(
    tcp=st.tuples(st.floats(0.2, 0.4), st.floats(-0.17, 0.17), st.floats(0.03, 0.25)),
    opening=st.floats(0.0, FINGER_OPEN),
    drawer=st.floats(0.0, TRAVEL),
    goal=st.sampled_from(GOALS),
)
@settings(max_examples=120, deadline=None)
def test_any_state_leads_to_the_goal_within_limits(tcp, opening, drawer, goal):
    end, actions = _follow(_state(tcp, opening, drawer), goal, 90)
    assert np.linalg.norm(actions[:, :2], axis=1).max() <= STEP_LATERAL + 0.006
    assert np.abs(actions[:, 2]).max() <= STEP_VERTICAL + 1e-9
    assert not actions[:, 3:6].any() and set(actions[:, 6]) <= {0.0, 1.0}
    if goal.task == 'open_drawer':
        assert end.cabinet.opening > 0.9 * TRAVEL
    elif goal.task == 'close_drawer':
        assert end.cabinet.opening < 0.06 * TRAVEL
    else:
        assert placed(end, goal)
    assert end.open and end.tcp[2] > 0.1  # let go and out of the way


@pytest.mark.parametrize('goal', GOALS, ids=lambda goal: f'{goal.task}-{goal.target}')
def test_a_plan_goes_on_as_a_plan_from_its_own_next_state(goal):
    state = _state(drawer=0.02)
    whole = plan(state, goal, 40)
    for step in range(40):
        np.testing.assert_allclose(plan(state, goal, 1)[0], whole[step], atol=1e-12)
        state = _advance(state, whole[step, :3], whole[step, 6])


def test_the_same_picture_with_another_instruction_gives_another_plan():
    state = _state((0.29, 0.165, 0.036), 0.0125)
    pull, push = (plan(state, Goal(task), 1)[0] for task in ('open_drawer', 'close_drawer'))
    assert pull[0] > 0.03 and push[0] < -0.03 and pull[6] == push[6] == 0.0


def test_a_closed_drawer_is_opened_before_something_is_put_in():
    end, actions = _follow(_state(drawer=0.0), goal_for('place_drawer', 'apple'), 13)
    assert actions[0, 1] > 0.02  # to the handle first
    assert end.cabinet.opening > 0.08 and not placed(end, goal_for('place_drawer', 'apple'))


def test_something_else_in_the_hand_is_set_down_first():
    state = _state((0.30, 0.05, 0.128), 0.026)
    state.objects['blue can'] = np.array([0.30, 0.05, 0.128])
    end, actions = _follow(state, goal_for('place_plate', 'cup'), 90)
    assert actions[0, 2] < 0.0 and actions[0, 6] == 0.0
    assert end.objects['blue can'][2] < 0.055 and placed(end, goal_for('place_plate', 'cup'))


def test_the_place_beside_the_reference_is_free():
    goal = Goal('move_near', 'apple', 'blue can')
    end, _ = _follow(_state(), goal, 60)
    assert 0.0 < gap(end, 'apple', 'blue can') < NEAR_GAP
    assert gap(end, 'apple', 'cup') > 0.04
    assert np.linalg.norm(end.objects['apple'][:2] - end.plate[:2]) > 0.09


@given(
    angle=st.floats(0.0, 2.0 * np.pi),
    distance=st.floats(0.1, 0.15),
    shift=st.floats(0.0, 2.0 * np.pi),
    names=st.permutations(list(OBJECT_MODELS)).map(lambda names: names[:2]),
)
@settings(max_examples=80, deadline=None)
def test_the_place_follows_what_is_carried(angle, distance, shift, names):
    """All around the reference, without a jump, and such that the opening fingers miss it."""
    goal = Goal('move_near', *names)
    target, reference = (OBJECT_MODELS[name] for name in names)
    centre = np.array([0.305, 0.0])

    def place(carried: np.ndarray) -> np.ndarray:
        objects = {names[0]: np.array([*carried, 0.12]), names[1]: np.array([*centre, 0.03])}
        return spot(TableState(objects[names[0]], 0.03, objects), goal)[:2]

    carried = centre + distance * np.array([np.cos(angle), np.sin(angle)])
    found = place(carried)
    moved = place(carried + 0.002 * np.array([np.cos(shift), np.sin(shift)]))
    assert np.linalg.norm(moved - found) < 0.03
    apart = np.linalg.norm(found - centre) - target.radius - reference.radius
    assert 0.029 < apart < NEAR_GAP - 0.007
    corner = np.abs(found - centre) - (0.028, 0.066)  # of hand and open fingers
    assert np.linalg.norm(np.maximum(corner, 0.0)) > reference.radius - 0.002


@pytest.mark.parametrize('goal', [goal for goal in GOALS if goal.reference], ids=lambda g: g.task)
def test_what_is_carried_is_set_down_gently(goal):
    state = _state(drawer=TRAVEL)
    actions = plan(state, goal, 60)
    opened = next(i for i in range(1, 60) if actions[i - 1, 6] == 0.0 and actions[i, 6] == 1.0)
    assert actions[opened - 1, 2] < 0.0  # it came down
    # Letting go two steps early drops it by less than 4 cm, one step early by less than 2 cm.
    assert actions[opened - 1 : opened, 2].sum() > -0.02
    assert actions[opened - 2 : opened, 2].sum() > -0.04


# In closed loop -------------------------------------------------------------------------------


@pytest.fixture(scope='module')
def environment():
    with TabletopEnvironment(32, 32) as environment:
        yield environment


def _outcomes(environment, task, setting, seeds, **options) -> Counter:
    policy, controller = ExpertPolicy(environment), make_controller()
    found = Counter()
    for seed in seeds:
        episode = sample_episode(task, seed, setting=setting)
        row = run_episode(environment, policy, controller, episode, **options)
        assert row.rejected_commands == 0
        found[row.outcome] += 1
    return found


@pytest.mark.parametrize(
    'task', ['move_near', 'open_drawer', 'close_drawer', 'place_drawer', 'place_plate']
)
def test_the_expert_succeeds_in_every_setting(environment, task):
    for setting, first in (('matching', 300), ('variants', 400), ('dynamic', 500)):
        found = _outcomes(environment, task, setting, range(first, first + 4), execute_steps=3)
        assert found == {SUCCESS: 4}, setting
    found = _outcomes(environment, task, 'matching', range(600, 602), execute_steps=1, latency=0.0)
    assert found == {SUCCESS: 2}


def test_swapping_names_another_object_where_the_task_has_one(environment):
    found = _outcomes(environment, 'place_plate', 'matching', range(3), swap_step=4)
    assert found == {SUCCESS: 3}
    assert environment.target == environment.episode.distractors[0]


def test_a_drawer_asked_to_open_in_mid_episode_is_opened(environment):
    policy, controller = ExpertPolicy(environment), make_controller()
    observation = environment.reset(sample_episode('close_drawer', 3))
    while environment.outcome is None:
        if environment.steps == 6:
            environment.set_goal(Goal('open_drawer'))
            assert environment.instruction in ('open drawer', 'open the drawer',
                                               'pull the drawer open')  # fmt: skip
        chunk, _ = policy.infer(observation)
        joints = observation.joint_state.positions[:6]
        environment.act(controller.command(chunk, joints, environment.now_ns).command, periods=2)
        observation = environment.observe()
    assert environment.outcome == SUCCESS
    assert environment.table_state().cabinet.opening > 0.8 * TRAVEL
