"""The console script `efficientvla`: names its sub-commands, imports one only when it is used."""

from __future__ import annotations

import sys
from importlib import import_module

import typer
from typer.core import TyperCommand, TyperGroup

from efficientvla_ros.types import InputError

COMMANDS = {
    'demo': 'Start simulator and policy as ROS nodes, run episodes, write a video and a report.',
    'monitor': 'Show what a running policy node does and costs, in the terminal.',
    'record': 'Record demonstrations of the scripted expert in the simulator.',
    'train': 'Train the embedded policy on recorded demonstrations.',
    'evaluate': 'Measure closed-loop success in process, over many seeds.',
    'inspect': 'Show what a model takes, and verify a checkpoint; needs no weights.',
    'calibrate': 'Measure what the pruning of a model needs, and write its profile.',
    'soak': 'Run the policy node with a mock robot for a long time and report on it.',
    'replay': 'Run a rosbag2 recording through the policy as the node would, compare presets.',
    'benchmark': 'Measure the latency of every stage of the policy.',
}
"""Sub-command -> one-line help; the body is `command` in the module of the same name."""

EXIT_USAGE = 2

_ROS_PACKAGES = ('rclpy', 'rcl_interfaces', 'std_msgs', 'std_srvs', 'sensor_msgs')
_DISTRIBUTIONS = {'cv2': 'opencv-python-headless', 'pinocchio': 'pin'}


class LazyCommand(TyperCommand):
    """Stands for a sub-command in the overview and loads its module when it is called."""

    def _load(self):
        module = import_module(f'efficientvla_ros.cli.{self.name}')
        app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        app.command(name=self.name, help=module.command.__doc__ or self.help)(module.command)
        return typer.main.get_command(app)

    def make_context(self, info_name, args, parent=None, **extra):
        """Hands parsing and running over to the real command."""
        return self._load().make_context(info_name, args, parent=parent, **extra)


class LazyGroup(TyperGroup):
    """The sub-commands of `COMMANDS`, in that order."""

    def list_commands(self, ctx) -> list[str]:
        """Names of the sub-commands; nothing is imported."""
        return list(COMMANDS)

    def get_command(self, ctx, cmd_name: str):
        """The stand-in of a sub-command, or None where there is no such name."""
        if cmd_name not in COMMANDS:
            return None
        text = COMMANDS[cmd_name]
        return LazyCommand(cmd_name, help=text, short_help=text)


app = typer.Typer(
    cls=LazyGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def efficientvla() -> None:
    """Vision-language-action policies for ROS 2 robot arms."""


def _missing_module(name: str) -> str:
    """Says what to do about a module that cannot be found; '' for one of our own."""
    if name in (f'efficientvla_ros.cli.{command}' for command in COMMANDS):
        return f'sub-command "{name.rsplit(".", 1)[-1]}" is not part of this installation'
    package = name.split('.', 1)[0]
    if package in _ROS_PACKAGES or name.startswith('efficientvla_ros.msg'):
        return f'"{name}" is missing: source ROS 2 and the workspace first, or use `make demo`'
    if package == 'efficientvla_ros':
        return ''
    return f'"{name}" is missing: pip install {_DISTRIBUTIONS.get(package, package)}'


def main() -> None:
    """Runs the command line; unusable input ends in one line on stderr and exit code 2."""
    try:
        app(prog_name='efficientvla')
    except InputError as error:
        print(f'error: {error}', file=sys.stderr)
        sys.exit(EXIT_USAGE)
    except ModuleNotFoundError as error:
        advice = _missing_module(error.name or '')
        if not advice:
            raise
        print(f'error: {advice}', file=sys.stderr)
        sys.exit(EXIT_USAGE)


if __name__ == '__main__':
    main()
