"""Calibration: one pass of the dense model over a few frames measures what pruning needs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from efficientvla_ros.acceleration.fingerprint import fingerprint
from efficientvla_ros.acceleration.layer_pruning import greedy_order
from efficientvla_ros.acceleration.profile import CalibrationProfile, ProfileError
from efficientvla_ros.models.images import to_input
from efficientvla_ros.models.llama import LlamaModel
from efficientvla_ros.models.prismatic import PrismaticVLM

Progress = Callable[[int, int], None]
"""Called with the passes of the decoder done and in all."""


@dataclass(frozen=True)
class CalibrationSample:
    """What the model sees at one moment.

    Attributes:
        image: uint8 [height, width, 3], RGB, of any size.
        token_ids: prompt int64 [1, T] on the model's device.
        episode: number of the episode; frames of one episode resemble each other.
    """

    image: np.ndarray
    token_ids: Tensor
    episode: int = 0


@torch.no_grad()
def calibrate(
    model: PrismaticVLM,
    samples: Sequence[CalibrationSample],
    *,
    source: str,
    greedy_protected: Collection[int] | None = None,
    progress: Progress | None = None,
) -> CalibrationProfile:
    """Measures a model.

    The dense decoder reads each image and its prompt, all layers at all positions; nothing is
    decoded. Greedy re-scoring takes one more pass for every layer that may go, each with a layer
    less.

    Args:
        model: with all its weights in memory; it is not changed.
        samples: at least one.
        source: where they come from, for the profile.
        greedy_protected: also measure the greedy layer order, with these layers protected.
        progress: called after every frame of every pass.

    Raises:
        ProfileError: there are no samples, or the activations of one are not finite.
    """
    if not samples:
        raise ProfileError('there are no calibration frames, expected at least 1')
    decoder = model.llm_backbone.llm.model
    layers, greedy = len(decoder.layers), greedy_protected is not None
    removals = layers - len(set(greedy_protected)) if greedy else 0
    count = _Counter(len(samples) * (1 + removals), progress)
    embedded: list[Tensor] = []
    with ActivationRecorder(decoder) as recorder:
        for index, sample in enumerate(samples):
            x = embed(model, sample)
            decoder(x)
            if not recorder.importances[-1].isfinite().all():
                raise ProfileError(f'frame {index} gives activations that are not finite')
            if greedy:
                embedded.append(x)
            count.add()

    def measure(running: tuple[int, ...]) -> list[float]:
        return layer_importance(decoder, embedded, running, count.add).mean(0).tolist()

    order = greedy_order(measure, layers, greedy_protected) if greedy else ()
    return CalibrationProfile(
        model=model.config.name,
        fingerprint=fingerprint(model),
        source=source,
        created=datetime.now(timezone.utc).isoformat(timespec='seconds'),
        sample_importance=recorder.sample_importance,
        episodes=torch.tensor([sample.episode for sample in samples]),
        mlp_mean=recorder.mlp_mean,
        mlp_mean_square=recorder.mlp_mean_square,
        mlp_weight_norm=down_norms(decoder),
        attention_mean_square=recorder.attention_mean_square,
        greedy_order=torch.tensor(order, dtype=torch.int64),
        greedy_protected=torch.tensor(sorted(greedy_protected or ()), dtype=torch.int64),
    )


def embed(model: PrismaticVLM, sample: CalibrationSample) -> Tensor:
    """The decoder's input for one sample, [1, S, D]."""
    pixels = to_input(sample.image, model.config.image_size).to(sample.token_ids.device)
    return model.input_embeddings(model.visual_tokens(pixels), sample.token_ids)


