"""What the demo decides: which instructions change, its ROS domain, when it has worked."""

from __future__ import annotations

import contextlib
import socket
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip('rclpy')
pytest.importorskip('efficientvla_ros.msg')

from efficientvla_ros.cli import demo, demo_processes
from efficientvla_ros.cli.demo_run import change_episodes, other_instruction
from efficientvla_ros.evaluation.demo_summary import DemoSummary, EpisodeRow
from efficientvla_ros.simulation.tasks import parse_instruction, sample_episode
from efficientvla_ros.types import InputError


def row(episode: int, success: bool = True, changed: bool = False, planned: bool = False):
    outcome = 'success' if success else 'timeout'
    return EpisodeRow(episode, episode, 'pick', changed, planned, success, outcome, '', 20, 4.0)


@settings(deadline=None)  # a loaded machine is no failure
@given(st.integers(1, 500))
def test_three_episodes_spread_over_the_run_are_changed(episodes):
    changed = change_episodes(episodes)
    assert len(changed) == min(3, episodes)
    assert all(0 <= episode < episodes for episode in changed)
    if episodes >= 4:
        assert 0 not in changed, 'the first episode shows an instruction that stays'


@settings(deadline=None)  # a loaded machine is no failure
@given(st.integers(0, 100_000))
def test_changed_instruction_names_another_object_that_is_there(seed):
    episode = sample_episode('pick', seed)
    named = parse_instruction(other_instruction(episode))
    assert named in episode.distractors


def test_free_domain_is_not_one_in_use(monkeypatch):
    with contextlib.ExitStack() as stack:
        for domain in (1, 2):
            taken = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                taken.bind(('', 7400 + 250 * domain))
            except OSError:
                pytest.skip('the port is in use on this machine')
        monkeypatch.setattr(demo_processes, '_DOMAINS', range(1, 4))
        assert demo_processes.free_domain() == 3
        monkeypatch.setattr(demo_processes, '_DOMAINS', range(1, 3))
        with pytest.raises(InputError, match='ROS_DOMAIN_ID'):
            demo_processes.free_domain()


def test_domain_of_the_environment_is_kept(monkeypatch):
    monkeypatch.setenv('ROS_DOMAIN_ID', '17')
    assert demo._domain_from_environment() == 17
    monkeypatch.delenv('ROS_DOMAIN_ID')
    assert demo._domain_from_environment() == -1


@pytest.mark.parametrize(
    ('rows', 'expected'),
    [
        ([row(i) for i in range(10)], ''),
        ([row(i, success=i > 0) for i in range(10)], ''),
        ([row(i, success=i > 1) for i in range(10)], '80 % of the episodes succeeded'),
        ([row(0, changed=True, planned=True), row(1)], ''),
        ([row(0), row(1, planned=True)], 'not changed as planned in episode 2'),
    ],
)
def test_the_run_worked_only_with_enough_successes_and_all_planned_changes(rows, expected):
    summary = DemoSummary(settings={}, episodes=rows)
    shortfall = demo._shortfall(summary, SimpleNamespace(min_success=0.9))
    assert shortfall.startswith(expected) if not expected else expected in shortfall
    assert bool(shortfall) == bool(expected)


def test_model_folder_or_file_is_handed_over_as_an_absolute_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'mine').mkdir()
    assert demo._absolute('mine') == str(tmp_path / 'mine')
    (tmp_path / 'mine' / 'a.pt').touch()
    assert demo._absolute('mine/a.pt') == str(tmp_path / 'mine' / 'a.pt')
    assert demo._absolute('tabletop') == 'tabletop'


def test_node_parameters_are_what_the_parameter_parser_reads(tmp_path):
    command = demo_processes._node('x', {'a.b': True, 'c': 3, 'd': "'it''s'"})
    assert command[-6:] == ['-p', 'a.b:=true', '-p', 'c:=3', '-p', "d:='it''s'"]
