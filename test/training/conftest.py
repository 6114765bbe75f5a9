"""A policy that is small enough to train for a few steps in a test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_run import tiny_config, tiny_settings, write_recording

from efficientvla_ros.models.cogact import CogACT
from efficientvla_ros.models.config import CogACTConfig, DiTConfig, LlamaConfig, ViTConfig
from efficientvla_ros.models.random_weights import init_weights
from efficientvla_ros.training.parallel import train
from efficientvla_ros.training.trainer import Trainer


@pytest.fixture(scope='session')
def tiny_policy() -> Callable[..., CogACT]:
    """Makes a policy in float64 from decoder layers, query heads and key/value heads."""

    def make(layers: int, heads: int, kv_heads: int, width: int = 32, mlp: int = 48) -> CogACT:
        config = CogACTConfig(
            name='tiny',
            dino=ViTConfig(16, 2, 2, 32, prefix_tokens=5, layer_scale=True),
            siglip=ViTConfig(16, 2, 2, 32),
            llm=LlamaConfig(
                width=width,
                layers=layers,
                heads=heads,
                kv_heads=kv_heads,
                mlp_width=mlp,
                vocab_size=64,
                max_positions=64,
            ),
            head=DiTConfig(width=16, depth=1, heads=2, horizon=4),
            image_size=56,
            projector_width=32,
            prompt_template='{instruction}',
            suffix_ids=(2,),
        )
        return init_weights(CogACT(config), seed=2).double()

    return make


@pytest.fixture(scope='session')
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a small recording."""
    folder = tmp_path_factory.mktemp('recording')
    write_recording(folder)
    return folder


@pytest.fixture(scope='session')
def finished(recording: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Trainer]:
    """Folder and trainer of a run that has ended."""
    folder = tmp_path_factory.mktemp('whole')
    return folder, train(tiny_config(), tiny_settings(), [recording], folder)
