"""The demo changes the preset of the running policy and goes on only once it is in force."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip('av')
pytest.importorskip('rclpy')
pytest.importorskip('efficientvla_ros.msg')

from efficientvla_ros.cli.demo_options import DemoOptions
from efficientvla_ros.cli.demo_run import DemoError, DemoRun
from efficientvla_ros.ros.demo_client import PolicyView, preset_outcome

ACCEPTED = SimpleNamespace(successful=True, reason='')
REFUSED = SimpleNamespace(successful=False, reason='parameters acceleration.*: no profile')


def policy(preset: str = 'dense', last_error: str = '', plans: int = 20) -> PolicyView:
    return PolicyView(
        'running', '', last_error, 5, (), 0.1, 0.1, 5.0, 0.0, 0.0, 10**8, preset, plans, 0.046
    )


@pytest.mark.parametrize(
    ('result', 'status', 'expected'),
    [
        (ACCEPTED, policy(), None),
        (ACCEPTED, policy(last_error='something of before'), None),
        (ACCEPTED, policy('combined'), ''),
        (REFUSED, policy(), 'the policy refused preset combined: parameters acceleration.*: no p'),
        (
            ACCEPTED,
            policy(last_error='plan stays as it was: out of memory'),
            'the policy cannot use preset combined: plan stays as it was: out of memory',
        ),
    ],
)
def test_a_preset_counts_once_the_status_names_it(result, status, expected):
    outcome = preset_outcome('combined', result, status)
    assert outcome == expected or (expected and outcome.startswith(expected))


class Client:
    """Answers as the policy node does, some steps later."""

    def __init__(self, result: SimpleNamespace) -> None:
        self.policy, self.instruction, self.image_time = policy(), '', time.monotonic()
        self.parameters_present = False
        self.asked: list[str] = []
        self._result, self._steps = result, 0

    def spin(self, _: float) -> None:
        self._steps += 1
        self.parameters_present = self._steps > 2
        if self._steps == 6:
            self.policy = policy(self.asked[-1], plans=40)

    def ask_for_preset(self, name: str) -> None:
        self.asked.append(name)

    def preset_answer(self) -> str | None:
        return preset_outcome(self.asked[-1], self._result, self.policy)


@pytest.fixture
def run(tmp_path):
    options = DemoOptions(
        'pick', 2, 0, 'tabletop-pick', 'dense', 'combined', Path(tmp_path), 1, 448, 0.9, 60.0
    )
    view = SimpleNamespace(update=lambda state: None)
    run = DemoRun(options, view, lambda: False)
    node = SimpleNamespace(how_it_ended=lambda: '', log_tail=lambda: 'the log', log='x.log')
    run._children = [node, node]
    yield run
    run.recorder.close()


def test_the_demo_waits_for_the_preset_and_measures_it_from_then_on(run):
    run._client = client = Client(ACCEPTED)
    run.summary.plan_times.begin('dense', 0)
    run._use_preset('dense')
    assert client.asked == [], 'it is in force already'
    run._use_preset('combined')
    assert client.asked == ['combined']
    assert run._state.preset == client.policy.preset == 'combined'
    run._step()
    assert [preset.plan_p50 for preset in run.summary.presets][1] == 0.046


def test_a_refused_preset_ends_the_demo_with_one_line(run):
    run._client = Client(REFUSED)
    with pytest.raises(DemoError, match=r'^the policy refused preset combined: .*no profile$'):
        run._use_preset('combined')
    assert run._state.preset == 'dense'
