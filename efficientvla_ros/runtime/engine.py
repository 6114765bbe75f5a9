"""The engine, and how to load a policy into one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from efficientvla_ros.acceleration.profile import CalibrationProfile
from efficientvla_ros.models.checkpoint import (
    CheckpointError,
    load_checkpoint,
    random_checkpoint,
)
from efficientvla_ros.models.config import OpenVLAConfig, VLMConfig
from efficientvla_ros.models.diffusion import ScheduleError, ddim_timesteps
from efficientvla_ros.runtime.load_options import (
    check_device,
    find_model,
    parse_dtype,
    refuse_file_options,
)
from efficientvla_ros.runtime.load_profile import (
    find_profile,
    fitting_profile,
    planned_layers,
)
from efficientvla_ros.runtime.policy_engine import DENSE, Engine
from efficientvla_ros.runtime.runners import Acceleration, refuse_diffusion_options
from efficientvla_ros.types import InputError

__all__ = ['Engine', 'load_engine']


def load_engine(
    model: str = 'tabletop-small',
    *,
    device: str = 'cpu',
    dtype: str = 'auto',
    threads: int | None = None,
    tokenizer: str | Path | None = None,
    unnorm_key: str | None = None,
    use_ema: bool = False,
    num_ddim_steps: int | None = None,
    guidance: float | None = None,
    seed: int = 0,
    random_weights: bool = False,
    acceleration: Acceleration | None = None,
    profile: str | Path | CalibrationProfile | None = None,
    only_kept_layers: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Engine:
    """Loads a policy.

    Args:
        model: name of an embedded model, path of a checkpoint folder or `.pt` file, or with
            `random_weights` any name in `CONFIGS`.
        device: `cpu`, `cuda` or `cuda:N`.
        dtype: type of the vision-language model: `float32`, `bfloat16`, or `auto` for float32
            on the CPU and bfloat16 on CUDA.
        threads: CPU threads of torch in this process; None leaves torch's choice.
        tokenizer: folder with the tokenizer; None looks in the checkpoint.
        unnorm_key: data set whose action statistics are used; None takes the only one.
        use_ema: take the averaged weights of the diffusion head.
        num_ddim_steps: sampling steps; None takes the model's.
        guidance: classifier-free guidance scale; None takes the model's.
        seed: of the sampling noise, and of random weights.
        random_weights: build the model without reading its weights.
        acceleration: settings, the name of a preset, or a function from the model's sizes to
            settings; None is dense.
        profile: calibration profile or its file; None takes the one beside the weights, if there
            is one that fits.
        only_kept_layers: load no decoder layer that the plan leaves out, and let go of whole
            MLPs once they are cut. Later plans cannot have them.
        progress: called with the bytes of weights done and in all while they are loaded.

    Raises:
        InputError: the model is unknown, damaged, or the options do not fit it.
    """
    source = find_model(model, random_weights)
    check_device(device)
    kind = parse_dtype(dtype, device)
    if threads is not None:
        torch.set_num_threads(threads)
    acceleration = DENSE if acceleration is None else acceleration
    found, no_profile = find_profile(source, profile, random_weights)
    layers = planned_layers(acceleration, found) if only_kept_layers else None
    try:
        if num_ddim_steps is not None:
            ddim_timesteps(num_ddim_steps)
        if isinstance(source, VLMConfig):
            if isinstance(source, OpenVLAConfig):
                refuse_diffusion_options(source.name, num_ddim_steps, guidance)
            refuse_file_options(model, unnorm_key, use_ema)
            checkpoint = random_checkpoint(
                source.name, device, kind, seed, tokenizer=tokenizer, layers=layers
            )
        else:
            checkpoint = load_checkpoint(
                source,
                device,
                dtype=kind,
                unnorm_key=unnorm_key,
                tokenizer=tokenizer,
                use_ema=use_ema,
                random_weights=seed if random_weights else None,
                layers=layers,
                progress=progress,
            )
    except (CheckpointError, ScheduleError) as error:
        raise InputError(str(error)) from error
    asked_for = profile is not None or only_kept_layers
    found, no_profile = fitting_profile(checkpoint.model, found, no_profile, asked_for)
    return Engine(
        checkpoint,
        num_ddim_steps=num_ddim_steps,
        guidance=guidance,
        seed=seed,
        acceleration=acceleration,
        profile=found,
        no_profile=no_profile,
        only_kept=only_kept_layers,
    )
