"""The console script `efficientvla`: names its sub-commands, imports one only when it is used."""

from __future__ import annotations

import sys
from importlib import import_module

import typer
from typer.core import TyperCommand, TyperGroup

from efficientvla_ros.types import InputError

COMMANDS = {
    'demo': 'Start simulator and policy as ROS nodes, run episodes, write a video and a report.',
    'record': 'Record demonstrations of the scripted expert in the simulator.',
    'train': 'Train the embedded policy on recorded demonstrations.',
    'evaluate': 'Measure closed-loop success in process, over many seeds.',
    'benchmark': 'Measure the latency of every stage of the policy.',
}
"""Sub-command -> one-line help; the body is `command` in the module of the same name."""

EXIT_USAGE = 2


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


def _missing_module(error: ModuleNotFoundError) -> str:
    name = error.name or str(error)
    if name.startswith('efficientvla_ros.cli.'):
        return f'sub-command {name.rsplit(".", 1)[-1]!r} is not part of this installation'
    if name.startswith('efficientvla_ros.msg') or name in {'rclpy', 'std_msgs', 'sensor_msgs'}:
        return f'{name} is missing: source the ROS 2 workspace, or use `make demo`'
    return f'the Python package {name!r} is missing: pip install {name}'


def main() -> None:
    """Runs the command line; unusable input ends in one line on stderr and exit code 2."""
    try:
        app(prog_name='efficientvla')
    except InputError as error:
        print(f'error: {error}', file=sys.stderr)
        sys.exit(EXIT_USAGE)
    except ModuleNotFoundError as error:
        print(f'error: {_missing_module(error)}', file=sys.stderr)
        sys.exit(EXIT_USAGE)


if __name__ == '__main__':
    main()
