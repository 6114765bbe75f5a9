"""Batches drawn from demonstrations: step and process decide them, so a run can resume."""

from __future__ import annotations

import numpy as np
import torch

from efficientvla_ros.models.config import CogACTConfig
from efficientvla_ros.models.statistics import ActionStatistics
from efficientvla_ros.models.tokenizer import PAD, WordTokenizer, prompt_ids
from efficientvla_ros.simulation.tasks import OBJECTS, TEMPLATES
from efficientvla_ros.training.augment import augment
from efficientvla_ros.training.dataset import Demonstrations
from efficientvla_ros.training.losses import Batch


def suite_words() -> list[str]:
    """Words of all instructions that the demonstrations come with, in order of appearance."""
    words: dict[str, None] = {}
    for templates in TEMPLATES.values():
        for template in templates:
            for name in OBJECTS:
                words.update(dict.fromkeys(template.format(name).split()))
    return list(words)


class BatchSource:
    """Draws augmented batches for training, or fixed ones for validation."""

    def __init__(
        self,
        data: Demonstrations,
        frames: np.ndarray,
        config: CogACTConfig,
        tokenizer: WordTokenizer,
        statistics: ActionStatistics,
        device: torch.device,
    ) -> None:
        """Prepares drawing from the frames with the indices `frames`."""
        self._data, self._frames, self._device = data, frames, device
        self._texts = _texts_by_wording(config, tokenizer)
        self._actions = statistics.normalise(data.plans).astype(np.float32)

    def draw(self, size: int, rng: np.random.Generator) -> Batch:
        """Random frames, one random wording for all of them, augmented."""
        rows = rng.choice(self._frames, size)
        batch = self._batch(rows, int(rng.integers(len(self._texts))))
        images, shift = augment(batch.images, rng)
        return Batch(
            images,
            batch.texts,
            batch.actions,
            batch.object_ids,
            batch.object_pixels + shift.unsqueeze(1),
            batch.gripper_pixel + shift,
        )

    def fixed(self, size: int, count: int) -> list[Batch]:
        """`count` batches of unaugmented frames, evenly spread over all."""
        rows = np.linspace(0, len(self._frames) - 1, size * count).astype(int)
        return [
            self._batch(self._frames[part], i % len(self._texts))
            for i, part in enumerate(rows.reshape(count, size))
        ]

    def _batch(self, rows: np.ndarray, wording: int) -> Batch:
        data = self._data
        images = torch.from_numpy(data.images[rows]).to(self._device)
        ids = torch.from_numpy(data.object_ids[rows])

        def tensor(values: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(values[rows]).to(self._device)

        return Batch(
            images.permute(0, 3, 1, 2).float() / 255.0,
            self._texts[wording][ids].to(self._device),
            tensor(self._actions),
            ids.to(self._device),
            tensor(data.object_pixels),
            tensor(data.gripper_pixel),
        )


def _texts_by_wording(config: CogACTConfig, tokenizer: WordTokenizer) -> list[torch.Tensor]:
    """Prompt ids without BOS: for each wording one tensor [objects, T], padded on the right."""
    tables = []
    for templates in TEMPLATES.values():
        for template in templates:
            rows = [
                prompt_ids(
                    tokenizer, config.prompt_template, config.suffix_ids, template.format(name)
                )[1:]
                for name in OBJECTS
            ]
            longest = max(map(len, rows))
            tables.append(torch.tensor([row + [PAD] * (longest - len(row)) for row in rows]))
    return tables
