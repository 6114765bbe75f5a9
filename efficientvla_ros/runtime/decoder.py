"""The language model's stack as one plan runs it."""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping, Sequence
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn

from efficientvla_ros.acceleration.plan import ExecutionPlan
from efficientvla_ros.acceleration.profile import CalibrationProfile
from efficientvla_ros.acceleration.token_scores import score_and_run
from efficientvla_ros.acceleration.token_selection import Selection, sequence_index, take
from efficientvla_ros.acceleration.token_selector import TokenSelector
from efficientvla_ros.acceleration.width_pruning import slice_mlp
from efficientvla_ros.models.kv_cache import KVCache
from efficientvla_ros.models.llama import LlamaLayer, LlamaModel, Rope
from efficientvla_ros.models.prismatic import PrismaticVLM
from efficientvla_ros.runtime.prompts import Prompt


class NarrowLayers:
    """Decoder layers with fewer MLP channels; plans that want the same ones share them."""

    def __init__(
        self, decoder: LlamaModel, profile: CalibrationProfile | None, replace: bool = False
    ) -> None:
        """Takes the whole layers and what calibration has measured of them.

        Args:
            decoder: the stack.
            profile: of the model; None makes no narrow layers.
            replace: whether a whole MLP loses its memory when a narrow one is made from it.
        """
        self._layers, self._replace = decoder.layers, replace
        self._means = None if profile is None else profile.mlp_mean
        # Where they replace the whole ones nothing else can be made any more.
        self._mlps: MutableMapping[tuple[int, int], nn.Module] = (
            {} if replace else WeakValueDictionary()
        )

    def has(self, index: int, channels: int | None) -> bool:
        """Whether layer `index` can run with so many MLP channels; None is all."""
        layer = self._layers[index]
        if layer.input_layernorm.weight.is_meta:
            return False
        return not layer.mlp.down_proj.weight.is_meta or (index, channels) in self._mlps

    def layer(self, index: int, channels: tuple[int, ...]) -> LlamaLayer:
        """Layer `index` with these channels, whose number decides which they are."""
        key = (index, len(channels))
        mlp = self._mlps.get(key)
        if mlp is None:
            kept = torch.tensor(channels, dtype=torch.int64)
            mlp = slice_mlp(self._layers[index].mlp, kept, self._means[index])
            self._mlps[key] = mlp
            if self._replace:
                self._layers[index].mlp.to('meta')
        return self._layers[index].with_mlp(mlp)


class PlannedDecoder:
    """Runs the layers of a plan, and drops visual tokens after the scoring layer.

    A plan that leaves nothing out runs the same operations as `LlamaModel.forward`.

    Attributes:
        selection: visual tokens kept of the last prompt, on the device; None where all are.
    """

    def __init__(
        self, model: PrismaticVLM, plan: ExecutionPlan, narrow: NarrowLayers, seed: int = 0
    ) -> None:
        """Prepares layers and indices.

        Args:
            model: the networks.
            plan: which layers, channels and tokens stay.
            narrow: makes the layers with fewer channels.
            seed: of random token selection.
        """
        self._decoder = model.llm_backbone.llm.model
        if plan.channels is None:
            layers = [self._decoder.layers[index] for index in plan.layers]
        else:
            layers = [narrow.layer(*pair) for pair in zip(plan.layers, plan.channels)]
        self._layers: list[tuple[int, LlamaLayer]] = list(zip(plan.layers, layers))
        self._patches = model.config.num_patches
        self._scoring_layer = plan.scoring_layer
        device = self._decoder.norm.weight.device
        self._positions = torch.arange(model.config.llm.max_positions, device=device)
        self._selector, self._dropped = None, 0
        if plan.tokens is not None:
            self._selector = TokenSelector(plan.tokens, self._patches, device, seed)
            self._dropped = self._patches - plan.tokens.keep
        self.selection: Selection | None = None

    @property
    def layers(self) -> tuple[LlamaLayer, ...]:
        """The layers that run."""
        return tuple(layer for _, layer in self._layers)

    def use(self, layers: Sequence[LlamaLayer]) -> None:
        """Runs these in the place of `layers` from now on."""
        self._layers = [(index, layer) for (index, _), layer in zip(self._layers, layers)]

    def prompt(
        self,
        x: Tensor,
        prompt: Prompt,
        cache: KVCache | None = None,
        layers: Iterable[nn.Module] | None = None,
        kept: Tensor | None = None,
    ) -> Tensor:
        """Reads a sequence [BOS][patches][text].

        Args:
            x: input embeddings [1, S, D].
            prompt: the text in it.
            cache: takes keys and values; it must be empty.
            layers: what runs in the place of `self.layers`, taken one by one as it is needed.
            kept: keep these visual tokens (`Selection.kept`) instead of choosing some, and leave
                all that is remembered of ticks as it is.

        Returns:
            Hidden state of the last position after the final norm, [1, 1, D].
        """
        length, last = x.shape[1], len(self._layers) - 1
        rope = self._decoder.rotary(self._positions[:length], x.dtype)
        for place, (index, layer) in enumerate(self._running(layers)):
            part = None if cache is None else cache.layer(index)
            if self._selector is None or index != self._scoring_layer:
                x = layer(x, rope, None, part, place == last)
                continue
            if kept is None:
                x = self._select(layer, x, rope, prompt, part)
                chosen = self.selection.kept
            else:
                x, chosen = layer(x, rope, None, part), kept
            # What stays keeps its rotary positions.
            stays = sequence_index(chosen, self._patches, length)
            x, rope = take(x, stays), self._decoder.rotary(stays, x.dtype)
        if cache is not None:
            cache.length = length
        return self._decoder.norm(x[:, -1:])

    def step(self, x: Tensor, cache: KVCache, layers: Iterable[nn.Module] | None = None) -> Tensor:
        """Goes on after `prompt`: the next position's embedding [1, 1, D] to its state."""
        rope = self._decoder.rotary(self._positions[cache.length : cache.length + 1], x.dtype)
        for index, layer in self._running(layers):
            dropped = self._dropped if index > self._scoring_layer else 0
            x = layer(x, rope, None, cache.layer(index, dropped), True)
        cache.length += 1
        return self._decoder.norm(x)

    def reset(self) -> None:
        """Forgets what the choice of tokens remembers of earlier ticks."""
        self.selection = None
        if self._selector is not None:
            self._selector.reset()

    def _running(self, layers: Iterable[nn.Module] | None) -> Iterable[tuple[int, nn.Module]]:
        if layers is None:
            return self._layers
        return ((index, layer) for (index, _), layer in zip(self._layers, layers))

    def _select(
        self, layer: nn.Module, x: Tensor, rope: Rope, prompt: Prompt, part: object
    ) -> Tensor:
        # Runs the scoring layer on all positions and chooses the tokens that stay after it.
        options, relevance = self._selector.options, None
        if options.needs_scores:
            rows = prompt.rows(options.scored_rows)
            x, relevance = score_and_run(layer, x, rope, rows, cache=part)
        else:
            x = layer(x, rope, None, part)
        self.selection = self._selector(relevance, x[:, 1 : 1 + self._patches])
        return x
