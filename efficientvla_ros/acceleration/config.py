"""What the user may choose to leave out of a tick; free of torch."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

from efficientvla_ros.acceleration.token_counts import SelectionError
from efficientvla_ros.acceleration.token_options import (
    DIVERSITY_KINDS,
    METHODS,
    ROWS,
    TokenOptions,
)

LAYERS_METHODS = ('one_shot', 'greedy')
"""Ranking layers once, as published, or again after each removal."""

CHANNELS_METHODS = ('eap', 'eap_gap', 'every_frame', 'frozen', 'wanda', 'random')
"""How the decoder's channels are chosen. EcoVLA's environment-aware way; the same with the dense
pass in the gap after the tick, which itself runs pruned; that after every tick; then choices that
are made once: by the scores of calibration (frozen), by structured Wanda's, and at random."""

GAP_METHODS = ('eap_gap', 'every_frame')
"""Those of `CHANNELS_METHODS` whose ticks never run dense."""

ADAPTIVE_METHODS = ('eap', *GAP_METHODS)
"""Those that choose again while the robot moves."""

SCORING_LAYER = 2
"""Decoder layer after which tokens are dropped; with it the published FLOPs come out."""


class AccelerationError(ValueError):
    """Settings that cannot be used; one line quotes the bad value and says what was expected."""


