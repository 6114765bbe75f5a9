"""CogACT: fused vision towers, language model, cognition feature, diffusion action head."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from efficientvla_ros.models.config import CogACTConfig
from efficientvla_ros.models.diffusion import sample_actions
from efficientvla_ros.models.dit import ActionModel
from efficientvla_ros.models.llama import LlmBackbone
from efficientvla_ros.models.vision import FusedVisionBackbone, Projector


class CogACT(nn.Module):
    """The four networks of a policy (arXiv 2411.19650), grouped as in the released files."""

    def __init__(self, config: CogACTConfig) -> None:
        """Creates the networks with uninitialised weights; see `init_weights`."""
        super().__init__()
        self.config = config
        self.vision_backbone = FusedVisionBackbone(config)
        self.projector = Projector(config.vision_width, config.projector_width, config.llm.width)
        self.llm_backbone = LlmBackbone(config.llm)
        self.action_model = ActionModel(config.head, config.llm.width)

    def visual_tokens(self, image: Tensor) -> Tensor:
        """Maps images [B, 3, S, S] in [0, 1] to tokens [B, patches, llm width]."""
        return self.projector(self.vision_backbone(image))

    def input_embeddings(self, visual: Tensor, token_ids: Tensor) -> Tensor:
        """Builds [BOS][patches][rest of the prompt] from tokens [B, P, D] and ids [B, T]."""
        text = self.llm_backbone.llm.model.embed_tokens(token_ids)
        return torch.cat((text[:, :1], visual, text[:, 1:]), dim=1)

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
        return self.llm_backbone.llm.model(x, layers=layers)[:, -1]

    def sample(
        self,
        cognition: Tensor,
        noise: Tensor,
        *,
        steps: int | None = None,
        guidance: float | None = None,
    ) -> Tensor:
        """Draws normalised actions [B, horizon, action_dim] from noise of that shape.

        The head runs in float32 whatever the language model's type, as in the reference.
        """
        head = self.config.head
        net = self.action_model.net
        return sample_actions(
            net,
            cognition.to(net.positional_embedding.dtype),
            noise,
            steps=head.ddim_steps if steps is None else steps,
            guidance=head.guidance if guidance is None else guidance,
            num_steps=head.diffusion_steps,
        )

    def forward(self, image: Tensor, token_ids: Tensor, noise: Tensor) -> Tensor:
        """Image [1, 3, S, S], ids [1, T] and noise [1, H, A] to normalised actions [1, H, A]."""
        return self.sample(self.cognition(self.visual_tokens(image), token_ids), noise)


@torch.no_grad()
def init_weights(model: CogACT, seed: int = 0) -> CogACT:
    """Fills a policy with reproducible random weights, scaled for training from scratch."""
    generator = torch.Generator().manual_seed(seed)

    def normal(parameter: Tensor, std: float) -> None:
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * std)

    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            normal(module.weight, module.weight[0].numel() ** -0.5)
            if module.bias is not None:
                module.bias.zero_()
        elif isinstance(module, nn.Embedding):
            normal(module.weight, 0.5)
    for tower in (model.vision_backbone.dino_featurizer, model.vision_backbone.siglip_featurizer):
        normal(tower.pos_embed, 0.3)
        if tower.prefix_tokens:
            normal(tower.cls_token, 0.3)
            normal(tower.reg_token, 0.3)
    net = model.action_model.net
    normal(net.positional_embedding, 0.3)
    normal(net.z_embedder.uncondition, 0.3)
    # Residual branches start small, so that a deep stack begins close to the identity.
    for layer in model.llm_backbone.llm.model.layers:
        layer.self_attn.o_proj.weight.mul_(0.3)
        layer.mlp.down_proj.weight.mul_(0.3)
    net.final_layer.linear.weight.mul_(0.1)
    return model
