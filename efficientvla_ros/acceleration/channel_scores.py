"""What every channel of the decoder is worth: energies, their history, and scores (EcoVLA).

Channels are inputs of a sub-block's last projection: the intermediate channels of an MLP, and the
concatenated attention heads. Equations 8 to 11 of EcoVLA (arXiv 2602.00780), X being such an
input, W the projection's weight and E the history:

    eps_k = mean over positions of X[position, k]^2
    fused_k = alpha * E_k + (1 - alpha) * eps_k
    E_k <- decay * E_k + (1 - decay) * eps_k
    S_k = ||W[:, k]^2||_2 * fused_k,        S_head = sqrt(sum over its channels of S_k^2)

The paper sums over positions; the mean makes energies of sequences of different lengths
comparable. The score is that of Probe Pruning (arXiv 2502.15618), whose factor of the weights
alone is computed once. All layers are handled at once, in float32 and without synchronising with
the host.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from efficientvla_ros.acceleration.profile import CalibrationProfile
from efficientvla_ros.models.config import LlamaConfig
from efficientvla_ros.models.llama import LlamaModel


class ChannelValues(NamedTuple):
    """One number for every channel of some layers.

    Attributes:
        mlp: of the intermediate channels, float32 [layers, mlp_width].
        attention: of the concatenated heads, float32 [layers, width].
    """

    mlp: Tensor
    attention: Tensor

    def clone(self) -> ChannelValues:
        """A copy in memory of its own."""
        return ChannelValues(self.mlp.clone(), self.attention.clone())


class EnergyBuffer:
    """Takes the energies of one pass, in the same memory always.

    Attributes:
        values: what was written; rows in the order of the layers.
    """

    def __init__(
        self, config: LlamaConfig, layers: int, device: torch.device | str = 'cpu'
    ) -> None:
        """Allocates zeros for so many layers."""
        self.values = ChannelValues(
            torch.zeros(layers, config.mlp_width, device=device),
            torch.zeros(layers, config.width, device=device),
        )

    def write_mlp(self, place: int, x: Tensor) -> None:
        """Takes the down projection's input [B, S, mlp_width] of the layer in row `place`."""
        self.values.mlp[place].copy_(energy(x))

    def write_attention(self, place: int, x: Tensor) -> None:
        """Takes the output projection's input [B, S, width] of the layer in row `place`."""
        self.values.attention[place].copy_(energy(x))


def energy(x: Tensor) -> Tensor:
    """eps: mean square over all positions of [..., C], float32 [C]."""
    return x.detach().float().square().flatten(0, -2).mean(0)


def initial_energies(
    profile: CalibrationProfile, layers: Sequence[int], device: torch.device | str = 'cpu'
) -> ChannelValues:
    """E before the first frame: what calibration has measured of these layers."""
    rows = list(layers)
    return ChannelValues(
        profile.mlp_mean_square[rows].float().to(device),
        profile.attention_mean_square[rows].float().to(device),
    )


def unknown_energies(
    config: LlamaConfig, layers: int, device: torch.device | str = 'cpu'
) -> ChannelValues:
    """E of so many layers before the first frame, where nothing has been measured."""
    return ChannelValues(
        torch.full((layers, config.mlp_width), torch.nan, device=device),
        torch.full((layers, config.width), torch.nan, device=device),
    )


@torch.no_grad()
def squared_weight_norms(decoder: LlamaModel, layers: Sequence[int]) -> ChannelValues:
    """||W[:, k]^2||_2 of the last projections of these layers, on the decoder's device."""
    chosen = [decoder.layers[index] for index in layers]
    return ChannelValues(
        torch.stack([_squared_norm(layer.mlp.down_proj.weight) for layer in chosen]),
        torch.stack([_squared_norm(layer.self_attn.o_proj.weight) for layer in chosen]),
    )


def channel_scores(norms: ChannelValues, energies: ChannelValues) -> ChannelValues:
    """S of every channel: the product of `squared_weight_norms` and fused energies."""
    return ChannelValues(norms.mlp * energies.mlp, norms.attention * energies.attention)


def head_scores(scores: Tensor, heads: int) -> Tensor:
    """Scores of whole heads [layers, heads] from those of their channels [layers, width]."""
    return torch.linalg.vector_norm(scores.unflatten(-1, (heads, -1)), dim=-1)


class Fused(NamedTuple):
    """What the history makes of a frame.

    Attributes:
        energies: fused energies.
        finite: bool [layers], False where energies or history are not; such rows of `energies`
            mean nothing.
    """

    energies: ChannelValues
    finite: Tensor


class ChannelHistory:
    """Energies of the past, by layer and channel.

    Attributes:
        values: E; the same memory always. Not a number in layers of which nothing is known yet.
    """

    def __init__(self, initial: ChannelValues, alpha: float = 0.7, decay: float = 0.99) -> None:
        """Starts from `initial`, which is copied.

        Args:
            initial: `initial_energies` or `unknown_energies`.
            alpha: share of the history in the fused energies.
            decay: share of the history that stays at every update (lambda).
        """
        self._initial = initial.clone()
        self._has_initial = _finite(self._initial)
        self.values = initial.clone()
        self._alpha, self._decay = alpha, decay

    def add(self, energies: ChannelValues) -> Fused:
        """Fuses a frame with the history, then moves the history on.

        A layer whose energies are not finite leaves its history as it is. One whose history is
        not finite starts again from the initial values, and is not fused now; without initial
        values it starts from the frame's energies.
        """
        known, given = _finite(self.values), _finite(energies)
        start = _rows(self._has_initial, self._initial, energies)
        history = _rows(known, self.values, start)
        fused = _mix(history, energies, self._alpha)
        moved = _rows(given, _mix(history, energies, self._decay), history)
        for value, new in zip(self.values, moved):
            value.copy_(new)
        return Fused(fused, given & (known | ~self._has_initial))

    def reset(self) -> None:
        """Forgets everything but the initial values."""
        for value, initial in zip(self.values, self._initial):
            value.copy_(initial)


def _squared_norm(weight: Tensor) -> Tensor:
    # [outputs, C] -> [C]
    return torch.linalg.vector_norm(weight.float().square(), dim=0)


def _finite(values: ChannelValues) -> Tensor:
    # -> bool [layers]
    return values.mlp.isfinite().all(-1) & values.attention.isfinite().all(-1)


def _mix(old: ChannelValues, new: ChannelValues, share: float) -> ChannelValues:
    return ChannelValues(*(share * a + (1.0 - share) * b for a, b in zip(old, new)))


def _rows(condition: Tensor, yes: ChannelValues, no: ChannelValues) -> ChannelValues:
    return ChannelValues(*(torch.where(condition[:, None], a, b) for a, b in zip(yes, no)))
