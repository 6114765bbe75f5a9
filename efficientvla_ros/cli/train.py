"""`efficientvla train`: trains the embedded policy on recorded demonstrations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from efficientvla_ros.cli.options import Device

if TYPE_CHECKING:
    from efficientvla_ros.models.config import CogACTConfig


def command(
    data: Annotated[
        list[Path], typer.Option(help='Folder made by `efficientvla record`; may be repeated.')
    ],
    out: Annotated[
        Path,
        typer.Option(help='Run folder: state, metrics, curves. A run that is there is resumed.'),
    ] = Path('runs/tabletop-small'),
    model: Annotated[str, typer.Option(help='Configuration to train.')] = 'tabletop-small',
    layers: Annotated[
        int | None,
        typer.Option(help='Decoder layers, fewer than the configuration has: to be grown later.'),
    ] = None,
    settings: Annotated[
        Path | None,
        typer.Option(help='JSON file with training settings; missing keys keep their defaults.'),
    ] = None,
    export: Annotated[
        Path | None, typer.Option(help='Write the trained checkpoint folder here.')
    ] = None,
    export_state: Annotated[
        Path | None,
        typer.Option(help='Likewise, with training-only parts: small, to start another run from.'),
    ] = None,
    start: Annotated[
        Path | None,
        typer.Option(help='Run folder or embedded checkpoint that is trained further.'),
    ] = None,
    device: Device = 'cpu',
    workers: Annotated[
        int, typer.Option(min=1, help='Processes that share every step, one thread each.')
    ] = 1,
) -> None:
    """Trains the embedded policy on recorded demonstrations; a broken-off run is resumed."""
    import torch

    from efficientvla_ros.models.config import CONFIGS
    from efficientvla_ros.training.curves import plot_curves
    from efficientvla_ros.training.parallel import train
    from efficientvla_ros.training.precision import bfloat16_is_slow
    from efficientvla_ros.training.settings import TrainSettings
    from efficientvla_ros.training.trainer import METRICS_FILE
    from efficientvla_ros.types import InputError

    try:
        recipe = TrainSettings.from_file(settings) if settings else TrainSettings()
        if model not in CONFIGS:
            raise InputError(f'model {model!r} is unknown, expected one of {", ".join(CONFIGS)}')
        config = _config_of(CONFIGS[model], layers)
        if recipe.precision == 'bfloat16' and bfloat16_is_slow(torch.device(device)):
            typer.echo(
                'warning: precision is bfloat16, but this processor has no such products '
                '(avx512_bf16, amx_bf16): float32 is faster here',
                err=True,
            )
        with _Progress() as progress:
            trainer = train(
                config,
                recipe,
                data,
                out,
                device=device,
                workers=workers,
                start=start,
                progress=progress,
            )
    except (InputError, OSError, ValueError) as error:
        typer.echo(f'error: {error}', err=True)
        raise typer.Exit(2) from error
    (out / 'settings.json').write_text(json.dumps(recipe.to_dict(), indent=2) + '\n')
    if (out / METRICS_FILE).is_file():
        plot_curves(out / METRICS_FILE, out / 'curves.png')
    if export:
        trainer.export(export)
        typer.echo(f'checkpoint written to {export}')
    if export_state:
        trainer.export_state(export_state)
        typer.echo(f'checkpoint and training-only parts written to {export_state}')


def _config_of(config: CogACTConfig, layers: int | None) -> CogACTConfig:
    from dataclasses import replace

    from efficientvla_ros.types import InputError

    if layers is None:
        return config
    if not 1 <= layers <= config.llm.layers:
        raise InputError(f'--layers is {layers}, expected 1 .. {config.llm.layers}')
    return replace(config, llm=replace(config.llm, layers=layers))


class _Progress:
    """A progress bar on a terminal, a line now and then elsewhere."""

    _LINE_EVERY = 200

    def __enter__(self) -> _Progress:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        self._console = Console()
        self._bar = Progress(
            TextColumn('{task.description}'),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn('{task.fields[values]}'),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._tasks: dict[str, int] = {}
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, stage: str, step: int, steps: int, values: dict[str, float]) -> None:
        text = ' '.join(f'{name}={value:.4f}' for name, value in values.items())
        if not self._console.is_terminal:
            if step % self._LINE_EVERY == 0:
                print(f'{stage} {step}/{steps} {text}', flush=True)
            return
        if stage not in self._tasks:
            self._tasks[stage] = self._bar.add_task(stage, total=steps, values='')
        self._bar.update(self._tasks[stage], completed=step, values=text)
