"""The training loop: stages, averaged weights, validation, resumption, data parallelism."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from efficientvla_ros.models.checkpoint import save_checkpoint
from efficientvla_ros.models.cogact import CogACT
from efficientvla_ros.models.config import CogACTConfig
from efficientvla_ros.models.random_weights import init_weights
from efficientvla_ros.models.statistics import ActionStatistics
from efficientvla_ros.models.tokenizer import WordTokenizer
from efficientvla_ros.simulation.objects import KEYPOINTS
from efficientvla_ros.training.batches import BatchSource, suite_words
from efficientvla_ros.training.dataset import Demonstrations
from efficientvla_ros.training.features import Features, FeatureWindow
from efficientvla_ros.training.finer_vision import finer_vision_loss
from efficientvla_ros.training.heads import TrainingHeads
from efficientvla_ros.training.losses import LOSSES, Batch, head_features, head_loss
from efficientvla_ros.training.optimizer import Optimizer
from efficientvla_ros.training.precision import precision
from efficientvla_ros.training.settings import STAGES, TrainSettings, learning_rate
from efficientvla_ros.training.sharing import sum_over_processes
from efficientvla_ros.training.start import HEADS_FILE, STATE_FILE, read_start, read_state
from efficientvla_ros.training.validation import Validation

METRICS_FILE = 'metrics.jsonl'
LARGEST_FILE = 14_000_000
"""Bytes of weights in one file of an exported checkpoint: version control stays usable."""

_SEEING, _LANGUAGE = ('vision_backbone.', 'projector.'), 'llm_backbone.'

Progress = Callable[[str, int, int, dict[str, float]], None]
"""Called with stage, steps done, steps in all, and the latest averages."""


class Trainer:
    """Trains one policy; its whole state lives in one folder."""

    def __init__(
        self,
        config: CogACTConfig,
        settings: TrainSettings,
        data: Demonstrations,
        folder: Path,
        device: str = 'cpu',
        rank: int = 0,
        world: int = 1,
        start: Path | None = None,
    ) -> None:
        """Goes on from the folder's state; without one, starts anew.

        Args:
            config: sizes of the policy.
            settings: the recipe.
            data: what is learnt from.
            folder: where state and metrics are kept.
            device: torch device.
            rank: number of this process.
            world: number of processes.
            start: folder of another run, whose averaged weights are trained further, from stage
                `policy` on, or of an embedded checkpoint, which has no training-only parts: they
                learn alone at first (`TrainSettings.new_heads_steps`). It may have fewer decoder
                layers, a narrower language model, another action head, and smaller pictures:
                the towers then learn to see in the larger ones first, in stage `vision`. None
                starts from random weights.
        """
        self.config, self.settings, self.folder = config, settings, folder
        self.device, self.rank, self.world = torch.device(device), rank, world
        self.tokenizer = WordTokenizer(suite_words())
        side = config.image_size // config.patch_size
        # Same seed in every process: data parallelism needs equal weights to begin with.
        torch.manual_seed(settings.seed)
        self.model = init_weights(CogACT(config), settings.seed).to(self.device)
        self.heads = TrainingHeads(
            config.llm.width, len(KEYPOINTS), side, config.head.horizon, config.head.action_dim
        ).to(self.device)
        self.average, self._average_heads = (
            copy.deepcopy(part).requires_grad_(False) for part in (self.model, self.heads)
        )
        resumed = read_state(folder, self.device)
        started = None
        if start and (resumed is None or resumed['stage'] == 'vision'):
            started = read_start(start, config, self.model, self.heads, self.device)
        self._coarse = started['coarse'] if started else None
        state = resumed or started
        # Further training keeps the units that the weights were trained in.
        self.statistics = (
            ActionStatistics.from_json({'': {'action': state['statistics']}})
            if state and state['statistics']
            else data.statistics()
        )
        train, held_out = data.split()
        source = (config, self.tokenizer, self.statistics, self.device)
        self._train = BatchSource(data, train, *source)
        self._validate = Validation(partial(BatchSource(data, held_out, *source).fixed, 32, 8))
        self._features = FeatureWindow(self._features_of, settings.head_reuse)
        self.stage, self.step, self._new_heads = STAGES[0], 0, False
        self._optimizer: Optimizer | None = None
        self._saved_optimizer: list[dict[str, Any]] | None = None
        if state:
            self._restore(state, fresh=resumed is None)

    def run(
        self, progress: Progress | None = None, save_every: float = 60.0, validate_every: int = 250
    ) -> None:
        """Runs the remaining stages to their end.

        Args:
            progress: called every 20 steps, in the first process.
            save_every: seconds between saved states.
            validate_every: steps between validations.
        """
        for stage in STAGES[STAGES.index(self.stage) :]:
            if stage != self.stage:
                self._begin(stage)
            self._run_stage(progress, save_every, validate_every)
        self.save()

    def export(self, folder: Path, dtype: torch.dtype = torch.float16) -> None:
        """Writes the averaged weights as a checkpoint, without training-only parts."""
        entries = {self.config.name: {'action': self.statistics.to_json()}}
        save_checkpoint(folder, self.average, self.tokenizer, entries, dtype, LARGEST_FILE)

    def export_state(self, folder: Path) -> None:
        """Writes what another run starts from: the checkpoint and the training-only parts."""
        self.export(folder)
        heads = {k: v.half().contiguous() for k, v in self._average_heads.state_dict().items()}
        save_file(heads, folder / HEADS_FILE)

    def save(self) -> None:
        """Writes the state, so that a broken-off run goes on where it was."""
        if self.rank:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        state = {
            'stage': self.stage,
            'step': self.step,
            'model': self.model.state_dict(),
            'heads': self.heads.state_dict(),
            'average': self.average.state_dict(),
            'average_heads': self._average_heads.state_dict(),
            'statistics': self.statistics.to_json(),
            'new_heads': self._new_heads,
            'optimizer': self._optimizer.state() if self._optimizer else None,
        }
        partial = self.folder / (STATE_FILE + '.tmp')
        torch.save(state, partial)
        partial.replace(self.folder / STATE_FILE)

    def _restore(self, state: dict[str, Any], fresh: bool) -> None:
        self.average.load_state_dict(state['average'])
        self._new_heads = state['new_heads']
        if state['average_heads'] is not None:
            self._average_heads.load_state_dict(state['average_heads'])
        if fresh:
            self._begin(state['stage'])
            self._take_averages()
            return
        self.stage, self.step = state['stage'], state['step']
        self.model.load_state_dict(state['model'])
        self.heads.load_state_dict(state['heads'])
        self._saved_optimizer = state['optimizer']

    def _begin(self, stage: str) -> None:
        self.stage, self.step, self._optimizer, self._saved_optimizer = stage, 0, None, None
        if stage == 'head':
            # The head learns on the features that are exported.
            self._take_averages()

    def _take_averages(self) -> None:
        self.model.load_state_dict(self.average.state_dict())
        self.heads.load_state_dict(self._average_heads.state_dict())

    def _run_stage(
        self, progress: Progress | None, save_every: float, validate_every: int
    ) -> None:
        plan = self.settings.stage(self.stage)
        parameters = self._parameters()
        saved, means = time.monotonic(), _RunningMeans()
        while self.step < plan.steps:
            means.add(self._one_step(parameters))
            self.step += 1
            if self.rank == 0:
                if progress and self.step % 20 == 0:
                    progress(self.stage, self.step, plan.steps, means.values())
                if self.step % validate_every == 0 or self.step == plan.steps:
                    self._log(means)
                if time.monotonic() - saved > save_every:
                    self.save()
                    saved = time.monotonic()

    def _one_step(self, parameters: list[nn.Parameter]) -> dict[str, Tensor]:
        settings, plan = self.settings, self.settings.stage(self.stage)
        with precision(settings.precision, self.device):
            loss, values = self._head_loss() if self.stage == 'head' else self._loss()
        loss.backward()
        if self._new_heads and self.stage == 'policy' and self.step < settings.new_heads_steps:
            self.model.zero_grad(set_to_none=False)
        self._share_gradients(parameters)
        norm = nn.utils.clip_grad_norm_(parameters, 1.0)
        # A step with a broken gradient would end the run: leave it out and go on.
        if torch.isfinite(norm):
            self._optimizer.step(learning_rate(plan, self.step))
        self._optimizer.zero_grad()
        self._update_average()
        return {'loss': loss.detach(), **values}

    def _batch(self, number: int) -> tuple[Batch, np.random.Generator]:
        """A batch of the stage, and what draws the parts that are left out on it."""
        now = [self.settings.seed, STAGES.index(self.stage), number]
        size = self.settings.stage(self.stage).batch
        batch = self._train.draw(size, np.random.default_rng([*now, self.rank]))
        # All processes leave out the same parts, so that none waits for another.
        return batch, np.random.default_rng([*now, self.world])

    def _loss(self) -> tuple[Tensor, dict[str, Tensor]]:
        batch, rng = self._batch(self.step)
        if self.stage == 'vision' and self._coarse is not None:
            return finer_vision_loss(self._coarse, self.model, self.heads, batch)
        return LOSSES[self.stage](self.model, self.heads, batch, self.settings, rng)

    def _features_of(self, number: int) -> Features:
        batch, rng = self._batch(number)
        return head_features(self.model, batch, self.settings, rng)

    def _head_loss(self) -> tuple[Tensor, dict[str, Tensor]]:
        settings, plan = self.settings, self.settings.stage('head')
        rng = np.random.default_rng([settings.seed, len(STAGES), self.step, self.rank])
        features = self._features.at(self.step).draw(plan.batch * settings.head_draws, rng)
        return head_loss(self.model, features, settings, rng)

    def _parameters(self) -> list[nn.Parameter]:
        # Always in the same order: a resumed optimiser finds its state by position.
        if self.stage == 'head':
            named = list(self.model.action_model.named_parameters())
        else:
            parts = _SEEING if self.stage == 'vision' else (*_SEEING, _LANGUAGE)
            named = [item for item in self.model.named_parameters() if item[0].startswith(parts)]
            named += self.heads.named_parameters()
        parameters = [parameter for _, parameter in named]
        self._optimizer = Optimizer(self.settings.optimizer, named, self.rank, self.world)
        for parameter in parameters:
            # Layers that a step leaves out still take part in the shared gradient.
            parameter.grad = torch.zeros_like(parameter)
        if self._saved_optimizer:
            self._optimizer.restore(self._saved_optimizer)
        return parameters

    def _share_gradients(self, parameters: list[nn.Parameter]) -> None:
        if self.world == 1:
            return
        gradients = [parameter.grad for parameter in parameters]
        sum_over_processes(gradients)
        for gradient in gradients:
            gradient /= self.world

    @torch.no_grad()
    def _update_average(self) -> None:
        decay = min(self.settings.ema, (1 + self.step) / (10 + self.step))
        averaged = [*self.average.parameters(), *self._average_heads.parameters()]
        current = [*self.model.parameters(), *self.heads.parameters()]
        torch._foreach_lerp_(averaged, current, 1 - decay)

    def _log(self, means: _RunningMeans) -> None:
        result = self._validate(self.stage, self.average, self._average_heads)
        row = {
            'stage': self.stage,
            'step': self.step,
            'time': round(time.time(), 1),
            **means.values(),
            **result,
        }
        means.clear()
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / METRICS_FILE).open('a') as file:
            file.write(json.dumps(row) + '\n')


class _RunningMeans:
    """Means since the last report; values stay on the device until they are read."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._count = 0

    def add(self, values: dict[str, Tensor]) -> None:
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._count += 1

    def values(self) -> dict[str, float]:
        return {name: round(float(value) / self._count, 5) for name, value in self._sums.items()}
