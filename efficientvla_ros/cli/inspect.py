"""`efficientvla inspect`: what a policy takes, and whether a checkpoint is what it should be."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from efficientvla_ros.cli.options import DdimSteps, Guidance
from efficientvla_ros.types import InputError

if TYPE_CHECKING:
    from efficientvla_ros.models.config import CogACTConfig, OpenVLAConfig
    from efficientvla_ros.models.verify import Verification

EXIT_FAULTS = 1


def command(
    model: Annotated[
        str | None, typer.Option(help="Name of a model; the checkpoint's if not given.")
    ] = None,
    path: Annotated[
        Path | None, typer.Option(help='Verify this checkpoint folder or .pt file.')
    ] = None,
    prompt_tokens: Annotated[
        int, typer.Option(help='Ids of the prompt, with the first and the appended ones.')
    ] = 30,
    ddim_steps: DdimSteps = None,
    guidance: Guidance = None,
    dtype: Annotated[
        str, typer.Option(help='float32 or bfloat16; the action head is float32 always.')
    ] = 'bfloat16',
    preset: Annotated[
        str | None, typer.Option(help='Acceleration, such as efficientvla; dense if not given.')
    ] = None,
    layers: Annotated[
        int | None, typer.Option(help="Decoder layers kept; the preset's if not given.")
    ] = None,
    tokens: Annotated[
        int | None, typer.Option(help="Visual tokens kept; the preset's if not given.")
    ] = None,
    mlp_ratio: Annotated[
        float | None, typer.Option(help="Share of MLP channels cut; the preset's if not given.")
    ] = None,
    channels_ratio: Annotated[
        float | None,
        typer.Option(help='Share of MLP channels and heads that adaptive pruning cuts.'),
    ] = None,
    cache_interval: Annotated[
        int | None, typer.Option(help="Full sampling steps are this far apart; preset's if none.")
    ] = None,
    image: Annotated[
        Path | None, typer.Option(help='Instead: show which visual tokens of this picture stay.')
    ] = None,
    instruction: Annotated[
        str | None, typer.Option(help='With --image: what the policy is asked to do.')
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help='With --image: PNG to write.', dir_okay=False)
    ] = None,
    tokenizer: Annotated[
        str | None, typer.Option(help='With --image: folder with tokenizer.json.')
    ] = None,
    unnorm_key: Annotated[
        str | None, typer.Option(help='With --image: data set whose statistics are used.')
    ] = None,
    peak_tflops: Annotated[
        float, typer.Option(help='Peak arithmetic of the hardware, 10^12 FLOP/s.')
    ] = 165.0,
    bandwidth_gbs: Annotated[
        float, typer.Option(help='Memory bandwidth of the hardware, 10^9 B/s.')
    ] = 1000.0,
    json_file: Annotated[
        str | None, typer.Option('--json', metavar='FILE', help='Write JSON; - prints it.')
    ] = None,
) -> None:
    """Show what a policy takes: parameters, arithmetic, memory, floor time; needs no weights.

    With --preset or counts of its own, show what the plan leaves out, and its cost as this
    package runs it and as the papers count it.

    With --image, run the policy once (this needs weights) and write a picture of the visual
    tokens that it keeps.

    With --path, verify a checkpoint as well: exit code 0 means that all its tensors are as
    expected, 1 that it has faults, 2 that it cannot be read or an option cannot be used.
    """
    from efficientvla_ros.acceleration.cost_model import Workload
    from efficientvla_ros.acceleration.plan_counts import PlanCounts
    from efficientvla_ros.cli.inspect_image import show_tokens
    from efficientvla_ros.cli.inspect_plan import chosen_plan, plan_report
    from efficientvla_ros.cli.inspect_report import Hardware, cost_report, verification_report

    for option, value in (('--peak-tflops', peak_tflops), ('--bandwidth-gbs', bandwidth_gbs)):
        if not value > 0:
            raise InputError(f'{option} is {value:g}, expected more than 0')
    check = None if path is None else _verify(path)
    config = _config(model, check)
    embedded = _is_embedded(config, check)
    overrides = {
        'layers': layers,
        'tokens': tokens,
        'mlp_ratio': mlp_ratio,
        'channels_ratio': channels_ratio,
        'cache_interval': cache_interval,
    }
    default = None if image is None else 'efficientvla'
    try:
        plan = chosen_plan(config, preset or default, overrides)
        counts = PlanCounts() if plan is None else plan.counts
        workload = Workload(prompt_tokens, ddim_steps, guidance, dtype, plan=counts)
        hardware = Hardware(peak_tflops, bandwidth_gbs)
        report = cost_report(config, workload, hardware, embedded)
        if plan is not None:
            report['plan'] = plan_report(config, workload, hardware, embedded, plan)
    except ValueError as error:
        raise InputError(str(error)) from error
    if image is not None:
        source = config.name if path is None else str(path)
        options = {'model': source, 'tokenizer': tokenizer, 'unnorm_key': unnorm_key}
        show_tokens(image, instruction, out, plan, json_file, **options)
        return
    if check is not None:
        report['checkpoint'] = verification_report(path, check, config if model else None)
    _write(report, json_file)
    if report.get('checkpoint', {}).get('good') is False:
        raise typer.Exit(EXIT_FAULTS)


def _verify(path: Path) -> Verification:
    from efficientvla_ros.models.checkpoint import CheckpointError
    from efficientvla_ros.models.verify import verify_checkpoint

    try:
        return verify_checkpoint(path)
    except CheckpointError as error:
        raise InputError(str(error)) from error


def _config(model: str | None, check: Verification | None) -> CogACTConfig | OpenVLAConfig:
    """The model asked for, or else the checkpoint's, or else the embedded one."""
    from efficientvla_ros.models.config import CONFIGS

    if model is None and check is not None:
        return check.config
    name = 'tabletop-small' if model is None else model
    if name in CONFIGS:
        return CONFIGS[name]
    raise InputError(
        f'model {name!r} is unknown, expected one of {", ".join(CONFIGS)}; '
        'a checkpoint is given with --path'
    )


def _is_embedded(config: CogACTConfig | OpenVLAConfig, check: Verification | None) -> bool:
    from efficientvla_ros.models.layout import EMBEDDED
    from efficientvla_ros.runtime.load_options import WEIGHTS_FOLDER

    return (WEIGHTS_FOLDER / config.name).is_dir() if check is None else check.kind == EMBEDDED


def _write(report: dict[str, Any], json_file: str | None) -> None:
    import json

    from efficientvla_ros.cli.inspect_tables import console, print_cost, print_verification
    from efficientvla_ros.evaluation.report import write_json

    if json_file == '-':
        typer.echo(json.dumps(report, indent=1, allow_nan=False))
        return
    screen = console()
    if 'checkpoint' in report:
        print_verification(screen, report['checkpoint'])
    print_cost(screen, report)
    if json_file is not None:
        try:
            write_json(Path(json_file), report)
        except OSError as error:
            raise InputError(f'--json {json_file}: cannot be written: {error.strerror}') from error
        typer.echo(f'report: {json_file}')
