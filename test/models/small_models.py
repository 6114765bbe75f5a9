"""Policies that are small enough to build and run in milliseconds."""

from efficientvla_ros.models.config import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    CogACTConfig,
    DiTConfig,
    LlamaConfig,
    OpenVLAConfig,
    ViTConfig,
)
from efficientvla_ros.models.openvla import OpenVLA
from efficientvla_ros.models.random_weights import init_weights

IMAGE, PATCH = 56, 14


def small_config(kv_heads: int = 4) -> CogACTConfig:
    return CogACTConfig(
        name='small',
        dino=ViTConfig(
            32, 3, 4, 64, prefix_tokens=5, layer_scale=True, mean=IMAGENET_MEAN, std=IMAGENET_STD
        ),
        siglip=ViTConfig(48, 4, 4, 80),
        llm=LlamaConfig(
            width=64,
            layers=3,
            heads=4,
            kv_heads=kv_heads,
            mlp_width=96,
            vocab_size=64,
            max_positions=64,
        ),
        head=DiTConfig(width=32, depth=2, heads=4, horizon=6),
        image_size=IMAGE,
        projector_width=96,
        prompt_template='{instruction}',
        suffix_ids=(2,),
    )


def tiny_openvla(kv_heads: int = 4, seed: int = 0) -> OpenVLA:
    base = small_config(kv_heads)
    config = OpenVLAConfig(
        name='tiny',
        dino=base.dino,
        siglip=base.siglip,
        llm=base.llm,
        image_size=base.image_size,
        projector_width=base.projector_width,
        action_vocab_end=64,
        suffix_ids=(5,),
    )
    model = init_weights(OpenVLA(config), seed).eval().requires_grad_(False)
    # Far apart scores, so that rounding decides no token; and no end of sequence, at which the
    # generation of transformers would stop.
    model.llm_backbone.llm.lm_head.weight.mul_(5.0)[2] = 0.0
    return model
