"""What calibration has measured of a model, and the file that holds it."""

from __future__ import annotations

import json
import os
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from efficientvla_ros.acceleration.fingerprint import Fingerprint, fingerprint
from efficientvla_ros.models.errors import first_line
from efficientvla_ros.models.prismatic import PrismaticVLM

PROFILE_FILE = 'calibration.safetensors'
"""Name under which a profile lies beside the weights of its model."""

FORMAT = 'efficientvla_ros/calibration/1'

_SHAPES = {
    'sample_importance': ('frames', 'layers'),
    'episodes': ('frames',),
    'mlp_mean': ('layers', 'channels'),
    'mlp_mean_square': ('layers', 'channels'),
    'mlp_weight_norm': ('layers', 'channels'),
    'attention_mean_square': ('layers', 'width'),
    'greedy_order': ('removals',),
    'greedy_protected': ('protected',),
}
_INTEGERS = ('episodes', 'greedy_order', 'greedy_protected')
_TEXTS = ('model', 'source', 'created')


class ProfileError(ValueError):
    """A calibration profile that cannot be used; one line says which file and why."""


@dataclass(frozen=True, eq=False)
class CalibrationProfile:
    """Statistics of a dense model over calibration frames; all tensors are on the CPU.

    Every frame counts the same, whatever the length of its prompt: means are over the positions
    of a frame, then over the frames.

    Attributes:
        model: name of the model.
        fingerprint: digests of its configuration and weights.
        source: where the frames come from.
        created: date and time, ISO 8601 in UTC.
        sample_importance: 1 - mean over positions of the cosine between input and output of
            each decoder layer, float64 [frames, layers].
        episodes: which episode each frame is of, int64 [frames].
        mlp_mean: mean input of the down projections, float64 [layers, channels].
        mlp_mean_square: mean square of the same.
        mlp_weight_norm: squared norms of the down projections' columns, of the same shape.
        attention_mean_square: mean square of the output projections' input,
            float64 [layers, width].
        greedy_order: layers in the order in which greedy re-scoring removes them, int64; empty
            where that was not measured.
        greedy_protected: layers that it was not allowed to remove, int64.
    """

    model: str
    fingerprint: Fingerprint
    source: str
    created: str
    sample_importance: Tensor
    episodes: Tensor
    mlp_mean: Tensor
    mlp_mean_square: Tensor
    mlp_weight_norm: Tensor
    attention_mean_square: Tensor
    greedy_order: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))
    greedy_protected: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))

    def __post_init__(self) -> None:
        """Refuses arrays that do not fit together or hold values that are not finite."""
        sizes: dict[str, int] = {}
        for name, axes in _SHAPES.items():
            value = getattr(self, name)
            expected = torch.int64 if name in _INTEGERS else torch.float64
            if value.dtype != expected or value.ndim != len(axes):
                raise ProfileError(
                    f'{name} is {value.dtype} {tuple(value.shape)}, '
                    f'expected {expected} with {len(axes)} dimensions'
                )
            for axis, size in zip(axes, value.shape):
                if sizes.setdefault(axis, size) != size:
                    raise ProfileError(f'{name} has {size} {axis}, expected {sizes[axis]}')
            if not value.isfinite().all():
                raise ProfileError(f'{name} holds values that are not finite')
        if not self.frames or not self.layers:
            raise ProfileError(f'{self.frames} frames of {self.layers} layers, expected some')
        if sizes['layers'] != len(self.fingerprint.layers):
            raise ProfileError(
                f'the fingerprint is of {len(self.fingerprint.layers)} layers, '
                f'expected {sizes["layers"]}'
            )
        removable = set(range(self.layers)) - set(self.greedy_protected.tolist())
        order = self.greedy_order.tolist()
        if len(set(order)) != len(order) or not set(order) <= removable:
            raise ProfileError(f'greedy_order is {order}, expected other layers, each once')

    @property
    def frames(self) -> int:
        """Number of calibration frames."""
        return self.sample_importance.shape[0]

    @property
    def layers(self) -> int:
        """Number of decoder layers."""
        return self.sample_importance.shape[1]

    @property
    def importance(self) -> Tensor:
        """I(l), float64 [layers]."""
        return self.sample_importance.mean(0)

    @property
    def mlp_variance(self) -> Tensor:
        """Variance of the down projections' input over frames and positions, as `mlp_mean`."""
        return (self.mlp_mean_square - self.mlp_mean.square()).clamp_min(0.0)

    @property
    def mlp_scores(self) -> Tensor:
        """Score of every intermediate channel for `kept_channels`, float64 [layers, channels]."""
        return self.mlp_variance * self.mlp_weight_norm

    def greedy_removals(self, protected: Collection[int]) -> tuple[int, ...]:
        """`greedy_order` for a plan that protects certain layers.

        Raises:
            ProfileError: it was not measured, or not with these layers protected.
        """
        if not len(self.greedy_order):
            raise ProfileError('the profile has no greedy layer order: calibrate with --greedy')
        measured = set(self.greedy_protected.tolist())
        if measured != set(protected):
            raise ProfileError(
                f'the greedy layer order was measured with layers {sorted(measured)} protected, '
                f'expected {sorted(protected)}'
            )
        return tuple(self.greedy_order.tolist())

    def check_model(self, model: PrismaticVLM) -> None:
        """Refuses a model that the profile is not of.

        Raises:
            ProfileError: configuration or weights are others.
        """
        if not self.fingerprint.fits(fingerprint(model)):
            raise ProfileError(
                f'the calibration profile is of another model ({self.model}, '
                f'{self.fingerprint.short}), expected one of {model.config.name} with these '
                'weights: run `efficientvla calibrate` for it'
            )


def save_profile(profile: CalibrationProfile, path: str | Path) -> None:
    """Writes a profile; a reader sees the old file or the whole new one."""
    path = Path(path)
    tensors = {name: getattr(profile, name).contiguous() for name in _SHAPES}
    metadata = {name: getattr(profile, name) for name in _TEXTS}
    metadata |= {'format': FORMAT, 'fingerprint': profile.fingerprint.to_json()}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f'{path.name}.{os.getpid()}.tmp')
    save_file(tensors, partial, metadata)
    partial.chmod(0o644)  # safetensors writes it for the owner alone
    os.replace(partial, path)


def load_profile(path: str | Path, model: PrismaticVLM | None = None) -> CalibrationProfile:
    """Reads a profile.

    Args:
        path: the file.
        model: the model that it is to be used for; None does not check.

    Raises:
        ProfileError: the file is missing, damaged or of another kind, or the profile is of
            another model.
    """
    path = Path(path)
    if not path.is_file():
        raise ProfileError(f'{path} does not exist, expected a calibration profile')
    try:
        with safe_open(path, framework='pt') as file:
            metadata = file.metadata() or {}
            if metadata.get('format') != FORMAT:
                raise ProfileError(f'not a calibration profile, expected format "{FORMAT}"')
            found = {name: file.get_tensor(name) for name in _SHAPES}
        texts = {name: metadata[name] for name in _TEXTS}
        profile = CalibrationProfile(
            fingerprint=Fingerprint.from_json(metadata['fingerprint']), **texts, **found
        )
        if model is not None:
            profile.check_model(model)
        return profile
    except ProfileError as error:
        raise ProfileError(f'{path}: {error}') from error
    except (SafetensorError, OSError, KeyError, json.JSONDecodeError, ValueError) as error:
        raise ProfileError(
            f'{path} is damaged: {first_line(error)}, expected a complete calibration profile'
        ) from error
