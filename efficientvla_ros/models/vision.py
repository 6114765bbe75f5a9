"""The two vision towers and their fusion, with the parameter names of the released files."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from efficientvla_ros.models.config import ViTConfig, VLMConfig

_NORM_EPS = 1e-6


class PatchEmbed(nn.Module):
    """Cuts an image in patches and maps each linearly to a token."""

    def __init__(self, patch_size: int, width: int) -> None:
        """Creates a projection of `patch_size` square patches to `width` channels."""
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch_size, stride=patch_size)

    def forward(self, image: Tensor) -> Tensor:
        """Maps [B, 3, S, S] to [B, patches, width], row by row from the top left."""
        # A strided convolution without overlap is one matrix product on unfolded patches,
        # which is far faster than the convolution on a CPU and the same on a GPU.
        size = self.proj.kernel_size[0]
        patches = F.unfold(image, size, stride=size).transpose(1, 2)  # [B, N, 3 * size * size]
        return F.linear(patches, self.proj.weight.flatten(1), self.proj.bias)


class Attention(nn.Module):
    """Multi-head self-attention with a fused q, k, v matrix."""

    def __init__(self, width: int, heads: int) -> None:
        """Creates attention of `heads` heads over `width` channels."""
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Mixes tokens [B, N, D], every one seeing all others."""
        batch, tokens, width = x.shape
        qkv = self.qkv(x).view(batch, tokens, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each [B, heads, N, head_dim]
        mixed = F.scaled_dot_product_attention(q, k, v)
        return self.proj(mixed.transpose(1, 2).reshape(batch, tokens, width))


class Mlp(nn.Module):
    """Two linear maps with GELU between."""

    def __init__(self, width: int, hidden: int, approximate: str = 'none') -> None:
        """Creates the MLP; `approximate` is `'none'` for exact GELU or `'tanh'`."""
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)
        self.approximate = approximate

    def forward(self, x: Tensor) -> Tensor:
        """Maps [..., D] to [..., D]."""
        return self.fc2(F.gelu(self.fc1(x), approximate=self.approximate))


class LayerScale(nn.Module):
    """Learned gain per channel of a residual branch."""

    def __init__(self, width: int) -> None:
        """Creates unit gains."""
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Scales [..., D]."""
        return x * self.gamma


class ViTBlock(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, config: ViTConfig) -> None:
        """Creates a block of the tower described by `config`."""
        super().__init__()
        width = config.width
        self.norm1 = nn.LayerNorm(width, eps=_NORM_EPS)
        self.attn = Attention(width, config.heads)
        self.ls1 = LayerScale(width) if config.layer_scale else nn.Identity()
        self.norm2 = nn.LayerNorm(width, eps=_NORM_EPS)
        self.mlp = Mlp(width, config.mlp_width)
        self.ls2 = LayerScale(width) if config.layer_scale else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Maps [B, N, D] to [B, N, D]."""
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))


class ViT(nn.Module):
    """A vision tower up to its second-to-last block, without final norm."""

    def __init__(self, config: ViTConfig, num_patches: int, patch_size: int) -> None:
        """Creates the tower for `num_patches` patches of `patch_size` pixels."""
        super().__init__()
        self.prefix_tokens = config.prefix_tokens
        self.patch_embed = PatchEmbed(patch_size, config.width)
        self.pos_embed = nn.Parameter(torch.zeros(1, num_patches, config.width))
        if config.prefix_tokens:
            self.cls_token = nn.Parameter(torch.zeros(1, 1, config.width))
            registers = config.prefix_tokens - 1
            self.reg_token = nn.Parameter(torch.zeros(1, registers, config.width))
        self.blocks = nn.ModuleList(ViTBlock(config) for _ in range(config.blocks_used))
        for name in ('mean', 'std'):
            value = torch.tensor(getattr(config, name), device='cpu').view(1, 3, 1, 1)
            self.register_buffer(name, value, persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Maps images [B, 3, S, S] with values in [0, 1] to patch tokens [B, patches, D]."""
        # Normalised in float32 whatever the parameters' type, as the reference does.
        pixels = ((image - self.mean) / self.std).to(self.pos_embed.dtype)
        x = self.patch_embed(pixels) + self.pos_embed
        if self.prefix_tokens:
            prefix = torch.cat((self.cls_token, self.reg_token), dim=1)
            x = torch.cat((prefix.expand(len(x), -1, -1), x), dim=1)
        for block in self.blocks:
            x = block(x)
        return x[:, self.prefix_tokens :]


class FusedVisionBackbone(nn.Module):
    """Both towers on the same image; channels are concatenated, DINOv2's first."""

    def __init__(self, config: VLMConfig) -> None:
        """Creates both towers of `config`."""
        super().__init__()
        self.dino_featurizer = ViT(config.dino, config.num_patches, config.patch_size)
        self.siglip_featurizer = ViT(config.siglip, config.num_patches, config.patch_size)

    def forward(self, image: Tensor) -> Tensor:
        """Maps images [B, 3, S, S] in [0, 1] to [B, patches, dino + siglip channels]."""
        return torch.cat((self.dino_featurizer(image), self.siglip_featurizer(image)), dim=-1)


class Projector(nn.Module):
    """Visual features to the language model's width (`fused-gelu-mlp`)."""

    def __init__(self, vision_width: int, hidden: int, llm_width: int) -> None:
        """Creates the three-layer MLP."""
        super().__init__()
        self.projector = nn.Sequential(
            nn.Linear(vision_width, hidden),
            nn.GELU(),
            nn.Linear(hidden, llm_width),
            nn.GELU(),
            nn.Linear(llm_width, llm_width),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Maps [B, patches, vision_width] to [B, patches, llm_width]."""
        return self.projector(features)
