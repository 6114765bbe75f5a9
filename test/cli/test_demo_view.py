"""The demo in the terminal: a live panel on a terminal, plain lines elsewhere."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from efficientvla_ros.cli.demo_view import DemoState, LiveView, PlainView, make_view, render
from efficientvla_ros.evaluation.demo_summary import (
    DemoSummary,
    EpisodeRow,
    StageLatency,
    StatusSample,
)


def console(terminal: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=100, _environ={})


def row(success: bool = True, changed: bool = False) -> EpisodeRow:
    outcome, lifted = ('success', 'orange') if success else ('wrong_object', 'red can')
    return EpisodeRow(
        2, 7, 'pick orange', changed, changed, success, outcome, lifted, 20, 4.2, 'pick red can'
    )


@pytest.fixture
def state() -> DemoState:
    summary = DemoSummary(
        settings={},
        episodes=[row(), row(success=False)],
        stages=[StageLatency('vision', 0.0051, 0.009), StageLatency('action_head', 0.03, 0.05)],
        samples=[StatusSample(1.0, 0.101, 0.142, 4.8)],
    )
    return DemoState(
        'pick',
        12,
        episode=2,
        instruction='pick orange',
        changed=True,
        elapsed=3.4,
        policy_state='running',
        summary=summary,
    )


def drawn(state: DemoState) -> str:
    out = console(terminal=False)
    out.print(render(state))
    return out.file.getvalue()


def test_panel_shows_task_instruction_episode_success_and_latencies(state):
    text = drawn(state)
    for part in (
        'pick orange', 'changed in mid-run', '3 of 12', '1 of 2 (50 %, 95 % interval 9-91 %)',
        'running', 'vision', '5.1', '9.0', 'action head', '30.0', 'camera to command', '101',
        '142', '4.8 inferences per second',
    ):  # fmt: skip
        assert part in text, part


def comparing(state: DemoState) -> DemoState:
    summary = state.summary
    summary.compared = ('dense', 'combined')
    summary.episodes = [
        replace(row(success=index != 1), task=task, preset=summary.compared[index % 2])
        for index, task in enumerate(('pick', 'pick', 'move_near', 'move_near'))
    ]
    for preset, seconds in (('dense', 0.046), ('combined', 0.019)):
        summary.plan_times.begin(preset, 0)
        summary.plan_times.take(seconds, 20)
    return state


def test_tasks_and_compared_presets_are_told_side_by_side(state):
    text = drawn(comparing(state))
    for part in (
        'presets', 'dense 46 ms 2/2', 'combined 19 ms 1/2', '2.4x', 'pick 1/2, move_near 2/2',
    ):  # fmt: skip
        assert part in text, part
    out = console(terminal=False)
    PlainView(out).episode_ended(state.summary.episodes[1], state)
    assert out.file.getvalue().splitlines() == [
        'episode 3/12  pick orange [combined]: wrong object, lifted red can after 4.2 s; '
        '3 of 4 (75 %, 95 % interval 30-95 %); dense 46 ms 2/2 | combined 19 ms 1/2 | 2.4x'
    ]


def test_panel_says_what_is_awaited_before_the_first_episode():
    text = drawn(DemoState('pick', 3, phase='waiting for the model (4 s)'))
    assert 'waiting for the model (4 s)' in text
    assert 'not heard yet' in text


def test_a_long_instruction_does_not_break_the_panel(state):
    state.instruction = 'pick ' + 'x' * 500
    lines = drawn(state).splitlines()
    assert len({len(line) for line in lines}) == 1


def test_view_is_plain_without_a_terminal_or_when_asked_for():
    assert isinstance(make_view(console(terminal=False), headless=False), PlainView)
    assert isinstance(make_view(console(terminal=True), headless=True), PlainView)
    live = make_view(console(terminal=True), headless=False)
    live.close()
    assert isinstance(live, LiveView)


def test_plain_view_prints_each_event_once(state):
    out = console(terminal=False)
    view = PlainView(out)
    for waited in range(5):
        view.update(DemoState('pick', 3, phase=f'waiting for the model ({waited} s)'))
    for _ in range(5):
        view.update(state)
    view.episode_ended(row(changed=True), state)
    view.close()
    assert out.file.getvalue().splitlines() == [
        'waiting for the model',
        'episode 3/12  pick red can -> pick orange: success after 4.2 s; '
        '1 of 2 (50 %, 95 % interval 9-91 %)',
    ]


def test_live_view_leaves_finished_episodes_and_restores_the_cursor(state):
    out = console(terminal=True)
    view = LiveView(out)
    view.update(state)
    view.episode_ended(row(success=False), state)
    view.close()
    text = out.file.getvalue()
    assert 'wrong object, lifted red can after 4.2 s' in text
    assert text.rstrip('\n').endswith('\x1b[?25h') or '\x1b[?25h' in text