def layer_importance(
    decoder: LlamaModel,
    inputs: Sequence[Tensor],
    layers: tuple[int, ...],
    done: Callable[[], None] = lambda: None,
) -> Tensor:
    """I(l) of the layers that run, for every input by itself.

    Args:
        decoder: the decoder.
        inputs: input embeddings, each [1, S, D].
        layers: indices of the layers that run, ascending.
        done: called after each input.

    Returns:
        float64 [inputs, len(layers)] on the CPU.
    """
    found: list[Tensor] = []

    def watch(module: nn.Module, arguments: tuple, output: Tensor) -> None:
        found.append(_change(arguments[0], output))

    handles = [decoder.layers[index].register_forward_hook(watch) for index in layers]
    try:
        for x in inputs:
            decoder(x, layers=layers)
            done()
    finally:
        for handle in handles:
            handle.remove()
    return torch.cat(found).reshape(len(inputs), len(layers)).cpu()


def down_norms(decoder: LlamaModel) -> Tensor:
    """||W_down[:, k]||^2 of all layers, float64 [layers, channels] on the CPU."""
    norms = [layer.mlp.down_proj.weight.float().square().sum(0) for layer in decoder.layers]
    return torch.stack(norms).double().cpu()


class ActivationRecorder:
    """Reads a dense decoder while it runs, as a context manager.

    Everything is summed in float64 on the decoder's device and read by properties, as float64
    on the CPU. The decoder must run with all its layers and at all positions; [B, S, D] counts
    as B samples.

    Attributes:
        importances: 1 - mean cosine by layer and sample: [B] for each layer of each pass.
    """

    def __init__(self, decoder: LlamaModel) -> None:
        """Does not touch the decoder before it is entered."""
        self._decoder = decoder
        self._handles: list = []
        self._sums: dict[tuple[str, int], Tensor] = {}
        self.importances: list[Tensor] = []

    def __enter__(self) -> ActivationRecorder:
        for index, layer in enumerate(self._decoder.layers):
            self._handles += [
                layer.register_forward_hook(self._on_layer),
                layer.mlp.down_proj.register_forward_pre_hook(self._on_input('mlp', index)),
                layer.self_attn.o_proj.register_forward_pre_hook(self._on_input('attn', index)),
            ]
        return self

    def __exit__(self, *_: object) -> None:
        while self._handles:
            self._handles.pop().remove()

    @property
    def sample_importance(self) -> Tensor:
        """1 - mean cosine between input and output of each layer, [samples, layers]."""
        layers = len(self._decoder.layers)
        passes = [
            torch.stack(self.importances[start : start + layers], dim=1)
            for start in range(0, len(self.importances), layers)
        ]
        return torch.cat(passes).cpu()

    @property
    def mlp_mean(self) -> Tensor:
        """Mean input of the down projections, [layers, channels]."""
        return self._mean('mlp')

    @property
    def mlp_mean_square(self) -> Tensor:
        """Mean square of the same, [layers, channels]."""
        return self._mean('mlp square')

    @property
    def attention_mean_square(self) -> Tensor:
        """Mean square of the output projections' input, [layers, width]."""
        return self._mean('attn square')

    def _mean(self, name: str) -> Tensor:
        samples = len(self.sample_importance)
        layers = range(len(self._decoder.layers))
        return torch.stack([self._sums[name, layer] for layer in layers]).cpu() / samples

    def _on_layer(self, module: nn.Module, arguments: tuple, output: Tensor) -> None:
        self.importances.append(_change(arguments[0], output))

    def _on_input(self, name: str, layer: int) -> Callable[[nn.Module, tuple], None]:
        def add(module: nn.Module, arguments: tuple) -> None:
            x = arguments[0].double()  # [B, S, channels]
            self._add((name, layer), x.mean(1).sum(0))
            self._add((f'{name} square', layer), x.square().mean(1).sum(0))

        return add

    def _add(self, key: tuple[str, int], value: Tensor) -> None:
        self._sums[key] = self._sums[key] + value if key in self._sums else value


class _Counter:
    """Counts passes and tells who listens."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self._done, self._total, self._progress = 0, total, progress

    def add(self) -> None:
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, self._total)


def _change(before: Tensor, after: Tensor) -> Tensor:
    # [B, S, D] twice -> [B]
    return 1.0 - F.cosine_similarity(before.double(), after.double(), dim=-1).mean(1)
