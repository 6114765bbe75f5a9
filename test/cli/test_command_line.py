"""`efficientvla`: overview, missing parts, and one clear line for unusable input."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from efficientvla_ros.cli import main as cli

ROOT = Path(__file__).resolve().parents[2]


def efficientvla(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = dict(os.environ, COLUMNS='120', NO_COLOR='1', **variables)
    environment['PYTHONPATH'] = os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')])
    return subprocess.run(
        [sys.executable, '-m', 'efficientvla_ros.cli.main', *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_overview_names_every_command():
    result = efficientvla('--help')
    assert result.returncode == 0
    for name, text in cli.COMMANDS.items():
        assert name in result.stdout
        assert text.split('.')[0][:40] in result.stdout


def test_unknown_command_is_a_usage_error():
    result = efficientvla('dmeo')
    assert result.returncode == 2
    assert "No such command 'dmeo'" in result.stderr


@pytest.mark.parametrize(
    'name', [n for n in cli.COMMANDS if (ROOT / f'efficientvla_ros/cli/{n}.py').exists()]
)
def test_every_command_explains_itself(name):
    result = efficientvla(name, '--help')
    assert result.returncode == 0, result.stderr
    assert f'efficientvla {name} [OPTIONS]' in result.stdout


def test_a_command_that_is_not_installed_does_not_break_the_others(monkeypatch, capsys):
    monkeypatch.setitem(cli.COMMANDS, 'juggle', 'Juggle.')
    monkeypatch.setattr(sys, 'argv', ['efficientvla', 'juggle'])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    message = capsys.readouterr().err
    assert message == 'error: sub-command "juggle" is not part of this installation\n'


@pytest.mark.parametrize(
    ('name', 'advice'),
    [
        ('rclpy', 'source ROS 2'),
        ('efficientvla_ros.msg', 'source ROS 2'),
        ('cv2', 'pip install opencv-python-headless'),
        ('mujoco', 'pip install mujoco'),
        ('av.container', 'pip install av'),
    ],
)
def test_a_missing_package_is_named_with_what_to_do(name, advice):
    assert advice in cli._missing_module(name)


def test_a_missing_module_of_our_own_is_not_explained_away():
    assert cli._missing_module('efficientvla_ros.control.gone') == ''


@pytest.mark.parametrize(
    ('arguments', 'expected'),
    [
        (('demo', '--preset', 'magic'), "preset 'magic' is unknown, expected one of dense"),
        (('demo', '--task', 'juggle'), 'unknown task "juggle", expected one of: pick'),
        (('demo', '--out', '/proc/none/x'), '--out /proc/none/x: cannot be used'),
    ],
)
def test_unusable_input_is_one_line_and_exit_code_2(arguments, expected):
    result = efficientvla(*arguments)
    assert result.returncode == 2
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith('error: ')
    assert expected in lines[0]


def test_ros_domain_outside_the_range_is_named():
    result = efficientvla('demo', '--out', '/tmp', ROS_DOMAIN_ID='many')
    assert result.returncode == 2
    assert "ROS_DOMAIN_ID is 'many', expected 0 to 232" in result.stderr
