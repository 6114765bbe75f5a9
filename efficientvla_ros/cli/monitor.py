"""`efficientvla monitor`: what a running policy node does and costs, in the terminal."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from efficientvla_ros.ros.reporting.status_listener import StatusListener, WatchedNode

SILENT_AFTER = 3.0
"""Seconds without a status, which comes once a second, after which a node counts as silent."""

EXIT_NO_NODE = 1
_REFRESH = 0.25


def command(
    node: Annotated[
        str | None, typer.Option(help='Name of the node, with its namespace; all if not given.')
    ] = None,
    once: Annotated[bool, typer.Option(help='Print one snapshot and exit.')] = False,
    json_lines: Annotated[
        bool, typer.Option('--json', help='Print every status as one line of JSON.')
    ] = False,
    timeout: Annotated[
        float, typer.Option(min=0.1, help='With --once: seconds to wait for a node.')
    ] = 5.0,
) -> None:
    """Show state, latencies, acceleration, cameras and guards of a running policy node.

    Attaches over DDS, in the domain of the environment, and changes nothing. Ctrl-C ends it.
    With --once the exit code is 1 when no node was heard.
    """
    from rich.console import Console

    from efficientvla_ros.ros.reporting.status_listener import StatusListener

    console = Console()
    with _interruptible(), contextlib.closing(StatusListener(node)) as listener:
        if once:
            code = _once(listener, console, node, timeout, json_lines)
            if code:
                raise typer.Exit(code)
        elif json_lines:
            _stream(listener, _print_json)
        elif console.is_terminal and not console.is_dumb_terminal:
            _live(listener, console, node)
        else:
            _stream(listener, _print_line)


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Ends in order on Ctrl-C, SIGTERM and when the terminal is closed."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, interrupt) for number in numbers]
    try:
        with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
            yield
    finally:
        for number, handler in zip(numbers, before):
            signal.signal(number, handler)


def _once(
    listener: StatusListener,
    console: Console,
    node: str | None,
    timeout: float,
    json_lines: bool,
) -> int:
    end = time.monotonic() + timeout
    first = None
    while time.monotonic() < end:
        listener.spin(0.1)
        heard = [watched for watched in listener.nodes.values() if watched.status is not None]
        if heard and first is None:
            first = time.monotonic()
        # Several nodes are found one after the other: those that are there get a moment.
        missing = len(heard) < len(listener.nodes)
        if first is not None and (node or time.monotonic() - first > (1.5 if missing else 0.5)):
            break
    heard = [watched for watched in listener.nodes.values() if watched.status is not None]
    if not heard:
        print(f'error: {absence(listener, node, f"within {timeout:g} s")}', file=sys.stderr)
        return EXIT_NO_NODE
    if json_lines:
        for watched in heard:
            _print_json(watched)
        return 0
    from efficientvla_ros.cli.monitor_view import render

    for watched in heard:
        console.print(render(watched, console.width, console.encoding, SILENT_AFTER))
    return 0


def absence(listener: StatusListener, node: str | None, when: str) -> str:
    """Says that no node was heard, `when`, and which others are there."""
    there = listener.others()
    wanted = 'no policy node' if node is None else f'no policy node "/{node.strip("/")}"'
    hint = f'; there are: {", ".join(there)}' if there else ''
    return f'{wanted} was heard {when} in ROS_DOMAIN_ID {listener.domain}{hint}'


def _live(listener: StatusListener, console: Console, node: str | None) -> None:
    from rich.live import Live
    from rich.text import Text

    from efficientvla_ros.cli.monitor_view import render_all

    # The alternate screen: what was in the terminal before is there again at the end.
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            listener.spin(_REFRESH)
            nodes = list(listener.nodes.values())
            if nodes:
                shown = render_all(nodes, console.width, console.encoding, SILENT_AFTER)
            else:
                shown = Text(f'{absence(listener, node, "yet")}; waiting (Ctrl-C ends)')
            live.update(shown, refresh=True)


def _stream(listener: StatusListener, show) -> None:
    silent: set[str] = set()
    while True:
        for watched in listener.spin(_REFRESH):
            silent.discard(watched.name)
            show(watched)
        for watched in listener.nodes.values():
            if watched.silence > SILENT_AFTER and watched.name not in silent:
                silent.add(watched.name)
                show(watched)


def _print_json(watched: WatchedNode) -> None:
    from efficientvla_ros.ros.reporting.status_listener import status_dict

    line: dict[str, object] = {'node': watched.name, 'silent': watched.silence > SILENT_AFTER}
    if line['silent']:
        line |= {'silence': round(watched.silence, 1), 'present': watched.present}
    elif watched.status is not None:
        line |= status_dict(watched.status)
    print(json.dumps(line, allow_nan=False), flush=True)


def _print_line(watched: WatchedNode) -> None:
    from efficientvla_ros.cli.monitor_view import summary

    print(summary(watched, SILENT_AFTER), flush=True)
