"""The engine: turns an observation into an action chunk and reports what it cost."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from efficientvla_ros.models.checkpoint import (
    Checkpoint,
    CheckpointError,
    load_checkpoint,
    random_checkpoint,
)
from efficientvla_ros.models.config import OpenVLAConfig, VLMConfig
from efficientvla_ros.models.diffusion import ScheduleError, ddim_timesteps
from efficientvla_ros.models.images import to_input
from efficientvla_ros.models.prismatic import PrismaticVLM
from efficientvla_ros.models.statistics import ActionStatistics
from efficientvla_ros.models.tokenizer import UnknownWordsError, prompt_ids
from efficientvla_ros.runtime.load_options import (
    check_device,
    find_model,
    parse_dtype,
    refuse_file_options,
)
from efficientvla_ros.runtime.policies import make_policy, refuse_diffusion_options
from efficientvla_ros.runtime.stopwatch import Stopwatch
from efficientvla_ros.types import ActionChunk, InputError, Observation, TickReport

_PROMPTS_KEPT = 64


class Engine:
    """Runs one policy on one device.

    Not thread-safe: one thread calls `infer`.

    Attributes:
        model: the networks.
        config: their sizes.
        statistics: action quantiles of the data set that is acted in.
        device: where the networks are.
        dtype: type of the vision-language model's parameters; a diffusion head is float32.
        policy: how the networks are run.
        step_duration: seconds between two actions of a chunk.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        num_ddim_steps: int | None = None,
        guidance: float | None = None,
        seed: int = 0,
    ) -> None:
        """Wraps a loaded policy; use `load_engine` to get one by name or path."""
        self.model: PrismaticVLM = checkpoint.model
        self.config: VLMConfig = checkpoint.model.config
        self.statistics: ActionStatistics = checkpoint.statistics
        self.step_duration: float = checkpoint.step_duration
        embedding = self.model.llm_backbone.llm.model.embed_tokens.weight
        self.device, self.dtype = embedding.device, embedding.dtype
        self.policy = make_policy(
            self.model, num_ddim_steps=num_ddim_steps, guidance=guidance, seed=seed
        )
        self._tokenizer = checkpoint.tokenizer
        self._prompts: OrderedDict[str, Tensor] = OrderedDict()
        self._sequence = 0

    @property
    def model_name(self) -> str:
        """What logs and reports call the model."""
        return self.config.name

    @property
    def camera_names(self) -> tuple[str, ...]:
        """Cameras that the policy wants, in order."""
        return self.config.cameras

    @property
    def image_size(self) -> int:
        """Side of the network's square input, pixels."""
        return self.config.image_size

    @property
    def horizon(self) -> int:
        """Actions in a chunk."""
        return self.policy.horizon

    @property
    def num_ddim_steps(self) -> int:
        """Sampling steps of the diffusion head; 0 for a model without one."""
        return self.policy.num_ddim_steps

    @property
    def guidance(self) -> float | None:
        """Classifier-free guidance scale; None for a model without a diffusion head."""
        return self.policy.guidance

    @property
    def noise(self) -> Tensor | None:
        """Noise that sampling starts from, float32 [1, horizon, action_dim]; None likewise."""
        return self.policy.noise

    def check_instruction(self, instruction: str) -> None:
        """Refuses an instruction that the model cannot take.

        Raises:
            InputError: it is empty, too long, or has words outside the vocabulary.
        """
        self.prompt_ids(instruction)

    def warm_up(self, runs: int = 3) -> None:
        """Runs the whole path on a grey image, so that the first real tick is not the slowest."""
        size = self.image_size
        grey = np.full((size, size, 3), 127, dtype=np.uint8)
        ids = torch.tensor([[1, *self.config.suffix_ids]], device=self.device)
        for _ in range(runs):
            self._run(grey, ids, Stopwatch(self.device))

    def infer(self, observation: Observation) -> tuple[ActionChunk, TickReport]:
        """Plans from one observation.

        A model whose output is not finite is not hidden here: `control` refuses such a chunk
        and holds the arm.

        Raises:
            InputError: the instruction or an image cannot be used.
        """
        ids = self.prompt_ids(observation.instruction)
        watch = Stopwatch(self.device)
        actions = self._run(self._image(observation), ids, watch)
        self._sequence += 1
        chunk = ActionChunk(
            actions,
            self.step_duration,
            observation.stamp_ns,
            observation.instruction,
            self._sequence,
        )
        report = TickReport(
            watch.seconds, self.config.num_patches, self.config.llm.layers, self.num_ddim_steps
        )
        return chunk, report

    @torch.inference_mode()
    def _run(self, image: np.ndarray, ids: Tensor, watch: Stopwatch) -> np.ndarray:
        # image uint8 [H, W, 3], ids [1, T] -> float64 [horizon, action_dim]
        pixels = to_input(image, self.image_size).to(self.device)
        watch.lap('preprocess')
        normalised = self.policy.run(pixels, ids, watch)
        actions = self.statistics.unnormalise(normalised, self.policy.binarise_gripper)
        watch.lap('postprocess')
        return actions

    def _image(self, observation: Observation) -> np.ndarray:
        name = self.camera_names[0]
        image = observation.images.get(name)
        if image is None and len(observation.images) == 1:
            image = next(iter(observation.images.values()))
        if image is None:
            raise InputError(
                f'model {self.model_name} wants camera {name!r}, '
                f'the observation has {sorted(observation.images)}'
            )
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise InputError(
                f'camera {name!r}: image is {image.dtype} {image.shape}, '
                'expected uint8 (height, width, 3)'
            )
        return image

    def prompt_length(self, instruction: str) -> int:
        """Ids of the prompt, BOS included, without visual tokens; raises as `prompt_ids`."""
        return self.prompt_ids(instruction).shape[1]

    def prompt_ids(self, instruction: str) -> Tensor:
        """Ids of the prompt, int64 [1, T] on the device.

        They are kept by instruction: tokenising is not part of a tick.

        Raises:
            InputError: as `check_instruction`.
        """
        if instruction in self._prompts:
            self._prompts.move_to_end(instruction)
            return self._prompts[instruction]
        if not instruction.strip():
            raise InputError('the instruction is empty, expected text such as "pick red can"')
        try:
            ids = prompt_ids(
                self._tokenizer, self.config.prompt_template, self.config.suffix_ids, instruction
            )
        except UnknownWordsError as error:
            shown = instruction if len(instruction) <= 80 else instruction[:80] + '...'
            raise InputError(f'instruction {shown!r}: {error}') from error
        taken = self.config.num_patches + self.policy.decoded_positions
        room = self.config.llm.max_positions - taken
        if len(ids) > room:
            raise InputError(
                f'the instruction has {len(ids)} tokens, '
                f'model {self.model_name} takes at most {room}'
            )
        tensor = torch.tensor([ids], device=self.device)
        self._prompts[instruction] = tensor
        if len(self._prompts) > _PROMPTS_KEPT:
            self._prompts.popitem(last=False)
        return tensor


def load_engine(
    model: str = 'tabletop',
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
        progress: called with the bytes of weights done and in all while they are loaded.

    Raises:
        InputError: the model is unknown, damaged, or the options do not fit it.
    """
    source = find_model(model, random_weights)
    check_device(device)
    kind = parse_dtype(dtype, device)
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        if num_ddim_steps is not None:
            ddim_timesteps(num_ddim_steps)
        if isinstance(source, VLMConfig):
            if isinstance(source, OpenVLAConfig):
                refuse_diffusion_options(source.name, num_ddim_steps, guidance)
            refuse_file_options(model, unnorm_key, use_ema)
            checkpoint = random_checkpoint(source.name, device, kind, seed, tokenizer=tokenizer)
        else:
            checkpoint = load_checkpoint(
                source,
                device,
                dtype=kind,
                unnorm_key=unnorm_key,
                tokenizer=tokenizer,
                use_ema=use_ema,
                random_weights=seed if random_weights else None,
                progress=progress,
            )
        return Engine(checkpoint, num_ddim_steps=num_ddim_steps, guidance=guidance, seed=seed)
    except (CheckpointError, ScheduleError) as error:
        raise InputError(str(error)) from error
