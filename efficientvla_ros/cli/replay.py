"""`efficientvla replay`: runs a rosbag2 recording through the policy as the node would."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from efficientvla_ros.types import InputError

if TYPE_CHECKING:
    from efficientvla_ros.cli.replay_session import Session
    from efficientvla_ros.ros.parameters.table import Settings

MEASURED = 'measured'


def command(
    bag: Annotated[Path, typer.Argument(help='rosbag2 folder (sqlite3 or mcap).')],
    model: Annotated[
        str | None,
        typer.Option(help='Parameter model.path; "tabletop-small" if nothing says otherwise.'),
    ] = None,
    preset: Annotated[str | None, typer.Option(help='Parameter acceleration.preset.')] = None,
    compare: Annotated[
        list[str] | None,
        typer.Option(help='Also run this preset and compare; can be given more than once.'),
    ] = None,
    instruction: Annotated[
        str | None, typer.Option(help='Used instead of the recorded instructions.')
    ] = None,
    params: Annotated[Path | None, typer.Option(help='Parameter file of the policy node.')] = None,
    param: Annotated[
        list[str] | None,
        typer.Option('--param', '-p', help='One parameter, name:=value; overrides the file.'),
    ] = None,
    namespace: Annotated[str, typer.Option(help='Namespace of the node.')] = '',
    remap: Annotated[
        list[str] | None,
        typer.Option('--remap', '-r', help='Topic remapping from:=to, as for the node.'),
    ] = None,
    urdf: Annotated[
        Path | None, typer.Option(help='Robot description, if it was not recorded.')
    ] = None,
    rate: Annotated[
        float,
        typer.Option(min=0.0, help='Ticks per second, as the node; 0 plans every frame.'),
    ] = 0.0,
    latency: Annotated[
        str,
        typer.Option(
            help='Time from the start of an inference to its command: seconds, or "measured": '
            'what it takes here.'
        ),
    ] = '0',
    frames: Annotated[int | None, typer.Option(min=1, help='Only so many frames.')] = None,
    json_file: Annotated[
        Path | None, typer.Option('--json', help='Write every frame and the report here.')
    ] = None,
) -> None:
    """Run a rosbag2 recording through the policy as the node would, compare presets."""
    from efficientvla_ros.cli.parameter_file import parse_assignments, read_parameters
    from efficientvla_ros.cli.replay_report import SCHEMA, summary_text
    from efficientvla_ros.cli.replay_session import Session, open_recording
    from efficientvla_ros.cli.replay_topics import Names, wanted_topics
    from efficientvla_ros.evaluation.presets import check_preset
    from efficientvla_ros.evaluation.provenance import model_digest, provenance
    from efficientvla_ros.evaluation.report import write_json

    latency_s = _latency(latency)
    given = {} if params is None else read_parameters(params)
    given.update(parse_assignments(param or ()))
    if model is not None:
        given['model.path'] = model
    if preset is not None:
        check_preset(preset)
        given['acceleration.preset'] = preset
    for name in compare or ():
        check_preset(name)
    sim_time = bool(given.pop('use_sim_time', False))
    settings = _settings(given)
    names = Names(namespace, remap or ())
    wanted = wanted_topics(
        settings, names, has_instruction=instruction is not None, use_sim_time=sim_time
    )
    options = {'latency_s': latency_s, 'rate': rate, 'follows_clock': sim_time}
    with open_recording(bag, wanted, warn) as recording:
        session = Session(recording, settings, options, instruction, _text(urdf), frames, warn)
        runs = _with_progress(session, compare or ())
        report = {
            'schema': SCHEMA,
            'bag': bag.name,
            'settings': {
                'model': settings['model.path'],
                'model_digest': model_digest(settings['model.path']),
                'parameters': given,
                'latency': latency,
                'rate': rate,
                'instruction': instruction,
            },
            **provenance(settings['model.device']),
            'recorded_chunks': session.recorded(),
            'runs': runs,
        }
    typer.echo(summary_text(report))
    if json_file is not None:
        write_json(json_file, report)
        typer.echo(f'report: {json_file}')


def _with_progress(session: Session, compare: Sequence[str]) -> list[dict[str, Any]]:
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        line = bar.add_task('')

        def show(what: str, done: int, total: int | None) -> None:
            bar.update(line, description=what, completed=done, total=total)

        return session.runs(compare, show)


def _settings(given: dict[str, Any]) -> Settings:
    from efficientvla_ros.ros.parameters.policy import TABLE

    for name in [name for name in given if name not in TABLE.specs]:
        if not name.startswith('qos_overrides.'):
            warn(f'parameter "{name}" is unknown and has no effect')
        del given[name]
    return TABLE.settings(given)


def _latency(text: str) -> float | None:
    if text == MEASURED:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0.0 <= seconds < 3600.0:
        raise InputError(f'--latency {text!r}: expected seconds from 0 on, or "{MEASURED}"')
    return seconds


def _text(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        return path.read_text(encoding='utf-8')
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f'--urdf {path} cannot be read ({error})') from error


def warn(line: str) -> None:
    """Says something on stderr."""
    typer.echo(f'warning: {line}', err=True)
