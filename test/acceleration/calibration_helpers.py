"""Small policies, samples and profiles for the tests of calibration."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from small_models import small_config

from efficientvla_ros.acceleration.calibration import CalibrationSample, calibrate
from efficientvla_ros.acceleration.profile import CalibrationProfile
from efficientvla_ros.models.cogact import CogACT
from efficientvla_ros.models.random_weights import init_weights


def small_policy(layers: int = 5, seed: int = 0) -> CogACT:
    config = small_config()
    config = replace(config, llm=replace(config.llm, layers=layers))
    return init_weights(CogACT(config), seed).eval().requires_grad_(False)


def random_samples(count: int = 3, seed: int = 0) -> list[CalibrationSample]:
    """Images of several sizes with prompts of several lengths, two frames an episode."""
    rng = np.random.default_rng(seed)
    return [
        CalibrationSample(
            rng.integers(0, 256, (40 + index, 56, 3), dtype=np.uint8),
            torch.tensor([[1, *rng.integers(3, 64, 2 + index % 3), 2]]),
            index // 2,
        )
        for index in range(count)
    ]


def small_profile(model: CogACT | None = None) -> CalibrationProfile:
    return calibrate(model or small_policy(), random_samples(), source='random')