@dataclass(frozen=True)
class AccelerationConfig:
    """Settings of all techniques; the default leaves everything off.

    Attributes:
        layers: decoder layers that run; None is all.
        layers_method: one of `LAYERS_METHODS`.
        mlp_ratio: share of the MLP channels that goes, 0 up to but without 1.
        tokens: visual tokens that stay after the scoring layer; None is all.
        tokens_method: one of `token_options.METHODS`; the further fields are for
            `efficientvla`.
        tokens_key: key tokens; None takes the published share.
        tokens_alpha: share of task tokens among those that are not key tokens.
        tokens_diversity: one of `token_options.DIVERSITY_KINDS`.
        tokens_hysteresis: bonus of tokens kept at the tick before; 0 is off.
        tokens_rows: one of `token_options.ROWS`.
        scoring_layer: decoder layer, from 0, whose attention scores the tokens; they are dropped
            after it.
        cache_interval: of this many sampling steps the first one runs the diffusion blocks;
            1 is off.
        cache_threshold: with an interval, also run them where the accumulated relative change of
            their input since they last ran passes this value; 0 is off.
        channels_ratio: share of the MLP channels and attention heads of every layer that goes,
            chosen while the robot moves (EcoVLA, arXiv 2602.00780); 0 up to but without 1.
        channels_method: one of `CHANNELS_METHODS`; the further fields but `channels_heads` are
            for those that adapt.
        channels_heads: whether attention heads go as well as MLP channels.
        channels_update_rate: share of the ticks that are to choose again, 0 to 1.
        channels_alpha: weight of the history in the scores, 0 to 1; the rest is the present
            frame's.
        channels_history: what the history keeps of itself when a frame is added, 0 to 1.
        channels_window: ticks whose similarity to the tick before the present one is compared
            with.
        channels_max_age: ticks after which channels are chosen again in any case.
    """

    layers: int | None = None
    layers_method: str = 'one_shot'
    mlp_ratio: float = 0.0
    tokens: int | None = None
    tokens_method: str = 'efficientvla'
    tokens_key: int | None = None
    tokens_alpha: float = 0.5
    tokens_diversity: str = 'key'
    tokens_hysteresis: float = 0.0
    tokens_rows: str = 'instruction'
    scoring_layer: int = SCORING_LAYER
    cache_interval: int = 1
    cache_threshold: float = 0.0
    channels_ratio: float = 0.0
    channels_method: str = 'eap'
    channels_heads: bool = True
    channels_update_rate: float = 0.15
    channels_alpha: float = 0.7
    channels_history: float = 0.99
    channels_window: int = 10
    channels_max_age: int = 30

    def __post_init__(self) -> None:
        """Refuses values that fit no model, with an `AccelerationError`."""
        for name, least in (
            ('layers', 1),
            ('tokens', 1),
            ('tokens_key', 1),
            ('scoring_layer', 0),
            ('cache_interval', 1),
            ('channels_window', 1),
            ('channels_max_age', 1),
        ):
            self._check_count(name, least)
        for name, choices in (
            ('layers_method', LAYERS_METHODS),
            ('tokens_method', METHODS),
            ('tokens_diversity', DIVERSITY_KINDS),
            ('tokens_rows', ROWS),
            ('channels_method', CHANNELS_METHODS),
            ('channels_heads', (True, False)),
        ):
            value = getattr(self, name)
            if value not in choices:
                expected = ', '.join(map(str, choices))
                raise AccelerationError(f'{name} is {value!r}, expected one of {expected}')
        for name in ('mlp_ratio', 'tokens_alpha', 'tokens_hysteresis', 'cache_threshold'):
            self._check_number(name)
        for name in ('channels_update_rate', 'channels_alpha', 'channels_history'):
            self._check_number(name)
            if getattr(self, name) > 1.0:
                raise AccelerationError(f'{name} is {getattr(self, name)!r}, expected 0 to 1')
        self._check_number('channels_ratio')
        for name in ('mlp_ratio', 'channels_ratio'):
            if not getattr(self, name) < 1.0:
                raise AccelerationError(f'{name} is {getattr(self, name)!r}, expected below 1')
        if self.mlp_ratio and self.channels_ratio:
            raise AccelerationError(
                f'mlp_ratio is {self.mlp_ratio!r} and channels_ratio {self.channels_ratio!r}, '
                'expected one of them to be 0: both leave out MLP channels'
            )
        try:
            self.token_options  # noqa: B018 - refuses counts that do not go together
        except SelectionError as error:
            raise AccelerationError(str(error)) from error

    @property
    def dense(self) -> bool:
        """Whether everything is off."""
        return (
            self.layers is None
            and self.tokens is None
            and self.mlp_ratio == 0.0
            and self.channels_ratio == 0.0
            and not self.caches
        )

    @property
    def token_options(self) -> TokenOptions | None:
        """How visual tokens are chosen; None keeps all."""
        if self.tokens is None:
            return None
        return TokenOptions(
            keep=self.tokens,
            method=self.tokens_method,
            key=self.tokens_key,
            alpha=self.tokens_alpha,
            diversity=self.tokens_diversity,
            hysteresis=self.tokens_hysteresis,
            rows=self.tokens_rows,
        )

    @property
    def caches(self) -> bool:
        """Whether sampling steps reuse what the diffusion blocks gave before."""
        return self.cache_interval > 1

    @property
    def adapts_channels(self) -> bool:
        """Whether channels are chosen while the robot moves."""
        return self.channels_ratio > 0.0 and self.channels_method in ADAPTIVE_METHODS

    def to_dict(self) -> dict[str, Any]:
        """Returns a JSON-ready description."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> AccelerationConfig:
        """Builds settings from some or all of `to_dict`'s output; the rest is off.

        Raises:
            AccelerationError: a key is unknown or a value cannot be used.
        """
        known = [spec.name for spec in fields(cls)]
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise AccelerationError(
                f'acceleration setting {unknown[0]!r} is unknown, '
                f'expected one of {", ".join(known)}'
            )
        return cls(**values)

    def _check_count(self, name: str, least: int) -> None:
        value = getattr(self, name)
        if value is None and name in ('layers', 'tokens', 'tokens_key'):
            return
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise AccelerationError(f'{name} is {value!r}, expected a whole number from {least}')

    def _check_number(self, name: str) -> None:
        value = getattr(self, name)
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not is_number or not math.isfinite(value) or value < 0.0:
            raise AccelerationError(f'{name} is {value!r}, expected a finite number from 0')
