"""The training loop: stages, averaged weights, validation, resumption, data parallelism."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from efficientvla_ros.models.checkpoint import save_checkpoint
from efficientvla_ros.models.cogact import CogACT
from efficientvla_ros.models.config import CogACTConfig
from efficientvla_ros.models.random_weights import init_weights
from efficientvla_ros.models.statistics import ActionStatistics
from efficientvla_ros.models.tokenizer import WordTokenizer
from efficientvla_ros.simulation.tasks import OBJECTS
from efficientvla_ros.training.batches import BatchSource, suite_words
from efficientvla_ros.training.dataset import Demonstrations
from efficientvla_ros.training.heads import TrainingHeads
from efficientvla_ros.training.losses import LOSSES
from efficientvla_ros.training.settings import STAGES, TrainSettings, learning_rate
from efficientvla_ros.training.validation import validate
from efficientvla_ros.types import InputError

STATE_FILE = 'state.pt'
METRICS_FILE = 'metrics.jsonl'

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
                `policy` on; None starts from random weights.
        """
        self.config, self.settings, self.folder = config, settings, folder
        self.device, self.rank, self.world = torch.device(device), rank, world
        self.tokenizer = WordTokenizer(suite_words())
        state = self._read_state(folder) or self._read_state(start)
        # Further training keeps the units that the weights were trained in.
        self.statistics = (
            ActionStatistics.from_json({'': {'action': state['statistics']}})
            if state
            else data.statistics()
        )
        side = config.image_size // config.patch_size
        # Same seed in every process: data parallelism needs equal weights to begin with.
        torch.manual_seed(settings.seed)
        self.model = init_weights(CogACT(config), settings.seed).to(self.device)
        self.heads = TrainingHeads(
            config.llm.width, len(OBJECTS), side, config.head.horizon, config.head.action_dim
        ).to(self.device)
        self.average, self._average_heads = (
            copy.deepcopy(part).requires_grad_(False) for part in (self.model, self.heads)
        )
        train, held_out = data.split()
        source = (config, self.tokenizer, self.statistics, self.device)
        self._train = BatchSource(data, train, *source)
        self._held_out = BatchSource(data, held_out, *source)
        self.stage, self.step = STAGES[0], 0
        self._optimizer: torch.optim.Optimizer | None = None
        self._saved_optimizer: dict[str, Any] | None = None
        if state:
            self._restore(state, fresh=not (folder / STATE_FILE).is_file())

    def run(
        self, progress: Progress | None = None, save_every: float = 60.0, validate_every: int = 500
    ) -> None:
        """Runs the remaining stages to their end."""
        for stage in STAGES[STAGES.index(self.stage) :]:
            if stage != self.stage:
                self._begin(stage)
            self._run_stage(progress, save_every, validate_every)
        self.save()

    def export(self, folder: Path, dtype: torch.dtype = torch.float16) -> None:
        """Writes the averaged weights as a checkpoint, without training-only parts."""
        entry = {'action': self.statistics.to_json()}
        save_checkpoint(folder, self.average, self.tokenizer, {self.config.name: entry}, dtype)

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
            'optimizer': self._optimizer.state_dict() if self._optimizer else None,
        }
        partial = self.folder / (STATE_FILE + '.tmp')
        torch.save(state, partial)
        partial.replace(self.folder / STATE_FILE)

    def _read_state(self, folder: Path | None) -> dict[str, Any] | None:
        if folder is None:
            return None
        path = folder / STATE_FILE
        if path.is_file():
            return torch.load(path, map_location=self.device, weights_only=True)
        if folder != self.folder:
            raise InputError(f'{path} does not exist, expected the state of a training run')
        return None

    def _restore(self, state: dict[str, Any], fresh: bool) -> None:
        self.average.load_state_dict(state['average'])
        self._average_heads.load_state_dict(state['average_heads'])
        if fresh:
            self._begin('policy')
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
        plan = self.settings.stage(self.stage)
        rng = np.random.default_rng(
            [self.settings.seed, STAGES.index(self.stage), self.step, self.rank]
        )
        batch = self._train.draw(plan.batch, rng)
        loss, values = LOSSES[self.stage](self.model, self.heads, batch, self.settings, rng)
        loss.backward()
        self._share_gradients(parameters)
        norm = nn.utils.clip_grad_norm_(parameters, 1.0)
        for group in self._optimizer.param_groups:
            group['lr'] = learning_rate(plan, self.step)
        # A step with a broken gradient would end the run: leave it out and go on.
        if torch.isfinite(norm):
            self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=False)
        self._update_average()
        return {'loss': loss.detach(), **values}

    def _parameters(self) -> list[nn.Parameter]:
        # Always in the same order: a resumed optimiser finds its state by position.
        if self.stage == 'head':
            parameters = list(self.model.action_model.parameters())
        else:
            model = self.model
            parts = (model.vision_backbone, model.projector, model.llm_backbone, self.heads)
            parameters = [parameter for part in parts for parameter in part.parameters()]
        self._optimizer = torch.optim.AdamW(
            parameters, betas=(0.9, 0.95), weight_decay=0.01, fused=True
        )
        for parameter in parameters:
            # Layers that a step leaves out still take part in the shared gradient.
            parameter.grad = torch.zeros_like(parameter)
        if self._saved_optimizer:
            self._optimizer.load_state_dict(self._saved_optimizer)
        return parameters

    def _share_gradients(self, parameters: list[nn.Parameter]) -> None:
        if self.world == 1:
            return
        flat = torch.cat([p.grad.flatten() for p in parameters])
        dist.all_reduce(flat)
        flat /= self.world
        for parameter, part in zip(parameters, flat.split([p.numel() for p in parameters])):
            parameter.grad.copy_(part.view_as(parameter))

    @torch.no_grad()
    def _update_average(self) -> None:
        decay = min(self.settings.ema, (1 + self.step) / (10 + self.step))
        averaged = [*self.average.parameters(), *self._average_heads.parameters()]
        current = [*self.model.parameters(), *self.heads.parameters()]
        torch._foreach_lerp_(averaged, current, 1 - decay)

    def _log(self, means: _RunningMeans) -> None:
        batches = self._held_out.fixed(32, 8)
        result = validate(self.stage, self.average, self._average_heads, batches)
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
