"""Parameters `acceleration.*` and the settings that follow from them; free of torch and ROS."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from efficientvla_ros.acceleration.config import (
    LAYERS_METHODS,
    AccelerationConfig,
    AccelerationError,
)
from efficientvla_ros.acceleration.presets import PRESETS, preset
from efficientvla_ros.acceleration.token_options import DIVERSITY_KINDS, METHODS
from efficientvla_ros.ros.parameter_table import Changes, Settings, Spec
from efficientvla_ros.types import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from efficientvla_ros.models.config import VLMConfig
    from efficientvla_ros.ros.parameter_table import Value

GROUP = 'acceleration.'
AS_PRESET = 'preset'

# fmt: off
SPECS: tuple[Spec, ...] = (
    Spec(
        'acceleration.preset', 'dense',
        'What is left out of an inference: nothing (dense), what EfficientVLA leaves out '
        '(efficientvla; efficientvla_light is milder), or one technique of it alone.',
        choices=PRESETS,
    ),
    Spec(
        'acceleration.profile', '',
        'Calibration profile of the model (`efficientvla calibrate`), which layer and MLP pruning '
        'need; empty takes the one beside the weights.',
        changes=Changes.CONFIGURE,
    ),
    Spec(
        'acceleration.only_kept_layers', False,
        'Decoder layers that the plan at configure leaves out are not loaded to the device; '
        'plans that need them are then refused.',
        changes=Changes.CONFIGURE,
    ),
    Spec(
        'acceleration.layers.keep', 0,
        "Decoder layers that run; 0 takes the preset's count, the model's count runs all.",
        low=0, high=1024,
    ),
    Spec(
        'acceleration.layers.method', 'one_shot',
        'Rank the layers once, or again after each removal (needs a profile made with --greedy).',
        choices=LAYERS_METHODS,
    ),
    Spec(
        'acceleration.mlp.ratio', -1.0,
        "Share of the MLP channels that is left out; -1 takes the preset's, 0 leaves out none.",
        low=-1.0, high=0.95,
    ),
    Spec(
        'acceleration.tokens.keep', 0,
        "Visual tokens that stay after the scoring layer; 0 takes the preset's count, the "
        "model's count keeps all.",
        low=0, high=65536,
    ),
    Spec(
        'acceleration.tokens.method', AS_PRESET,
        "How visual tokens are chosen; preset takes the preset's way.",
        choices=(AS_PRESET, *METHODS),
    ),
    Spec(
        'acceleration.tokens.diversity', 'key',
        'Diverse tokens differ from the key tokens, as published, or from everything kept so far '
        '(greedy).',
        choices=DIVERSITY_KINDS,
    ),
    Spec(
        'acceleration.tokens.hysteresis', 0.0,
        'Bonus of tokens that were kept at the tick before, in shares of the range of relevance; '
        '0 is off.',
        low=0.0, high=10.0,
    ),
    Spec(
        'acceleration.cache.interval', 0,
        'Of this many denoising steps the first one runs the diffusion blocks; 0 takes the '
        "preset's, 1 runs them in each step.",
        low=0, high=1000,
    ),
    Spec(
        'acceleration.cache.threshold', 0.0,
        'With an interval: the blocks also run once their input has changed by this share since '
        'they last did; 0 is off.',
        low=0.0, high=100.0,
    ),
)
# fmt: on


def check_together(values: Mapping[str, Value]) -> None:
    """Checks what the ranges cannot tell, before a model is loaded.

    Raises:
        InputError: names the parameter and its value.
    """
    ratio = values['acceleration.mlp.ratio']
    if -1.0 < ratio < 0.0:
        raise InputError(
            f'parameter acceleration.mlp.ratio: got {ratio}, expected -1 or 0 to 0.95'
        )


def acceleration_config(settings: Settings, model: VLMConfig) -> AccelerationConfig:
    """Returns the preset for a model with what other parameters change of it.

    Raises:
        InputError: the values fit no model.
    """
    group = {
        name.removeprefix(GROUP): value
        for name, value in settings.items()
        if name.startswith(GROUP)
    }
    changes = {
        'layers_method': group['layers.method'],
        'tokens_diversity': group['tokens.diversity'],
        'tokens_hysteresis': group['tokens.hysteresis'],
        'cache_threshold': group['cache.threshold'],
    }
    for field, name, as_preset in (
        ('layers', 'layers.keep', 0),
        ('mlp_ratio', 'mlp.ratio', -1.0),
        ('tokens', 'tokens.keep', 0),
        ('tokens_method', 'tokens.method', AS_PRESET),
        ('cache_interval', 'cache.interval', 0),
    ):
        if group[name] != as_preset:
            changes[field] = group[name]
    try:
        return replace(preset(group['preset'], model), **changes)
    except AccelerationError as error:
        raise InputError(f'parameters acceleration.*: {error}') from error


def plan_name(settings: Settings, model: VLMConfig) -> str:
    """Returns the preset's name, marked where other parameters change what it does."""
    name = settings['acceleration.preset']
    changed = acceleration_config(settings, model) != preset(name, model)
    return f'{name} (changed)' if changed else name


def same_acceleration(one: Settings, other: Settings) -> bool:
    """Whether no parameter of the group differs."""
    return all(one[spec.name] == other[spec.name] for spec in SPECS)
