"""Presets as rows of one table: which there are, and what plan each of them gives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from efficientvla_ros.acceleration.presets import PRESETS, preset
from efficientvla_ros.models.config import TABLETOP_PICK
from efficientvla_ros.types import InputError, TickReport

if TYPE_CHECKING:
    from efficientvla_ros.runtime.engine import Engine

DENSE = 'dense'
"""The row that all others are compared with."""


def parse_presets(text: str) -> tuple[str, ...]:
    """Returns the presets of a comma-separated list, `dense` first whether it is named or not.

    Raises:
        InputError: there is no preset of a name, or the list is empty.
    """
    names = [name.strip() for name in text.split(',') if name.strip()]
    if not names:
        raise InputError(f'presets: got {text!r}, expected one or more of {", ".join(PRESETS)}')
    for name in names:
        check_preset(name)
    return tuple(dict.fromkeys((DENSE, *names)))


def check_preset(name: str) -> None:
    """Raises InputError if there is no preset of this name."""
    if name not in PRESETS:
        raise InputError(f'preset {name!r} is unknown, expected one of {", ".join(PRESETS)}')


def adapts_channels(name: str) -> bool:
    """Returns whether a preset chooses channels again from tick to tick."""
    return preset(name, TABLETOP_PICK).adapts_channels  # the same for every model


def work_done(report: TickReport) -> dict[str, int]:
    """Returns what one inference ran: `visual_tokens`, `layers_run`, `diffusion_steps`."""
    return {
        'visual_tokens': report.visual_tokens,
        'layers_run': report.layers_run,
        'diffusion_steps': report.diffusion_steps,
    }


def apply_preset(engine: Engine, name: str) -> dict[str, Any]:
    """Makes an engine run by a preset from its next inference on.

    Returns:
        What the plan is made from: `acceleration` (the settings), `layers` (indices that run)
        and `notes` (what stayed off, and why), ready for JSON.

    Raises:
        InputError: the model cannot run by this preset.
    """
    settings = preset(name, engine.config)
    plan = engine.set_acceleration(settings)
    return {
        'acceleration': settings.to_dict(),
        'layers': list(plan.layers),
        'notes': list(plan.notes),
    }
