"""Parameters of the policy node."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from efficientvla_ros.ros.parameters import (
    acceleration,
    camera,
    command,
    control,
    logging,
    model,
    safety,
)
from efficientvla_ros.ros.parameters.table import (
    Changes,
    ParameterTable,
    Settings,
    Spec,
    Value,
)

_GROUPS = (
    acceleration,
    camera,
    control,
    command,
    safety,
    logging,
)

_SPECS: tuple[Spec, ...] = (
    Spec(
        'autostart',
        False,
        'The node configures and activates itself after it has started.',
        changes=Changes.NEVER,
    ),
    *model.SPECS,
    *acceleration.SPECS,
    *acceleration.AUDIT_SPECS,
    *camera.SPECS,
    *control.SPECS,
    *command.SPECS,
    *safety.SPECS,
    *logging.SPECS,
)


def _check_together(values: Mapping[str, Value]) -> None:
    for group in _GROUPS:
        group.check_together(values)


TABLE = ParameterTable(
    'policy_node', _SPECS, 'config/policy.yaml', 'docs/parameters.md', _check_together
)


def compressed_flags(settings: Settings) -> tuple[bool, ...]:
    """For every camera: whether it is heard compressed."""
    flags = settings['cameras.compressed']
    names = settings['cameras.names']
    return tuple(flags) if len(flags) == len(names) else tuple(flags) * len(names)


def engine_options(settings: Settings) -> dict[str, object]:
    """Keyword arguments of `load_engine` that follow from the parameters."""
    return {
        'model': settings['model.path'],
        'device': settings['model.device'],
        'dtype': settings['model.dtype'],
        'threads': settings['model.threads'],
        'tokenizer': settings['model.tokenizer'] or None,
        'unnorm_key': settings['model.unnorm_key'] or None,
        'use_ema': settings['model.use_ema'],
        'random_weights': settings['model.random_weights'],
        'num_ddim_steps': settings['model.ddim_steps'] or None,
        'guidance': settings['model.guidance'] or None,
        'acceleration': partial(acceleration.acceleration_config, settings),
        'profile': settings['acceleration.profile'] or None,
        'only_kept_layers': settings['acceleration.only_kept_layers'],
    }
