"""What a training run is made of."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from efficientvla_ros.training.optimizer import OPTIMIZERS
from efficientvla_ros.training.precision import PRECISIONS
from efficientvla_ros.types import InputError

STAGES = ('vision', 'policy', 'head')
NOISE_LOSSES = ('mse', 'l1')


@dataclass(frozen=True)
class StageSettings:
    """Length and step size of one stage.

    Attributes:
        steps: optimiser steps.
        batch: images a step and process.
        learning_rate: peak value; warms up, stays, then falls linearly over the last part.
    """

    steps: int
    batch: int
    learning_rate: float


@dataclass(frozen=True)
class TrainSettings:
    """The recipe of the embedded policy.

    Stage `vision` teaches the towers where things are, `policy` trains everything but the
    diffusion head through a directly regressed chunk, `head` trains the diffusion head on the
    frozen rest.

    Attributes:
        vision: keypoints only.
        policy: vision, projector and language model.
        head: diffusion head.
        seed: of weights, batches and augmentation.
        layer_drop: drop probability of the deepest decoder layer; it grows linearly from the
            first layer, which is never dropped.
        token_drop: largest part of the visual tokens hidden from the language model.
        pruned_steps: part of the steps in stages `policy` and `head` in which the language model
            runs as an accelerated policy runs it, see `training.pruned`.
        pruned_layers: most decoder layers left out in such a step; at least half as many are.
        pruned_tokens: smallest and largest part of the visual tokens kept in such a step.
        thinned_steps: part of the steps in stages `policy` and `head` in which the language model
            runs with fewer channels and heads, see `training.thinned`; independent of the above.
        thinned_ratios: smallest and largest part of the channels left out in such a step.
        attention_weight: weight of `losses.attention_loss` in stage `policy`: it teaches the layer
            by which visual tokens are chosen to look at what the instruction is about.
        new_heads_steps: steps at the start of stage `policy` in which only training-only parts
            learn; for runs that start from a checkpoint, which has none of them.
        head_draws: noise draws in a step of stage `head` for each of its `batch` images.
        head_reuse: steps of stage `head` between two new batches of images, whose features are
            the slow part of a step; above 1 the steps share them, see `training.features`.
        quiet_draws: part of the draws that lie on the way from a start of random smaller size,
            down to none, to the actions. A head that is sampled from the centre of the noise
            (`head.temperature` 0) goes such ways, and at full size there are next to none of them.
        noise_loss: `mse`, or `l1` for a head that is sampled at temperature 0: where two plans are
            as good, the mean error is least between them, where no plan is; the absolute one is
            least at one of the two.
        cache_weight: weight of the error that the head makes at a later time of the same draw with
            what its blocks gave at the first, as `acceleration.feature_cache` has it; the distance
            is random, up to half the schedule.
        condition_drop: part of the draws made without the condition (for guidance).
        ema: decay of the averaged weights that are exported.
        optimizer: `adamw`, or `muon` for the matrices of the networks, see `training.optimizer`.
        precision: `float32`, or `bfloat16` for the products of a step, see `training.precision`.
    """

    vision: StageSettings = field(default=StageSettings(400, 32, 1e-3))
    policy: StageSettings = field(default=StageSettings(7000, 8, 1e-3))
    head: StageSettings = field(default=StageSettings(2500, 16, 1e-3))
    seed: int = 0
    layer_drop: float = 0.3
    token_drop: float = 0.4
    pruned_steps: float = 0.0
    pruned_layers: int = 5
    pruned_tokens: tuple[float, float] = (0.15, 0.6)
    thinned_steps: float = 0.0
    thinned_ratios: tuple[float, float] = (0.1, 0.5)
    attention_weight: float = 0.0
    new_heads_steps: int = 200
    head_draws: int = 8
    head_reuse: int = 1
    quiet_draws: float = 0.0
    noise_loss: str = 'mse'
    cache_weight: float = 0.0
    condition_drop: float = 0.1
    ema: float = 0.998
    optimizer: str = 'adamw'
    precision: str = 'float32'

    def stage(self, name: str) -> StageSettings:
        """Returns the settings of a stage in `STAGES`."""
        return getattr(self, name)

    def to_dict(self) -> dict[str, Any]:
        """Returns a JSON-ready description."""
        return asdict(self)

    @classmethod
    def from_file(cls, path: Path) -> TrainSettings:
        """Reads settings from a JSON file, see `from_dict`.

        Raises:
            InputError: it cannot be read, or what it says is refused.
        """
        try:
            values = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise InputError(f'training settings {path}: {error}') from error
        if not isinstance(values, dict):
            raise InputError(f'training settings {path} are no JSON object')
        return cls.from_dict(values)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrainSettings:
        """Builds settings from `to_dict`'s output; missing keys keep their defaults.

        Raises:
            InputError: a key, the optimiser, the precision or the noise loss is unknown, a value
                is out of its range.
        """
        _check_keys('training settings', values, cls)
        stages = {name: _stage_from(name, values[name]) for name in STAGES if name in values}
        kinds = {'optimizer': OPTIMIZERS, 'precision': PRECISIONS, 'noise_loss': NOISE_LOSSES}
        for name, known in kinds.items():
            kind = values.get(name, known[0])
            if kind not in known:
                raise InputError(f'{name} is {kind!r}, expected one of {", ".join(known)}')
        for name in _RANGES:
            if name in values:
                _check_number(name, values[name], *_RANGES[name])
        # JSON has no tuples.
        rest = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**{**rest, **stages})


_RANGES = {
    **dict.fromkeys(('layer_drop', 'token_drop', 'pruned_steps', 'thinned_steps'), (0, 1)),
    **dict.fromkeys(('quiet_draws', 'condition_drop', 'ema'), (0, 1)),
    **dict.fromkeys(('pruned_layers', 'head_draws', 'head_reuse'), (1,)),
    **dict.fromkeys(('new_heads_steps', 'attention_weight', 'cache_weight'), (0,)),
}
"""Smallest and, where there is one, largest value."""


def _check_keys(what: str, values: dict[str, Any], kind: type) -> None:
    unknown = set(values) - {item.name for item in fields(kind)}
    if unknown:
        raise InputError(f'{what} have unknown keys: {", ".join(sorted(unknown))}')


def _check_number(name: str, value: Any, low: float, high: float = math.inf) -> None:
    if not isinstance(value, int | float) or not low <= value <= high:
        expected = f'at least {low:g}' if high == math.inf else f'from {low:g} to {high:g}'
        raise InputError(f'{name} is {value!r}, expected a number {expected}')


def _stage_from(name: str, values: dict[str, Any]) -> StageSettings:
    what = f'settings of stage {name}'
    _check_keys(what, values, StageSettings)
    missing = {item.name for item in fields(StageSettings)} - set(values)
    if missing:
        raise InputError(f'{what} lack {", ".join(sorted(missing))}')
    for key, least in (('steps', 0), ('batch', 1), ('learning_rate', 0.0)):
        _check_number(f'{key} of stage {name}', values[key], least)
    return StageSettings(**values)


WARM_UP_STEPS = 150
_DECAY_PART = 0.35
_FINAL_PART = 0.02


def learning_rate(stage: StageSettings, step: int) -> float:
    """Learning rate of a step: linear warm-up, constant, linear decay to 2 %.

    The constant part makes a run's early steps independent of its length, so `steps` may be
    changed when a run is resumed.
    """
    decay_steps = _DECAY_PART * stage.steps
    left = (stage.steps - step) / decay_steps
    factor = min(1.0, (step + 1) / WARM_UP_STEPS, max(_FINAL_PART, left))
    return stage.learning_rate * factor
