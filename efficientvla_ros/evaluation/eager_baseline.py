"""The plain eager pipeline: CogACT as the original code runs it, on the weights of a policy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from efficientvla_ros.evaluation.eager_head import EagerDiT, StepwiseSampler
from efficientvla_ros.evaluation.eager_networks import (
    State,
    dino_tower,
    llama,
    siglip_tower,
    transformers,
)
from efficientvla_ros.models.config import CogACTConfig, VLMConfig
from efficientvla_ros.models.statistics import GRIPPER, ActionStatistics
from efficientvla_ros.types import InputError

if TYPE_CHECKING:
    from efficientvla_ros.runtime.stopwatch import Stopwatch


def check_model(model: nn.Module) -> None:
    """Refuses what the baseline cannot be built around.

    Raises:
        InputError: the policy is no CogACT, or transformers is not installed.
    """
    if not isinstance(model.config, CogACTConfig):
        raise InputError(
            f'the eager baseline reproduces CogACT, model {model.config.name!r} has no diffusion '
            'head; expected a CogACT policy'
        )
    transformers()


class EagerBaseline:
    """CogACT's inference without any of this package's savings (arXiv 2411.19650).

    The networks are transformers' (SigLIP, DINOv2 with registers, Llama) and a plain DiT. They
    share the policy's tensors, so the baseline costs hardly any memory; q, k and v of the towers
    are separate products on views of the fused matrix. As in the original:

    * the image is resized by Pillow and normalised on the host, once for each tower;
    * every block and the final norm of both towers run, although the second-to-last block's
      output is taken;
    * the cognition feature is a by-product of `generate(max_new_tokens=1)`: hidden states of
      all layers, a key-value cache and the logits of all positions are made and thrown away;
    * the head runs in float32 under `StepwiseSampler`.

    Weights that only these unused parts have are random.
    """

    def __init__(
        self,
        model: nn.Module,
        statistics: ActionStatistics,
        *,
        steps: int | None = None,
        guidance: float | None = None,
    ) -> None:
        """Builds the networks around the tensors of `model`.

        Args:
            model: a CogACT policy with its weights.
            statistics: of the data set that actions are un-normalised with.
            steps: DDIM steps; None takes the policy's.
            guidance: classifier-free guidance scale; None takes the policy's.

        Raises:
            InputError: see `check_model`.
        """
        check_model(model)
        config = model.config
        self._config: CogACTConfig = config
        self._statistics = statistics
        state = {name: value.detach() for name, value in model.state_dict().items()}
        side, patch = config.image_size, config.patch_size
        towers = {name: _below(state, f'vision_backbone.{name}_featurizer.') for name in _TOWERS}
        self._dino = dino_tower(config.dino, side, patch, towers['dino'])
        self._siglip = siglip_tower(config.siglip, side, patch, towers['siglip'])
        self._projector = _projector(config, _below(state, 'projector.projector.'))
        self._llama = llama(config.llm, _below(state, 'llm_backbone.llm.'))
        head = _head(config, _below(state, 'action_model.net.'))
        self._sampler = StepwiseSampler(
            head,
            steps=config.head.ddim_steps if steps is None else steps,
            guidance=config.head.guidance if guidance is None else guidance,
            num_steps=config.head.diffusion_steps,
        )
        self._device = towers['dino']['pos_embed'].device
        self._dtype = towers['dino']['pos_embed'].dtype

    @torch.inference_mode()
    def run(self, image: np.ndarray, ids: Tensor, noise: Tensor, watch: Stopwatch) -> np.ndarray:
        """Plans from one image, booking the stages that the engine books.

        Args:
            image: uint8 [height, width, 3], RGB.
            ids: prompt with BOS first and the cognition token last [1, T].
            noise: initial noise, float32 [1, horizon, action_dim].
            watch: books preprocess, vision, language, action_head and postprocess.

        Returns:
            Un-normalised actions, float64 [horizon, action_dim].
        """
        actions = self._physical(self.normalised(image, ids, noise, watch))
        watch.lap('postprocess')
        return actions

    @torch.inference_mode()
    def normalised(
        self, image: np.ndarray, ids: Tensor, noise: Tensor, watch: Stopwatch
    ) -> np.ndarray:
        """As `run`, without post-processing: float64 [horizon, action_dim], not clipped."""
        pixels = self.pixels(image)
        watch.lap('preprocess')
        visual = self.visual_tokens(*pixels)
        watch.lap('vision')
        cognition = self.cognition(visual, ids)
        watch.lap('language')
        sample = self.sample(cognition, noise)[0].cpu().numpy()
        watch.lap('action_head')
        return sample.astype(np.float64)

    def pixels(self, image: np.ndarray) -> tuple[Tensor, Tensor]:
        """Resizes and normalises uint8 [H, W, 3] for each tower: DINOv2's, SigLIP's.

        Returns:
            Two tensors [1, 3, size, size] in the towers' dtype, on their device.
        """
        from PIL import Image

        side, found = self._config.image_size, []
        for tower in (self._config.dino, self._config.siglip):
            resized = Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC)
            scaled = torch.from_numpy(np.array(resized)).permute(2, 0, 1).float() / 255.0
            mean, std = (torch.tensor(v).view(3, 1, 1) for v in (tower.mean, tower.std))
            found.append(((scaled - mean) / std).unsqueeze(0).to(self._device, self._dtype))
        return found[0], found[1]

    def visual_tokens(self, dino: Tensor, siglip: Tensor) -> Tensor:
        """Maps the towers' images [1, 3, S, S] to tokens [1, patches, llm width]."""
        first = self._dino(dino, output_hidden_states=True).hidden_states[-2]
        second = self._siglip(siglip, output_hidden_states=True).hidden_states[-2]
        patches = first[:, self._config.dino.prefix_tokens :]
        return self._projector(torch.cat((patches, second), dim=-1))

    def cognition(self, visual: Tensor, ids: Tensor) -> Tensor:
        """Generates one token after [BOS][patches][rest of the prompt].

        Args:
            visual: tokens [1, patches, llm width].
            ids: prompt [1, T].

        Returns:
            The last position's hidden state after the final norm, [1, llm width].
        """
        text = self._llama.get_input_embeddings()(ids)
        output = self._llama.generate(
            inputs_embeds=torch.cat((text[:, :1], visual, text[:, 1:]), dim=1),
            max_new_tokens=1,
            do_sample=False,
            output_hidden_states=True,
            return_dict_in_generate=True,
            logits_to_keep=0,  # all positions, as in the version that CogACT was released with
        )
        return output.hidden_states[0][-1][:, -1]

    def sample(self, cognition: Tensor, noise: Tensor) -> Tensor:
        """Draws normalised actions [1, H, A], not clipped, from a feature [1, llm width]."""
        return self._sampler.sample(cognition.float(), noise)

    def _physical(self, normalised: np.ndarray) -> np.ndarray:
        # [H, A]: clip, gripper to 0 or 1, quantiles back to physical units where masked.
        values = np.clip(normalised, -1.0, 1.0)
        values[:, GRIPPER] = np.where(values[:, GRIPPER] < 0.5, 0.0, 1.0)
        low, high = self._statistics.q01, self._statistics.q99
        return np.where(self._statistics.mask, 0.5 * (values + 1.0) * (high - low) + low, values)


_TOWERS = ('dino', 'siglip')


def _below(state: State, prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


def _projector(config: VLMConfig, state: State) -> nn.Module:
    hidden, width = config.projector_width, config.llm.width
    with torch.device('meta'):
        layers = nn.Sequential(
            nn.Linear(config.vision_width, hidden),
            nn.GELU(),
            nn.Linear(hidden, width),
            nn.GELU(),
            nn.Linear(width, width),
        )
    layers.load_state_dict(state, assign=True)
    return layers.requires_grad_(False).eval()


def _head(config: CogACTConfig, state: State) -> EagerDiT:
    with torch.device('meta'):
        head = EagerDiT(config.head, config.llm.width)
    head.load_state_dict({k: v.float() for k, v in state.items()}, assign=True)
    return head.requires_grad_(False).eval()
