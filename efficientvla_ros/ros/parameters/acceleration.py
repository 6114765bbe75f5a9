"""Parameters `acceleration.*` and the settings that follow from them; free of torch and ROS."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from efficientvla_ros.acceleration.config import (
    CHANNELS_METHODS,
    LAYERS_METHODS,
    AccelerationConfig,
    AccelerationError,
)
from efficientvla_ros.acceleration.presets import PRESETS, preset
from efficientvla_ros.acceleration.token_options import DIVERSITY_KINDS, METHODS
from efficientvla_ros.ros.parameters.table import Changes, Settings, Spec
from efficientvla_ros.types import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from efficientvla_ros.acceleration.plan import ExecutionPlan
    from efficientvla_ros.models.config import VLMConfig
    from efficientvla_ros.ros.parameters.table import Value
    from efficientvla_ros.runtime.audit import AuditSettings
    from efficientvla_ros.runtime.engine import Engine
    from efficientvla_ros.runtime.latency_budget import LatencyBudget

GROUP = 'acceleration.'
AS_PRESET = 'preset'

_DEFAULT = AccelerationConfig()

_CHANNELS = ('heads', 'update_rate', 'alpha', 'history', 'window', 'max_age')

# fmt: off
SPECS: tuple[Spec, ...] = (
    Spec(
        'acceleration.preset', 'dense',
        'What is left out of an inference: nothing (dense), what EfficientVLA leaves out '
        '(efficientvla; efficientvla_light is milder), what EcoVLA does at its two ratios '
        '(ecovla_25, ecovla_40), both methods (combined), or one technique alone.',
        choices=PRESETS,
    ),
    Spec(
        'acceleration.latency_budget_ms', 0.0,
        'Time that an inference may take, 95th percentile: of dense, efficientvla_light, combined '
        'and efficientvla the first that keeps it is run, chosen again as the machine slows or '
        'recovers; preset and single values are without effect then. 0 is off.',
        unit='ms', low=0.0, high=60000.0,
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
    Spec(
        'acceleration.channels.ratio', -1.0,
        'Share of the MLP channels and attention heads that is left out, chosen while the arm '
        "moves; -1 takes the preset's, 0 leaves out none.",
        low=-1.0, high=0.95,
    ),
    Spec(
        'acceleration.channels.method', AS_PRESET,
        'How channels are chosen: again where the image changes, in a tick that runs dense (eap) '
        'or between ticks (eap_gap), or between all ticks (every_frame); or once, by calibration '
        "(frozen), by Wanda's scores or at random. preset takes the preset's way.",
        choices=(AS_PRESET, *CHANNELS_METHODS),
    ),
    Spec(
        'acceleration.channels.heads', True,
        'Attention heads are left out as well as MLP channels.',
    ),
    Spec(
        'acceleration.channels.update_rate', _DEFAULT.channels_update_rate,
        'Share of the ticks that choose channels again; 0 takes the published trigger, whose '
        'rate depends on the scene.',
        low=0.0, high=1.0,
    ),
    Spec(
        'acceleration.channels.alpha', _DEFAULT.channels_alpha,
        'Weight of the history in the scores of channels; the rest is the newest frame.',
        low=0.0, high=1.0,
    ),
    Spec(
        'acceleration.channels.history', _DEFAULT.channels_history,
        'Share of the history that stays when a frame joins it.',
        low=0.0, high=1.0,
    ),
    Spec(
        'acceleration.channels.window', _DEFAULT.channels_window,
        'Ticks whose similarities a tick is compared with.',
        low=1, high=1000,
    ),
    Spec(
        'acceleration.channels.max_age', _DEFAULT.channels_max_age,
        'Ticks after which channels are chosen again whatever the image.',
        low=1, high=100000,
    ),
)

AUDIT_SPECS: tuple[Spec, ...] = (
    Spec(
        'acceleration.audit.enabled', True,
        'At ticks that choose channels, actions with and without the left-out channels are '
        'compared, beside inference.',
    ),
    Spec(
        'acceleration.audit.max_deviation', 0.0,
        "Tolerated difference of the worst action dimension, as a share of the range of its "
        'actions; beyond it less is left out by itself. 0 tolerates any.',
        low=0.0, high=10.0,
    ),
    Spec(
        'acceleration.audit.patience', 2,
        'Audits in a row beyond the tolerated difference before less is left out.',
        low=1, high=1000,
    ),
    Spec(
        'acceleration.audit.recovery', 5,
        'Audits in a row below half of it before more is left out again.',
        low=1, high=1000,
    ),
)
# fmt: on


def check_together(values: Mapping[str, Value]) -> None:
    """Checks what the ranges cannot tell, before a model is loaded.

    Raises:
        InputError: names the parameter and its value.
    """
    for name in ('acceleration.mlp.ratio', 'acceleration.channels.ratio'):
        if -1.0 < values[name] < 0.0:
            raise InputError(f'parameter {name}: got {values[name]}, expected -1 or 0 to 0.95')
    mlp, channels = values['acceleration.mlp.ratio'], values['acceleration.channels.ratio']
    if mlp > 0.0 and channels > 0.0:
        raise InputError(
            f'parameter acceleration.channels.ratio: got {channels}, expected 0 or -1 beside '
            f'acceleration.mlp.ratio {mlp}: both leave out MLP channels'
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
        **{f'channels_{name}': group[f'channels.{name}'] for name in _CHANNELS},
    }
    for field, name, as_preset in (
        ('layers', 'layers.keep', 0),
        ('mlp_ratio', 'mlp.ratio', -1.0),
        ('tokens', 'tokens.keep', 0),
        ('tokens_method', 'tokens.method', AS_PRESET),
        ('cache_interval', 'cache.interval', 0),
        ('channels_ratio', 'channels.ratio', -1.0),
        ('channels_method', 'channels.method', AS_PRESET),
    ):
        if group[name] != as_preset:
            changes[field] = group[name]
    try:
        return replace(preset(group['preset'], model), **changes)
    except AccelerationError as error:
        raise InputError(f'parameters acceleration.*: {error}') from error


def audit_settings(settings: Settings) -> AuditSettings:
    """Returns what is audited and tolerated."""
    from efficientvla_ros.runtime.audit import AuditSettings

    names = (spec.name.removeprefix('acceleration.audit.') for spec in AUDIT_SPECS)
    return AuditSettings(**{name: settings[f'acceleration.audit.{name}'] for name in names})


def plan_name(settings: Settings, model: VLMConfig) -> str:
    """Returns the preset's name, marked where other parameters change what it does."""
    name = settings['acceleration.preset']
    changed = acceleration_config(settings, model) != preset(name, model)
    return f'{name} (changed)' if changed else name


def use_plan(engine: Engine, settings: Settings) -> tuple[str, ExecutionPlan]:
    """Has an engine run what the parameters ask for; takes seconds; returns name and plan.

    Raises:
        InputError: the model cannot run it; it goes on as before.
    """
    budget = settings['acceleration.latency_budget_ms']
    if budget > 0.0:
        return budgeted_name(engine.set_latency_budget(budget)), engine.plan
    plan = engine.set_acceleration(acceleration_config(settings, engine.config))
    return plan_name(settings, engine.config), plan


def budgeted_name(budget: LatencyBudget) -> str:
    """Returns the name of the plan that a latency budget has chosen."""
    return f'{budget.choice} (latency budget)'


def same_acceleration(one: Settings, other: Settings) -> bool:
    """Whether no parameter differs that a plan depends on."""
    return all(one[spec.name] == other[spec.name] for spec in SPECS)
