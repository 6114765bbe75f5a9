"""A recording, a policy and a recipe that are small enough to be run whole in a test."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from efficientvla_ros.models.config import CogACTConfig, DiTConfig, LlamaConfig, ViTConfig
from efficientvla_ros.simulation.tasks import OBJECTS
from efficientvla_ros.training.settings import StageSettings, TrainSettings

FRAMES, HORIZON = 60, 6


def tiny_config() -> CogACTConfig:
    return CogACTConfig(
        name='tiny',
        dino=ViTConfig(16, 2, 2, 32, prefix_tokens=5, layer_scale=True),
        siglip=ViTConfig(16, 2, 2, 32),
        llm=LlamaConfig(
            width=32, layers=3, heads=2, kv_heads=2, mlp_width=48, vocab_size=64, max_positions=64
        ),
        head=DiTConfig(width=16, depth=1, heads=2, horizon=HORIZON),
        image_size=56,
        projector_width=32,
        prompt_template='{instruction}',
        suffix_ids=(2,),
    )


def tiny_settings(steps: int = 4, **changes) -> TrainSettings:
    stage = StageSettings(steps, 4, 1e-3)
    return TrainSettings(
        **{'vision': stage, 'policy': stage, 'head': stage, 'head_draws': 2, **changes}
    )


def write_recording(folder: Path) -> None:
    """Writes two shards of pictures of noise, with plans of noise."""
    rng = np.random.default_rng(0)
    for number in range(2):
        images = rng.integers(0, 255, (FRAMES // 2, 64, 64, 3)).astype(np.uint8)
        pngs = [cv2.imencode('.png', image)[1].ravel() for image in images]
        plans = rng.normal(0, 0.02, (FRAMES // 2, 3, 16, 7)).astype(np.float32)
        plans[..., 3:6] = 0
        plans[..., 6] = rng.integers(0, 2, plans.shape[:3])
        np.savez(
            folder / f'shard_{number}.npz',
            frames=np.concatenate(pngs),
            frame_offsets=np.cumsum([0, *map(len, pngs)]),
            plans=plans,
            object_ids=np.stack([rng.permutation(len(OBJECTS))[:3] for _ in images]).astype(
                np.int8
            ),
            object_pixels=_pixels(rng, len(images)),
            gripper_pixel=rng.random((len(images), 2)).astype(np.float32),
            episode=np.arange(len(images)) // 3,
            seeds=np.arange(len(images) // 3),
        )


def _pixels(rng: np.random.Generator, frames: int) -> np.ndarray:
    pixels = rng.random((frames, 3, 2)).astype(np.float32)
    pixels[::5, 0], pixels[1::5, 1] = 3.0, np.nan  # beside the picture, behind the camera
    return pixels
