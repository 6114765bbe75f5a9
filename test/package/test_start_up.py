"""What users start interactively does not load the heavy libraries first."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CLI_MODULES = sorted(
    f'efficientvla_ros.cli.{path.stem}'
    for path in (ROOT / 'efficientvla_ros' / 'cli').glob('[a-z]*.py')
    if path.stem == 'main' or '\ndef command(' in path.read_text(encoding='utf-8')
)
"""What `efficientvla --help` loads: the command line and its sub-commands."""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = dict(os.environ)
    paths = [str(ROOT), environment.get('PYTHONPATH', '')]
    environment['PYTHONPATH'] = os.pathsep.join(path for path in paths if path)
    return subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, timeout=60
    )


def loaded_by(module: str, libraries: tuple[str, ...]) -> list[str]:
    """Returns those of `libraries` that importing `module` loads in a fresh interpreter."""
    result = run(
        '-c',
        f'import sys, {module}; print(*[n for n in {libraries!r} if n in sys.modules])',
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.split()


@pytest.mark.parametrize('module', CLI_MODULES)
def test_command_line_loads_no_heavy_library(module):
    heavy = ('torch', 'mujoco', 'pinocchio', 'rclpy', 'matplotlib', 'av', 'transformers')
    assert loaded_by(module, heavy) == []


@pytest.mark.ros
@pytest.mark.parametrize('node', ['policy_node', 'tabletop_sim_node'])
def test_node_module_does_not_load_torch(node):
    pytest.importorskip('rclpy')
    assert loaded_by(f'efficientvla_ros.ros.{node}', ('torch', 'transformers')) == []


@pytest.mark.parametrize('module', ['types', 'control.pipeline', 'simulation.environment'])
def test_numpy_side_does_not_load_torch(module):
    assert loaded_by(f'efficientvla_ros.{module}', ('torch', 'rclpy')) == []


def test_help_lists_the_commands():
    result = run('-m', 'efficientvla_ros.cli.main', '--help')
    assert result.returncode == 0, result.stderr
    for command in ('demo', 'record', 'train', 'evaluate', 'benchmark'):
        assert command in result.stdout


def test_console_script_works():
    script = Path(sys.executable).with_name('efficientvla')
    if not script.exists():
        pytest.skip('the package is not installed with pip in this environment')
    result = subprocess.run(
        [str(script), '--help'], cwd='/', capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stderr
    assert 'demo' in result.stdout
