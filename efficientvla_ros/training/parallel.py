"""Data-parallel training: one process and one thread a core, or one process on a GPU."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from efficientvla_ros.models.config import CogACTConfig
from efficientvla_ros.training.dataset import load_demonstrations
from efficientvla_ros.training.precision import keep_freed_memory
from efficientvla_ros.training.settings import TrainSettings
from efficientvla_ros.training.trainer import Progress, Trainer


def train(
    config: CogACTConfig,
    settings: TrainSettings,
    data: Sequence[Path],
    folder: Path,
    *,
    device: str = 'cpu',
    workers: int = 1,
    start: Path | None = None,
    progress: Progress | None = None,
) -> Trainer:
    """Trains to the end of the last stage, or goes on where the folder's state is.

    Args:
        config: sizes of the policy.
        settings: the recipe.
        data: folders of recorded shards.
        folder: state and metrics go here.
        device: torch device.
        workers: processes that share every step.
        start: folder of another run that is trained further.
        progress: called in the first process.

    Returns:
        The trainer, with the averaged weights.

    Raises:
        InputError: the data cannot be used.
    """
    # The first process prepares the frames before the others look for them.
    load_demonstrations(data, config.image_size, config.head.horizon)
    with tempfile.TemporaryDirectory() as meeting:
        run = (config, settings, data, folder, device, start)
        arguments = (workers, f'file://{meeting}/store', *run)
        others = [
            mp.get_context('spawn').Process(target=_work, args=(rank, *arguments), daemon=True)
            for rank in range(1, workers)
        ]
        for process in others:
            process.start()
        try:
            return _work(0, *arguments, progress)
        finally:
            for process in others:
                process.terminate()
                process.join()


def _work(
    rank: int,
    world: int,
    meeting: str,
    config: CogACTConfig,
    settings: TrainSettings,
    data: Sequence[Path],
    folder: Path,
    device: str,
    start: Path | None,
    progress: Progress | None = None,
) -> Trainer:
    torch.set_num_threads(1)
    keep_freed_memory()
    if world > 1:
        dist.init_process_group('gloo', init_method=meeting, rank=rank, world_size=world)
    demonstrations = load_demonstrations(data, config.image_size, config.head.horizon)
    trainer = Trainer(config, settings, demonstrations, folder, device, rank, world, start)
    trainer.run(progress)
    if world > 1:
        # Nobody leaves while another still waits for a gradient.
        dist.barrier()
        dist.destroy_process_group()
    return trainer
