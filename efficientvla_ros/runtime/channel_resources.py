"""What plans with fewer channels share: weights by channel, histories, settings of the audit."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import torch

from efficientvla_ros.acceleration.channel_baselines import (
    random_pattern,
    wanda_pattern,
    wanda_scores,
)
from efficientvla_ros.acceleration.channel_patterns import (
    AdaptivePatterns,
    ChannelPattern,
    channel_counts,
)
from efficientvla_ros.acceleration.channel_scores import (
    ChannelHistory,
    ChannelValues,
    initial_energies,
    squared_weight_norms,
    unknown_energies,
)
from efficientvla_ros.acceleration.compact_layer import LayerRows
from efficientvla_ros.acceleration.plan import ExecutionPlan
from efficientvla_ros.acceleration.profile import CalibrationProfile
from efficientvla_ros.models.prismatic import PrismaticVLM
from efficientvla_ros.models.statistics import ActionStatistics
from efficientvla_ros.runtime.audit import AuditSettings
from efficientvla_ros.runtime.pruned_layers import PrunedLayers, RowSources
from efficientvla_ros.runtime.timeline import Timeline


class ChannelResources:
    """Of one model and profile.

    A history outlives the plan that made it: a plan with the same layers goes on with it,
    whatever its ratio and its number of visual tokens.

    Attributes:
        config: the model's sizes.
        device: where the model is.
        statistics: for the units of deviations.
        audit: what is audited and tolerated; may be replaced at any time.
        timeline: takes what runs when; None for nobody.
        lock: guards the histories.
    """

    def __init__(
        self,
        model: PrismaticVLM,
        profile: CalibrationProfile | None,
        statistics: ActionStatistics,
        seed: int = 0,
    ) -> None:
        """Makes nothing yet; `seed` is of random patterns."""
        self.config, self.statistics = model.config, statistics
        self.audit = AuditSettings()
        self.timeline: Timeline | None = None
        self.lock = threading.Lock()
        self._decoder = model.llm_backbone.llm.model
        self.device: torch.device = self._decoder.norm.weight.device
        self.profile, self._seed = profile, seed
        self._rows = RowSources(self._decoder)
        self._histories: dict[tuple, ChannelHistory] = {}

    def set_profile(self, profile: CalibrationProfile | None) -> None:
        """Replaces the profile; histories start again from it."""
        self.profile = profile
        self._histories.clear()

    def rows(self, layers: Sequence[int]) -> list[LayerRows]:
        """What the slots of these decoder layers are filled from."""
        return [self._rows[index] for index in layers]

    @torch.inference_mode()
    def patterns(self, plan: ExecutionPlan, ratio: float) -> AdaptivePatterns:
        """Patterns that follow the frames, at a ratio, with the plan's history."""
        config, llm = plan.config, self.config.llm
        return AdaptivePatterns(
            squared_weight_norms(self._decoder, plan.layers),
            self._history(plan),
            channel_counts(llm, ratio, config.channels_heads),
            llm.heads,
        )

    @torch.inference_mode()
    def static_layers(self, plan: ExecutionPlan) -> PrunedLayers:
        """Layers with a pattern that never changes, for the methods that choose once."""
        return PrunedLayers(
            self.rows(plan.layers), self._static_pattern(plan), whole_heads=scoring_place(plan)
        )

    def _static_pattern(self, plan: ExecutionPlan) -> ChannelPattern:
        method, llm, layers = plan.config.channels_method, self.config.llm, plan.layers
        if method == 'random':
            return random_pattern(llm, len(layers), plan.slots, self._seed, self.device)
        if method == 'wanda':
            scores = wanda_scores(self._decoder, self.profile, layers)
            return wanda_pattern(scores, plan.slots, llm.heads)
        norms = squared_weight_norms(self._decoder, layers)
        history = ChannelHistory(initial_energies(self.profile, layers, self.device))
        return AdaptivePatterns(norms, history, plan.slots, llm.heads).pattern

    def _history(self, plan: ExecutionPlan) -> ChannelHistory:
        config, layers = plan.config, plan.layers
        key = (layers, config.channels_alpha, config.channels_history)
        with self.lock:
            if key not in self._histories:
                self._histories[key] = ChannelHistory(self._initial(layers), *key[1:])
            return self._histories[key]

    def _initial(self, layers: Sequence[int]) -> ChannelValues:
        if self.profile is None:
            return unknown_energies(self.config.llm, len(layers), self.device)
        return initial_energies(self.profile, layers, self.device)


def scoring_place(plan: ExecutionPlan) -> int | None:
    """Place among the plan's layers of the one by whose heads tokens are scored, if any are."""
    scores = plan.tokens is not None and plan.tokens.needs_scores
    return plan.layers.index(plan.scoring_layer) if scores else None
