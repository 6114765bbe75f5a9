"""What the demo decides: its ROS domain, when it has worked."""

from __future__ import annotations

import contextlib
import socket
from types import SimpleNamespace

import pytest

pytest.importorskip('rclpy')
pytest.importorskip('efficientvla_ros.msg')

from efficientvla_ros.cli import demo, demo_processes
from efficientvla_ros.evaluation.demo_summary import DemoSummary, EpisodeRow
from efficientvla_ros.types import InputError


def row(episode: int, success: bool = True, changed: bool = False, planned: bool = False):
    outcome = 'success' if success else 'timeout'
    return EpisodeRow(episode, episode, 'pick', changed, planned, success, outcome, '', 20, 4.0)


def test_free_domain_is_not_one_in_use():
    with contextlib.ExitStack() as stack:
        for domain in (1, 2):
            taken = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                taken.bind(('', 7400 + 250 * domain))
            except OSError:
                pytest.skip('the port is in use on this machine')
        assert demo_processes.free_domain(range(1, 4)) == 3
        with pytest.raises(InputError, match='ROS_DOMAIN_ID: 1 to 2 are all in use'):
            demo_processes.free_domain(range(1, 3))


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
    assert demo._absolute('tabletop-pick') == 'tabletop-pick'


def test_node_parameters_are_what_the_parameter_parser_reads(tmp_path):
    command = demo_processes._node('x', {'a.b': True, 'c': 3, 'd': "'it''s'"})
    assert command[-6:] == ['-p', 'a.b:=true', '-p', 'c:=3', '-p', "d:='it''s'"]
