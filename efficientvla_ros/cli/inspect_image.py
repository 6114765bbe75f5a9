"""`efficientvla inspect --image`: which visual tokens a policy keeps of one picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from efficientvla_ros.types import InputError

if TYPE_CHECKING:
    from efficientvla_ros.cli.inspect_plan import ChosenPlan
    from efficientvla_ros.evaluation.token_inspection import TokenInspection


def show_tokens(
    image: Path,
    instruction: str | None,
    out: Path | None,
    plan: ChosenPlan,
    json_file: str | None,
    **options: Any,
) -> None:
    """Runs a policy once, writes the picture and prints what was kept.

    Args:
        image: picture of the camera.
        instruction: what the policy is asked to do.
        out: PNG to write.
        plan: what is left out.
        json_file: where the numbers go as JSON, `-` is the screen; None prints a line.
        options: of `load_engine`, the model among them.

    Raises:
        InputError: an option is missing, or a file or the model cannot be used.
    """
    from efficientvla_ros.evaluation.report import write_json
    from efficientvla_ros.evaluation.token_inspection import inspect_image

    for option, value in (('--instruction', instruction), ('--out', out)):
        if value is None:
            raise InputError(f'--image is given without {option}')
    if plan.counts.tokens is None:
        raise InputError(
            f'--image: plan {plan.preset!r} keeps all visual tokens, expected one that drops some'
        )
    found = inspect_image(image, instruction, out, preset=plan.acceleration, **options)
    if json_file == '-':
        typer.echo(json.dumps(found.to_json(), indent=1))
        return
    typer.echo(_line(found))
    typer.echo(f'picture: {out}')
    if json_file is not None:
        try:
            write_json(Path(json_file), found.to_json())
        except OSError as error:
            raise InputError(f'--json {json_file}: cannot be written: {error.strerror}') from error
        typer.echo(f'report: {json_file}')


def _line(found: TokenInspection) -> str:
    report = found.to_json()
    roles = ', '.join(f'{count} {role}' for role, count in report['counts'].items())
    return (
        f'{found.model}, "{found.instruction}": {len(found.kept)} of {found.patches} visual '
        f'tokens are kept ({roles})'
    )
