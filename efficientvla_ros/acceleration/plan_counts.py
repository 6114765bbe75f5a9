"""How much of a model a tick runs: the counts of a plan, without which parts they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from efficientvla_ros.acceleration.channel_patterns import ChannelCounts, channel_counts
from efficientvla_ros.acceleration.config import SCORING_LAYER, AccelerationConfig
from efficientvla_ros.acceleration.feature_cache import full_steps
from efficientvla_ros.acceleration.layer_pruning import (
    PruningError,
    check_keep,
    protected_layers,
)
from efficientvla_ros.acceleration.token_counts import SelectionError, checked_counts
from efficientvla_ros.acceleration.token_options import TokenOptions
from efficientvla_ros.acceleration.width_pruning import kept_channel_count
from efficientvla_ros.models.config import CogACTConfig, VLMConfig


class WorkloadError(ValueError):
    """A workload that the model cannot take; the message quotes the bad value."""


@dataclass(frozen=True)
class PlanCounts:
    """Counts of an execution plan; the default is the dense one.

    Attributes:
        layers: decoder layers that run; None is all.
        tokens: visual tokens that stay, and how they are chosen; None keeps all.
        scoring_layer: index of the layer after which the others are dropped. It and all layers
            before it run on all tokens.
        mlp_width: MLP channels that are left in every decoder layer; None is all.
        channels: MLP channels and query heads that are left in every decoder layer where they
            are chosen while the robot moves; None is all. The layer whose attention scores
            tokens keeps its heads. Ticks that choose run whole layers.
        cache_interval: of this many sampling steps the first one runs the diffusion blocks.
    """

    layers: int | None = None
    tokens: TokenOptions | None = None
    scoring_layer: int = SCORING_LAYER
    mlp_width: int | None = None
    channels: ChannelCounts | None = None
    cache_interval: int = 1

    @property
    def dense(self) -> bool:
        """Whether nothing is asked to be left out."""
        return self == PlanCounts(scoring_layer=self.scoring_layer)

    def full_steps(self, steps: int) -> int:
        """Sampling steps that run the diffusion blocks: 0, N, 2 N and so on."""
        return len(full_steps(steps, self.cache_interval))

    def kept_layers(self, config: VLMConfig) -> int:
        """Decoder layers that run."""
        return config.llm.layers if self.layers is None else self.layers

    def kept_tokens(self, config: VLMConfig) -> int:
        """Visual tokens after the scoring layer."""
        return config.num_patches if self.tokens is None else self.tokens.keep

    def kept_channels(self, config: VLMConfig) -> int:
        """MLP channels of a decoder layer."""
        if self.channels is not None:
            return self.channels.mlp
        return config.llm.mlp_width if self.mlp_width is None else self.mlp_width

    def kept_heads(self, config: VLMConfig) -> int:
        """Query heads of a decoder layer."""
        return config.llm.heads if self.channels is None else self.channels.heads

    def layer_sizes(self, scores: bool = False) -> dict[str, Any]:
        """Arguments of `network_work.llama_layer`; `scores`: its attention scores tokens."""
        if self.channels is None:
            return {'mlp_width': self.mlp_width}
        heads = None if scores else self.channels.heads
        return {'mlp_width': self.channels.mlp, 'mlp_bias': False, 'heads': heads}

    def check(self, config: VLMConfig) -> None:
        """Refuses counts that the model does not have.

        Raises:
            WorkloadError: which count, and what was expected.
        """
        layers = config.llm.layers
        try:
            if self.layers not in (None, layers):
                protected = protected_layers(layers, self.scoring_layer)
                check_keep(layers, self.layers, protected)
            if self.tokens is not None:
                options = self.tokens
                checked_counts(config.num_patches, options.keep, options.key, options.alpha)
                if not 0 <= self.scoring_layer < layers - 1:
                    raise SelectionError(
                        f'scoring layer is {self.scoring_layer}, expected 0 .. {layers - 2}, '
                        'with layers after it'
                    )
        except (PruningError, SelectionError) as error:
            raise WorkloadError(f'{error}, in model {config.name}') from error
        for kept, there, what in (
            (self.kept_channels(config), config.llm.mlp_width, 'MLP channels'),
            (self.kept_heads(config), config.llm.heads, 'heads'),
        ):
            if not 1 <= kept <= there:
                raise WorkloadError(
                    f'{what} kept are {kept}, expected 1 to {there} in model {config.name}'
                )
        if self.cache_interval < 1:
            raise WorkloadError(f'cache interval is {self.cache_interval}, expected at least 1')
        if self.cache_interval > 1 and not isinstance(config, CogACTConfig):
            raise WorkloadError(
                f'cache interval is {self.cache_interval}, but model {config.name} has no '
                'diffusion head'
            )


def plan_counts(config: VLMConfig, acceleration: AccelerationConfig) -> PlanCounts:
    """Counts of the plan that `build_plan` makes where there is a calibration profile.

    A cache interval is left out for a model without a diffusion head.

    Raises:
        ValueError: a setting that cannot be used; the message quotes it.
    """
    tokens = acceleration.token_options
    if tokens is not None and tokens.keep == config.num_patches:
        tokens = None
    channels, ratio = None, acceleration.channels_ratio
    if ratio:
        channels = channel_counts(config.llm, ratio, acceleration.channels_heads)
    return PlanCounts(
        acceleration.layers,
        tokens,
        acceleration.scoring_layer,
        kept_channel_count(config.llm.mlp_width, acceleration.mlp_ratio),
        channels,
        acceleration.cache_interval if isinstance(config, CogACTConfig) else 1,
    )
