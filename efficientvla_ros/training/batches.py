"""Batches drawn from demonstrations: step and process decide them, so a run can resume."""

from __future__ import annotations

import numpy as np
import torch

from efficientvla_ros.models.config import CogACTConfig
from efficientvla_ros.models.statistics import ActionStatistics
from efficientvla_ros.models.tokenizer import PAD, WordTokenizer, prompt_ids
from efficientvla_ros.simulation.goals import PICK, TASKS, TEMPLATES, Goal
from efficientvla_ros.simulation.objects import KEYPOINTS, OBJECT_MODELS, PICK_MODELS
from efficientvla_ros.training.augment import augment
from efficientvla_ros.training.dataset import Demonstrations
from efficientvla_ros.training.losses import Batch


def suite_words() -> list[str]:
    """Words of all instructions that the demonstrations come with, in order of appearance."""
    words: dict[str, None] = {}
    # Words of `pick` come first, as in vocabularies from before there were other tasks.
    for names in (PICK_MODELS, OBJECT_MODELS):
        for template in TEMPLATES[PICK]:
            for name in names:
                words.update(dict.fromkeys(template.format(name).split()))
    for templates in TEMPLATES.values():
        for template in templates:
            words.update(dict.fromkeys(template.format('', '').split()))
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
        goals, self._goals = _goals_in(data)
        self._texts = _texts_by_wording(config, tokenizer, goals)
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
            batch.reference_ids,
            batch.object_pixels + shift.unsqueeze(1),
            batch.gripper_pixel + shift,
            batch.keypoints + shift.unsqueeze(1),
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
        goals = torch.from_numpy(self._goals[rows])

        def tensor(values: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(values[rows]).to(self._device)

        return Batch(
            images.permute(0, 3, 1, 2).float() / 255.0,
            self._texts[wording][goals].to(self._device),
            tensor(self._actions),
            tensor(data.object_ids),
            tensor(data.references),
            tensor(data.object_pixels),
            tensor(data.gripper_pixel),
            tensor(data.keypoints),
        )


def _goals_in(data: Demonstrations) -> tuple[list[Goal], np.ndarray]:
    """The goals that occur in the data, and for each frame their indices, int64 [F, 3]."""
    rows = np.stack([data.tasks, data.object_ids, data.references], axis=-1)
    found, index = np.unique(rows.reshape(-1, 3), axis=0, return_inverse=True)
    goals = [
        Goal(TASKS[task], KEYPOINTS[target], KEYPOINTS[reference] if reference >= 0 else '')
        for task, target, reference in found
    ]
    return goals, index.reshape(data.tasks.shape)


def _texts_by_wording(
    config: CogACTConfig, tokenizer: WordTokenizer, goals: list[Goal]
) -> list[torch.Tensor]:
    """Prompt ids without BOS: for each wording one tensor [goals, T], padded on the right."""
    tables = []
    for wording in range(min(map(len, TEMPLATES.values()))):
        rows = [
            prompt_ids(
                tokenizer, config.prompt_template, config.suffix_ids, goal.instruction(wording)
            )[1:]
            for goal in goals
        ]
        longest = max(map(len, rows))
        tables.append(torch.tensor([row + [PAD] * (longest - len(row)) for row in rows]))
    return tables
