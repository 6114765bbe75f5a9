"""Execution plans: which parts of a model one tick runs."""

from __future__ import annotations

from dataclasses import dataclass

from efficientvla_ros.acceleration.channel_patterns import ChannelCounts, channel_counts
from efficientvla_ros.acceleration.config import AccelerationConfig, AccelerationError
from efficientvla_ros.acceleration.feature_cache import full_steps
from efficientvla_ros.acceleration.layer_pruning import (
    PruningError,
    check_keep,
    kept_after,
    kept_layers,
    protected_layers,
)
from efficientvla_ros.acceleration.profile import CalibrationProfile, ProfileError
from efficientvla_ros.acceleration.token_counts import SelectionError, checked_counts
from efficientvla_ros.acceleration.token_options import TokenOptions
from efficientvla_ros.acceleration.width_pruning import kept_channel_count, kept_channels
from efficientvla_ros.models.config import CogACTConfig, VLMConfig

NO_PROFILE = 'the model has no calibration profile (efficientvla calibrate makes one)'

_PROFILED_METHODS = ('frozen', 'wanda')


class PlanError(AccelerationError):
    """Settings that do not fit the model; one line quotes the bad value."""


@dataclass(frozen=True)
class ExecutionPlan:
    """What one tick runs.

    Attributes:
        config: the settings that it was made from.
        layers: decoder layers that run, ascending.
        channels: MLP channels that stay, ascending, for each of `layers`; None is all.
        tokens: visual tokens that stay, and how they are chosen; None keeps all.
        scoring_layer: decoder layer after which the others are dropped; one of `layers`.
        steps: sampling steps of the diffusion head; 0 without one.
        full_steps: those of them, from 0, that run its blocks.
        slots: what stays of every layer where channels are chosen while the robot moves, or by
            another of `CHANNELS_METHODS`; None where that is off.
        notes: settings that had to stay off, one line each with the reason.
    """

    config: AccelerationConfig
    layers: tuple[int, ...]
    channels: tuple[tuple[int, ...], ...] | None
    tokens: TokenOptions | None
    scoring_layer: int
    steps: int
    full_steps: tuple[int, ...]
    slots: ChannelCounts | None = None
    notes: tuple[str, ...] = ()

    @property
    def caches(self) -> bool:
        """Whether sampling steps reuse what the diffusion blocks gave before."""
        return len(self.full_steps) < self.steps

    def __str__(self) -> str:
        """One line for logs."""
        parts = [f'{len(self.layers)} layers']
        if self.channels is not None:
            parts.append(f'{len(self.channels[0])} MLP channels')
        if self.slots is not None:
            parts.append(
                f'{self.slots.mlp} MLP channels and {self.slots.heads} heads '
                f'({self.config.channels_method})'
            )
        if self.tokens is not None:
            parts.append(
                f'{self.tokens.keep} visual tokens ({self.tokens.method}) '
                f'after layer {self.scoring_layer}'
            )
        if self.steps:
            parts.append(f'{len(self.full_steps)} of {self.steps} sampling steps in full')
        return ', '.join(parts)


def build_plan(
    model: VLMConfig,
    config: AccelerationConfig,
    profile: CalibrationProfile | None,
    *,
    steps: int | None = None,
    no_profile: str = NO_PROFILE,
) -> ExecutionPlan:
    """Turns settings into a plan for one model.

    Techniques that need a profile stay off without one, as does the feature cache of a model
    without a diffusion head; `notes` says so. Counts that leave nothing out are off too.

    Args:
        model: sizes.
        config: what to leave out.
        profile: what calibration has measured of the model.
        steps: sampling steps; None takes the model's.
        no_profile: why there is no profile, for the notes.

    Raises:
        PlanError: a count is more than the model has, or too small for it.
    """
    notes: list[str] = []
    head = model.head if isinstance(model, CogACTConfig) else None
    steps = 0 if head is None else head.ddim_steps if steps is None else steps
    interval = config.cache_interval
    if config.caches and head is None:
        notes.append(f'feature cache stays off: model {model.name} has no diffusion head')
        interval = 1
    try:
        layers = _layers(model, config, profile, no_profile, notes)
        return ExecutionPlan(
            config=config,
            layers=layers,
            channels=_channels(model, config, profile, no_profile, notes, layers),
            tokens=_tokens(model, config),
            scoring_layer=config.scoring_layer,
            steps=steps,
            full_steps=full_steps(steps, interval),
            slots=_slots(model, config, profile, no_profile, notes),
            notes=tuple(notes),
        )
    except (PruningError, SelectionError) as error:
        raise PlanError(f'{error}, in model {model.name}') from error


def _layers(
    model: VLMConfig,
    config: AccelerationConfig,
    profile: CalibrationProfile | None,
    no_profile: str,
    notes: list[str],
) -> tuple[int, ...]:
    total, keep = model.llm.layers, config.layers
    everything = tuple(range(total))
    if keep is None or keep == total:
        return everything
    protected = protected_layers(total, config.scoring_layer)
    check_keep(total, keep, protected)
    if profile is None:
        notes.append(f'layer pruning stays off: {no_profile}')
        return everything
    if config.layers_method == 'one_shot':
        return kept_layers(profile.importance.tolist(), keep, protected)
    try:
        return kept_after(profile.greedy_removals(protected), total, keep)
    except ProfileError as error:
        notes.append(f'layer pruning stays off: {error}')
        return everything


def _channels(
    model: VLMConfig,
    config: AccelerationConfig,
    profile: CalibrationProfile | None,
    no_profile: str,
    notes: list[str],
    layers: tuple[int, ...],
) -> tuple[tuple[int, ...], ...] | None:
    width = model.llm.mlp_width
    count = kept_channel_count(width, config.mlp_ratio)
    if count == width:
        return None
    if profile is None:
        notes.append(f'MLP pruning stays off: {no_profile}')
        return None
    scores = profile.mlp_scores
    return tuple(tuple(kept_channels(scores[layer], count).tolist()) for layer in layers)


def _slots(
    model: VLMConfig,
    config: AccelerationConfig,
    profile: CalibrationProfile | None,
    no_profile: str,
    notes: list[str],
) -> ChannelCounts | None:
    counts = channel_counts(model.llm, config.channels_ratio, config.channels_heads)
    if counts == (model.llm.mlp_width, model.llm.heads):
        return None
    if profile is None and config.channels_method in _PROFILED_METHODS:
        notes.append(f'channel pruning stays off: {no_profile}')
        return None
    if profile is None and config.adapts_channels:
        notes.append(f'the history of channels starts with the first frame: {no_profile}')
    return counts


def _tokens(model: VLMConfig, config: AccelerationConfig) -> TokenOptions | None:
    options = config.token_options
    if options is None:
        return None
    checked_counts(model.num_patches, options.keep, options.key, options.alpha)
    if options.keep == model.num_patches:
        return None
    last = model.llm.layers - 1
    if config.scoring_layer >= last:
        raise PruningError(
            f'scoring layer is {config.scoring_layer}, expected 0 .. {last - 1}, with layers '
            'after it'
        )
    return options
