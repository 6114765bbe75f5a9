"""The two nodes of the demo as processes of their own, in a ROS domain of their own."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import efficientvla_ros
from efficientvla_ros.cli.child_processes import ChildProcess
from efficientvla_ros.ros.parameters.tabletop_arm import TABLETOP_ARM
from efficientvla_ros.types import InputError

# Domains above 101 use ports that Linux also gives to ordinary connections.
_DOMAINS = range(1, 102)


def _discovery_port(domain: int) -> int:
    return 7400 + 250 * domain


def free_domain(domains: Sequence[int] = _DOMAINS) -> int:
    """A ROS domain, out of some, that no other program on this machine uses now.

    Raises:
        InputError: all of them are in use.
    """
    for domain in random.sample(domains, len(domains)):
        with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as probe:
            try:
                # Participants share this port among themselves; a plain bind fails then.
                probe.bind(('', _discovery_port(domain)))
            except OSError:
                continue
            return domain
    raise InputError(f'ROS_DOMAIN_ID: {domains[0]} to {domains[-1]} are all in use, set one')


def node_environment(domain: int, logs: Path) -> dict[str, str]:
    """Environment of the nodes: this one, with domain, logging and discovery set."""
    env = dict(os.environ)
    env['ROS_DOMAIN_ID'] = str(domain)
    env['PYTHONUNBUFFERED'] = '1'
    env['RCUTILS_COLORIZED_OUTPUT'] = '0'
    env['ROS_LOG_DIR'] = str(logs / 'ros')
    # Nothing of the demo is for other machines.
    env.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    env.setdefault('OMP_WAIT_POLICY', 'passive')
    source = str(Path(efficientvla_ros.__file__).resolve().parents[1])
    env['PYTHONPATH'] = os.pathsep.join(filter(None, [source, env.get('PYTHONPATH')]))
    return env


def _node(module: str, parameters: dict[str, object]) -> list[str]:
    command = [sys.executable, '-m', f'efficientvla_ros.ros.{module}', '--ros-args']
    for name, value in parameters.items():
        text = str(value).lower() if isinstance(value, bool) else str(value)
        command += ['-p', f'{name}:={text}']
    return command


def start_simulator(
    *,
    task: str,
    setting: str,
    seed: int,
    repeat: int,
    side: int,
    logs: Path,
    env: dict[str, str],
) -> ChildProcess:
    """Starts the simulator node; it waits for `~/reset` before every episode."""
    parameters = {
        'task': task,
        'setting': setting,
        'seed': seed,
        'repeat': repeat,
        'camera.width': side,
        'camera.height': side,
        'auto_start': False,
        'auto_reset': False,
    }
    return ChildProcess(
        'simulator node', _node('tabletop_sim_node', parameters), logs / 'simulator.log', env
    )


def start_mock_robot(
    *, camera: Mapping[str, object], logs: Path, env: dict[str, str]
) -> ChildProcess:
    """Starts the mock robot; `camera` has its `width`, `height` and `rate`."""
    parameters = {f'camera.{name}': camera[name] for name in ('width', 'height', 'rate')}
    return ChildProcess(
        'mock robot', _node('mock_robot_node', parameters), logs / 'mock_robot.log', env
    )


def start_policy(
    *,
    model: str,
    preset: str,
    logs: Path,
    env: dict[str, str],
    rate: float = 0.0,
    execution: Mapping[str, object] | None = None,
) -> ChildProcess:
    """Starts the policy node; it configures and activates itself.

    Args:
        model: name or path.
        preset: its acceleration.
        logs: folder for what it prints.
        env: its environment.
        rate: inferences per second, 0 for the usual.
        execution: further parameters that say how plans are executed.
    """
    # Quoted: a folder named 7 or true is still a string for the parameter parser.
    parameters = {
        'model.path': "'" + model.replace("'", "''") + "'",
        'acceleration.preset': preset,
        'control.rate': rate,
        'autostart': True,
        **(execution or {}),
        **TABLETOP_ARM,
    }
    return ChildProcess('policy node', _node('policy_node', parameters), logs / 'policy.log', env)
