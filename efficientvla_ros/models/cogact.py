"""CogACT: a vision-language model, its cognition feature, and a diffusion action head."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from efficientvla_ros.models.config import CogACTConfig
from efficientvla_ros.models.diffusion import DiffusionSampler
from efficientvla_ros.models.dit import ActionModel
from efficientvla_ros.models.prismatic import PrismaticVLM


class CogACT(PrismaticVLM):
    """The four networks of a policy (arXiv 2411.19650), grouped as in the released files."""

    config: CogACTConfig

    def __init__(self, config: CogACTConfig) -> None:
        """Creates the networks with uninitialised weights; see `init_weights`."""
        super().__init__(config, lm_head=False)
        self.action_model = ActionModel(config.head, config.llm.width)

    def cognition(
        self, visual: Tensor, token_ids: Tensor, layers: Sequence[int] | None = None
    ) -> Tensor:
        """Runs the language model.

        Args:
            visual: visual tokens [B, patches, llm width].
            token_ids: prompt with BOS first and the cognition token last [B, T].
            layers: decoder layers to run; None runs all.

        Returns:
            Cognition feature [B, llm width]: last position, after the final norm.
        """
        x = self.input_embeddings(visual, token_ids)
        return self.llm_backbone.llm.model(x, layers=layers, last_position_only=True)[:, -1]

    def sampler(
        self, *, steps: int | None = None, guidance: float | None = None
    ) -> DiffusionSampler:
        """A sampler for the head's present weights; None takes the configuration's value.

        The head runs in float32 whatever the language model's type, as in the reference.
        """
        head = self.config.head
        return DiffusionSampler(
            self.action_model.net,
            steps=head.ddim_steps if steps is None else steps,
            guidance=head.guidance if guidance is None else guidance,
            num_steps=head.diffusion_steps,
        )

    def forward(self, image: Tensor, token_ids: Tensor, noise: Tensor) -> Tensor:
        """Image [B, 3, S, S], ids [B, T] and noise [B, H, A] to normalised actions [B, H, A]."""
        return self.sampler()(self.cognition(self.visual_tokens(image), token_ids), noise)
