"""Settings by name, for every model: published fractions of its own counts; free of torch."""

from __future__ import annotations

import math
from collections.abc import Callable

from efficientvla_ros.acceleration.config import AccelerationConfig, AccelerationError
from efficientvla_ros.models.config import VLMConfig

PUBLISHED_LAYERS, PUBLISHED_TOKENS = 32, 256
"""Decoder layers and visual tokens of the model that was published on (CogACT)."""

CACHE_INTERVAL = 5
"""Sampling steps from one full step to the next, as published."""

_MLP_RATIO = 0.25


def _scaled(kept: int, of: int, count: int) -> int:
    # kept / of of `count`, half a unit up
    return max(1, math.floor(kept * count / of + 0.5))


def _layers(config: VLMConfig, kept: int = 22) -> dict[str, int]:
    return {'layers': _scaled(kept, PUBLISHED_LAYERS, config.llm.layers)}


def _tokens(config: VLMConfig, kept: int = 56, method: str = 'efficientvla') -> dict[str, object]:
    count = _scaled(kept, PUBLISHED_TOKENS, config.num_patches)
    return {'tokens': count, 'tokens_method': method}


def _whole(config: VLMConfig, layers: int, tokens: int) -> dict[str, object]:
    return {
        **_layers(config, layers),
        **_tokens(config, tokens),
        'mlp_ratio': _MLP_RATIO,
        'cache_interval': CACHE_INTERVAL,
    }


def _channels(ratio: float, method: str = 'eap') -> dict[str, object]:
    return {'channels_ratio': ratio, 'channels_method': method}


def _baseline(ratio: float, name: str) -> Callable[[VLMConfig], dict[str, object]]:
    method = name.removesuffix('_channels')
    return lambda config: _channels(ratio, method)


def _combined(config: VLMConfig) -> dict[str, object]:
    # Channels that adapt stand in for the fixed narrower MLP.
    return {**_whole(config, 22, 56), 'mlp_ratio': 0.0, **_channels(0.25)}


_PRESETS: dict[str, Callable[[VLMConfig], dict]] = {
    'dense': lambda config: {},
    'efficientvla': lambda config: _whole(config, 22, 56),
    'efficientvla_light': lambda config: _whole(config, 28, 112),
    'ecovla_25': lambda config: _channels(0.25),
    'ecovla_40': lambda config: _channels(0.40),
    'combined': _combined,
    'layers': _layers,
    'mlp': lambda config: {'mlp_ratio': _MLP_RATIO},
    'tokens': _tokens,
    'cache': lambda config: {'cache_interval': CACHE_INTERVAL},
    'layers_mlp': lambda config: {**_layers(config), 'mlp_ratio': _MLP_RATIO},
    'fastv': lambda config: _tokens(config, method='fastv'),
    'random': lambda config: _tokens(config, method='random'),
    **{
        f'{method}_{percent}': _baseline(percent / 100, method)
        for method in ('eap_gap', 'frozen', 'wanda', 'random_channels', 'every_frame')
        for percent in (25, 40)
    },
}

PRESETS = tuple(_PRESETS)
"""Names: dense; EfficientVLA (arXiv 2506.10100: L22 T56 and L28 T112); EcoVLA
(arXiv 2602.00780) at its two ratios; both methods in one; then single techniques of the first and
other token selections at its counts, and other choices of channels at the ratios of the second."""


def preset(name: str, config: VLMConfig) -> AccelerationConfig:
    """Settings for one model.

    Args:
        name: one of `PRESETS`.
        config: the model's sizes, whose counts are scaled by the published fractions.

    Raises:
        AccelerationError: the name is unknown.
    """
    if name not in _PRESETS:
        raise AccelerationError(
            f'acceleration preset {name!r} is unknown, expected one of {", ".join(PRESETS)}'
        )
    return AccelerationConfig(**_PRESETS[name](config))
