"""`efficientvla soak`: the policy node for a long time, with a robot that costs very little."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from efficientvla_ros.cli.process_usage import ProcessUsage
from efficientvla_ros.types import InputError

if TYPE_CHECKING:
    from efficientvla_ros.cli.child_processes import ChildProcess
    from efficientvla_ros.ros.reporting.status_listener import StatusListener

_START_S = 120.0
_SILENCE_S = 10.0


def command(
    minutes: Annotated[float, typer.Option(min=0.05, help='How long, once the node runs.')] = 30.0,
    model: Annotated[
        str, typer.Option(help='Model of the policy node (parameter model.path).')
    ] = 'tabletop-small',
    preset: Annotated[str, typer.Option(help='Its acceleration.preset.')] = 'dense',
    rate: Annotated[
        float, typer.Option(min=0.0, help='Its control.rate, Hz; 0 is by the length of plans.')
    ] = 0.0,
    camera_rate: Annotated[float, typer.Option(min=0.1, help='Images per second.')] = 30.0,
    width: Annotated[int, typer.Option(min=16, help='Width of the image, pixels.')] = 640,
    height: Annotated[int, typer.Option(min=16, help='Height of the image, pixels.')] = 480,
    json_file: Annotated[
        Path | None, typer.Option('--json', help='Write the report here.')
    ] = None,
) -> None:
    """Run the policy node with a mock robot for a long time; report latency, memory and holds."""
    from efficientvla_ros.evaluation.machine_load import MachineLoad
    from efficientvla_ros.evaluation.provenance import provenance
    from efficientvla_ros.evaluation.report import write_json
    from efficientvla_ros.evaluation.soak_report import SCHEMA, soak_lines, summarise_soak

    settings = {
        'minutes': minutes,
        'model': model,
        'preset': preset,
        'control_rate': rate,
        'camera': {'width': width, 'height': height, 'rate': camera_rate, 'encoding': 'rgb8'},
        'joint_state_rate': 100.0,
    }
    machine = provenance()
    with TemporaryDirectory() as logs, _nodes(settings, Path(logs)) as (listener, children):
        _wait_until_running(listener, children)
        load, usage = MachineLoad(), [ProcessUsage(child) for child in children]
        statuses = _collect(listener, children, 60.0 * minutes)
        cores = {process.name: process.figures()['cores'] for process in usage}
        found = {'cores': cores, 'cores_busy_in_all': load.cores_busy_elsewhere()}
    found |= summarise_soak(statuses)
    typer.echo('\n'.join(soak_lines(found)))
    if json_file is not None:
        write_json(json_file, {'schema': SCHEMA, **machine, 'settings': settings, **found})
        typer.echo(f'report: {json_file}')


@contextmanager
def _nodes(
    settings: dict[str, Any], logs: Path
) -> Iterator[tuple[StatusListener, list[ChildProcess]]]:
    from efficientvla_ros.cli.child_processes import stop_all
    from efficientvla_ros.cli.demo_processes import (
        free_domain,
        node_environment,
        start_mock_robot,
        start_policy,
    )
    from efficientvla_ros.ros.reporting.status_listener import StatusListener

    domain = free_domain()
    environment = node_environment(domain, logs)
    children: list[ChildProcess] = []
    listener = None
    try:
        children.append(start_mock_robot(camera=settings['camera'], logs=logs, env=environment))
        children.append(
            start_policy(
                model=settings['model'],
                preset=settings['preset'],
                rate=settings['control_rate'],
                logs=logs,
                env=environment,
            )
        )
        for name in ('ROS_DOMAIN_ID', 'ROS_LOG_DIR', 'ROS_AUTOMATIC_DISCOVERY_RANGE'):
            os.environ[name] = environment[name]  # for our own node as well
        listener = StatusListener('policy_node')
        yield listener, children
    finally:
        if listener is not None:
            listener.close()
        stop_all(children)


def _wait_until_running(listener: StatusListener, children: list[ChildProcess]) -> None:
    from efficientvla_ros.ros.commander import State

    end = time.monotonic() + _START_S
    while time.monotonic() < end:
        for watched in listener.spin(0.2):
            if watched.status.state == State.RUNNING:
                return
        _check(children)
    raise InputError(
        f'the policy node did not run within {_START_S:.0f} s: {children[1].log_tail(3)}'
    )


def _collect(
    listener: StatusListener, children: list[ChildProcess], seconds: float
) -> list[dict[str, Any]]:
    from rich.console import Console
    from rich.progress import Progress

    from efficientvla_ros.ros.reporting.status_listener import status_dict

    statuses: list[dict[str, Any]] = []
    start = heard = time.monotonic()
    with Progress(console=Console(stderr=True), transient=True) as bar:
        line = bar.add_task('soak', total=seconds)
        while (now := time.monotonic()) < start + seconds:
            arrived = listener.spin(0.5)
            statuses += [status_dict(watched.status) for watched in arrived]
            heard = now if arrived else heard
            if now - heard > _SILENCE_S:
                raise InputError(f'no status of the policy node for {_SILENCE_S:.0f} s')
            _check(children)
            bar.update(line, completed=now - start)
    return statuses


def _check(children: list[ChildProcess]) -> None:
    for child in children:
        ended = child.how_it_ended()
        if ended:
            raise InputError(f'the {ended}: {child.log_tail(3)}')
