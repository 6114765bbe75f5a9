"""The engine: turns an observation into an action chunk and reports what it cost."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from efficientvla_ros.models.checkpoint import Checkpoint, CheckpointError, load_checkpoint
from efficientvla_ros.models.diffusion import ScheduleError, ddim_timesteps
from efficientvla_ros.models.images import to_input
from efficientvla_ros.models.tokenizer import UnknownWordsError, prompt_ids
from efficientvla_ros.runtime.stopwatch import Stopwatch
from efficientvla_ros.types import ActionChunk, InputError, Observation, TickReport

WEIGHTS_FOLDER = Path(__file__).resolve().parent.parent / 'weights'
_PROMPTS_KEPT = 64


class Engine:
    """Runs one policy on one device.

    Not thread-safe: one thread calls `infer`.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        device: str = 'cpu',
        *,
        num_ddim_steps: int | None = None,
        guidance: float | None = None,
        seed: int = 0,
    ) -> None:
        """Wraps a loaded policy; use `load_engine` to get one by name or path."""
        self._model = checkpoint.model
        self._tokenizer = checkpoint.tokenizer
        self._statistics = checkpoint.statistics
        self._config = checkpoint.model.config
        self._device = torch.device(device)
        head = self._config.head
        self.num_ddim_steps = head.ddim_steps if num_ddim_steps is None else num_ddim_steps
        self.guidance = head.guidance if guidance is None else guidance
        # The same noise every tick: the plan then changes only because the scene does.
        generator = torch.Generator().manual_seed(seed)
        self._noise = torch.randn(
            1, head.horizon, head.action_dim, generator=generator, dtype=torch.float32
        ).to(self._device)
        self._prompts: OrderedDict[str, Tensor] = OrderedDict()
        self._sequence = 0

    @property
    def model_name(self) -> str:
        """What logs and reports call the model."""
        return self._config.name

    @property
    def camera_names(self) -> tuple[str, ...]:
        """Cameras that the policy wants, in order."""
        return self._config.cameras

    @property
    def image_size(self) -> int:
        """Side of the network's square input, pixels."""
        return self._config.image_size

    @property
    def horizon(self) -> int:
        """Actions in a chunk."""
        return self._config.head.horizon

    @property
    def step_duration(self) -> float:
        """Seconds between two actions of a chunk."""
        return self._config.step_duration

    def check_instruction(self, instruction: str) -> None:
        """Refuses an instruction that the model cannot take.

        Raises:
            InputError: it is empty, too long, or has words outside the vocabulary.
        """
        self._prompt(instruction)

    def warm_up(self, runs: int = 3) -> None:
        """Runs the whole path on a grey image, so that the first real tick is not the slowest."""
        size = self.image_size
        grey = np.full((size, size, 3), 127, dtype=np.uint8)
        ids = torch.tensor([[1, *self._config.suffix_ids]], device=self._device)
        for _ in range(runs):
            self._run(grey, ids, Stopwatch(self._device))

    def infer(self, observation: Observation) -> tuple[ActionChunk, TickReport]:
        """Plans from one observation.

        A model whose output is not finite is not hidden here: `control` refuses such a chunk
        and holds the arm.

        Raises:
            InputError: the instruction or an image cannot be used.
        """
        ids = self._prompt(observation.instruction)
        watch = Stopwatch(self._device)
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
            watch.seconds, self._config.num_patches, self._config.llm.layers, self.num_ddim_steps
        )
        return chunk, report

    @torch.inference_mode()
    def _run(self, image: np.ndarray, ids: Tensor, watch: Stopwatch) -> np.ndarray:
        # image uint8 [H, W, 3], ids [1, T] -> float64 [horizon, action_dim]
        model = self._model
        pixels = to_input(image, self.image_size).to(self._device)
        watch.lap('preprocess')
        visual = model.visual_tokens(pixels)
        watch.lap('vision')
        cognition = model.cognition(visual, ids)
        watch.lap('language')
        sampler = model.sampler(steps=self.num_ddim_steps, guidance=self.guidance)
        sample = sampler(cognition, self._noise)
        normalised = sample[0].cpu().numpy()
        watch.lap('action_head')
        actions = self._statistics.unnormalise(normalised)
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

    def _prompt(self, instruction: str) -> Tensor:
        # Ids are kept by instruction: tokenising is not part of a tick.
        if instruction in self._prompts:
            self._prompts.move_to_end(instruction)
            return self._prompts[instruction]
        if not instruction.strip():
            raise InputError('the instruction is empty, expected text such as "pick red can"')
        try:
            ids = prompt_ids(
                self._tokenizer, self._config.prompt_template, self._config.suffix_ids, instruction
            )
        except UnknownWordsError as error:
            shown = instruction if len(instruction) <= 80 else instruction[:80] + '...'
            raise InputError(f'instruction {shown!r}: {error}') from error
        room = self._config.llm.max_positions - self._config.num_patches
        if len(ids) > room:
            raise InputError(
                f'the instruction has {len(ids)} tokens, '
                f'model {self.model_name} takes at most {room}'
            )
        tensor = torch.tensor([ids], device=self._device)
        self._prompts[instruction] = tensor
        if len(self._prompts) > _PROMPTS_KEPT:
            self._prompts.popitem(last=False)
        return tensor


def load_engine(
    model: str = 'tabletop',
    *,
    device: str = 'cpu',
    threads: int | None = None,
    num_ddim_steps: int | None = None,
    guidance: float | None = None,
    seed: int = 0,
    random_weights: bool = False,
) -> Engine:
    """Loads a policy.

    Args:
        model: name of an embedded model, or path of a checkpoint folder.
        device: `cpu`, `cuda` or `cuda:N`.
        threads: CPU threads of torch in this process; None leaves torch's choice.
        num_ddim_steps: sampling steps; None takes the model's.
        guidance: classifier-free guidance scale; None takes the model's.
        seed: of the sampling noise, and of random weights.
        random_weights: build the model without reading its weights.

    Raises:
        InputError: the model is unknown, damaged, or the options do not fit it.
    """
    folder = _model_folder(model)
    _check_device(device)
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        if num_ddim_steps is not None:
            ddim_timesteps(num_ddim_steps)
        weights_seed = seed if random_weights else None
        checkpoint = load_checkpoint(folder, device, random_weights=weights_seed)
    except (CheckpointError, ScheduleError) as error:
        raise InputError(str(error)) from error
    return Engine(checkpoint, device, num_ddim_steps=num_ddim_steps, guidance=guidance, seed=seed)


def _model_folder(model: str) -> Path:
    embedded = WEIGHTS_FOLDER / model
    if model and embedded.is_dir() and '/' not in model:
        return embedded
    folder = Path(model).expanduser()
    if model and folder.is_dir():
        return folder
    names = sorted(path.name for path in WEIGHTS_FOLDER.iterdir() if path.is_dir())
    raise InputError(
        f'model {model!r} is neither an embedded model ({", ".join(names)}) '
        'nor a checkpoint folder that exists'
    )


def _check_device(device: str) -> None:
    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        raise InputError(f'device {device!r} is unknown, expected cpu, cuda or cuda:N') from error
    if kind not in ('cpu', 'cuda'):
        raise InputError(f'device {device!r} is not supported, expected cpu, cuda or cuda:N')
    if kind == 'cuda' and not torch.cuda.is_available():
        raise InputError(f'device {device!r} was asked for, but torch sees no CUDA device')
