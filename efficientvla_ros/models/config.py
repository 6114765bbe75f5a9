"""Sizes of the policies, from the embedded model to the released 7-B ones."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, TypeVar

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5)

AnyConfig = TypeVar('AnyConfig', bound='VLMConfig')


class ConfigError(ValueError):
    """A model configuration that cannot be built; the message quotes the bad value."""


@dataclass(frozen=True)
class ViTConfig:
    """One vision tower.

    Attributes:
        width: channels of a token.
        depth: blocks of the published network. Features leave after block `depth - 2`, so
            the last block and the final norm are never built.
        heads: attention heads.
        mlp_width: hidden channels of a block's MLP.
        prefix_tokens: class and register tokens in front of the patches (DINOv2: 5).
        layer_scale: whether residual branches carry a learned gain (DINOv2).
        mean: image mean per channel, of values in [0, 1].
        std: image standard deviation per channel.
    """

    width: int
    depth: int
    heads: int
    mlp_width: int
    prefix_tokens: int = 0
    layer_scale: bool = False
    mean: tuple[float, float, float] = HALF
    std: tuple[float, float, float] = HALF

    @property
    def blocks_used(self) -> int:
        """Blocks whose output matters: features are the second-to-last block's."""
        return self.depth - 1


@dataclass(frozen=True)
class LlamaConfig:
    """The language model (Llama-2 layout)."""

    width: int = 4096
    layers: int = 32
    heads: int = 32
    kv_heads: int = 32
    mlp_width: int = 11008
    vocab_size: int = 32064
    rms_eps: float = 1e-5
    rope_theta: float = 10000.0
    max_positions: int = 4096

    @property
    def head_dim(self) -> int:
        """Channels of one attention head."""
        return self.width // self.heads


@dataclass(frozen=True)
class DiTConfig:
    """The diffusion action head.

    Attributes:
        width: channels of a token.
        depth: transformer blocks.
        heads: attention heads.
        horizon: actions in a chunk (CogACT: future window 15, plus the current action).
        action_dim: values of one action.
        diffusion_steps: length of the noise schedule the head was trained on.
        ddim_steps: default number of sampling steps.
        guidance: default classifier-free guidance scale; 1.0 or less switches it off.
        temperature: scale of the noise that sampling starts from. 1 draws from the learnt
            distribution, whose spread a policy that is unsure adds to its error; 0 goes to the
            distribution's centre.
    """

    width: int
    depth: int
    heads: int
    horizon: int = 16
    action_dim: int = 7
    diffusion_steps: int = 100
    ddim_steps: int = 10
    guidance: float = 1.5
    temperature: float = 1.0


@dataclass(frozen=True, kw_only=True)
class VLMConfig:
    """The vision-language model under a policy: two towers, projector, language model.

    Attributes:
        name: what logs and reports call the model.
        dino: first vision tower; its channels come first in the fused features.
        siglip: second vision tower.
        llm: language model.
        image_size: side of the square network input, pixels.
        patch_size: side of a patch, pixels.
        projector_width: hidden channels of the projector's first layer.
        prompt_template: text around the instruction; `{instruction}` is replaced.
        suffix_ids: token ids appended to the tokenised prompt.
        step_duration: seconds between two actions of a chunk.
        cameras: camera names in the order in which the policy wants them.
    """

    name: str
    dino: ViTConfig
    siglip: ViTConfig
    llm: LlamaConfig
    image_size: int = 224
    patch_size: int = 14
    projector_width: int = 8704
    prompt_template: str = 'In: What action should the robot take to {instruction}?\nOut:'
    suffix_ids: tuple[int, ...] = ()
    step_duration: float = 0.2
    cameras: tuple[str, ...] = field(default=('camera',))

    def __post_init__(self) -> None:
        """Refuses sizes that do not fit together."""
        _require_multiple('image_size', self.image_size, 'patch_size', self.patch_size)
        for label in _PARTS.keys() & {spec.name for spec in fields(self)}:
            part = getattr(self, label)
            _require_multiple(f'{label}.width', part.width, f'{label}.heads', part.heads)
        _require_multiple('llm.heads', self.llm.heads, 'llm.kv_heads', self.llm.kv_heads)
        for label, tower in (('dino', self.dino), ('siglip', self.siglip)):
            if tower.depth < 2:
                raise ConfigError(f'{label}.depth is {tower.depth}, expected at least 2')

    @property
    def num_patches(self) -> int:
        """Visual tokens of one image."""
        return (self.image_size // self.patch_size) ** 2

    @property
    def vision_width(self) -> int:
        """Channels of the fused visual features."""
        return self.dino.width + self.siglip.width

    def to_dict(self) -> dict[str, Any]:
        """Returns a JSON-ready description."""
        return asdict(self)

    @classmethod
    def from_dict(cls: type[AnyConfig], values: dict[str, Any]) -> AnyConfig:
        """Builds a configuration from `to_dict`'s output.

        Raises:
            ConfigError: a key is missing or unknown, or sizes do not fit together.
        """
        parts = _PARTS.keys() & {spec.name for spec in fields(cls)}
        try:
            built = {key: _build(_PARTS[key], values[key]) for key in parts}
            rest = {key: value for key, value in values.items() if key not in parts}
            return _build(cls, {**rest, **built})
        except (KeyError, TypeError) as error:
            raise ConfigError(f'model configuration does not fit: {error}') from error


@dataclass(frozen=True, kw_only=True)
class CogACTConfig(VLMConfig):
    """A policy with a diffusion action head on the cognition feature (arXiv 2411.19650).

    The hidden state of the last of `suffix_ids` is the cognition feature.

    Attributes:
        head: diffusion action head.
    """

    head: DiTConfig
    suffix_ids: tuple[int, ...] = (29871, 2)


@dataclass(frozen=True, kw_only=True)
class OpenVLAConfig(VLMConfig):
    """A policy that writes its action as tokens (arXiv 2406.09246).

    Attributes:
        action_dim: values of one action, one token each.
        action_bins: edges of the bins in [-1, 1]; their centres are the values.
        action_vocab_end: first id after the action tokens, which lie at the end of the
            tokenizer's vocabulary in descending order.
    """

    suffix_ids: tuple[int, ...] = (29871,)
    action_dim: int = 7
    action_bins: int = 256
    action_vocab_end: int = 32000


_PARTS = {'dino': ViTConfig, 'siglip': ViTConfig, 'llm': LlamaConfig, 'head': DiTConfig}


def _build(cls: type, values: dict[str, Any]) -> Any:
    # JSON has no tuples; frozen configurations hold nothing mutable.
    return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


def _require_multiple(name: str, value: int, of_name: str, of: int) -> None:
    if of <= 0 or value <= 0 or value % of:
        raise ConfigError(f'{name} is {value}, expected a positive multiple of {of_name} = {of}')


TABLETOP_PICK = CogACTConfig(
    name='tabletop-pick',
    dino=ViTConfig(
        96, 4, 3, 384, prefix_tokens=5, layer_scale=True, mean=IMAGENET_MEAN, std=IMAGENET_STD
    ),
    siglip=ViTConfig(96, 4, 3, 384),
    llm=LlamaConfig(
        width=128, layers=12, heads=4, kv_heads=4, mlp_width=352, vocab_size=64, max_positions=256
    ),
    head=DiTConfig(width=128, depth=3, heads=4, horizon=8),
    image_size=112,
    projector_width=512,
    prompt_template='{instruction}',
    suffix_ids=(2,),
)


TABLETOP_SMALL = replace(
    TABLETOP_PICK,
    name='tabletop-small',
    llm=replace(TABLETOP_PICK.llm, width=192, layers=24, heads=6, kv_heads=6, mlp_width=528),
    head=DiTConfig(width=96, depth=2, heads=3, temperature=0.0),
)
"""The policy of the six tasks, with CogACT's head window and shares of work."""


TABLETOP = replace(
    TABLETOP_SMALL,
    name='tabletop',
    llm=replace(
        TABLETOP_SMALL.llm, width=256, heads=8, kv_heads=8, mlp_width=704, max_positions=512
    ),
    image_size=224,
)
"""The same with the pictures and the number of visual tokens that CogACT has."""


COGACT_MINI = CogACTConfig(
    name='cogact-mini',
    dino=ViTConfig(
        144, 4, 3, 576, prefix_tokens=5, layer_scale=True, mean=IMAGENET_MEAN, std=IMAGENET_STD
    ),
    siglip=ViTConfig(144, 4, 3, 576),
    llm=LlamaConfig(
        width=256,
        layers=24,
        heads=4,
        kv_heads=4,
        mlp_width=704,
        vocab_size=1024,
        max_positions=512,
    ),
    head=DiTConfig(width=96, depth=2, heads=2),
    projector_width=256,
    prompt_template='{instruction}',
    suffix_ids=(2,),
)
"""CogACT-Base's shares of work at a three-hundredth of its size, for measurements on CPUs with
random weights."""


PRISM_DINOSIGLIP_7B = {
    'dino': ViTConfig(
        1024, 24, 16, 4096, prefix_tokens=5, layer_scale=True, mean=IMAGENET_MEAN, std=IMAGENET_STD
    ),
    'siglip': ViTConfig(1152, 27, 16, 4304),
    'llm': LlamaConfig(),
}
"""Towers and language model of `prism-dinosiglip-224px+7b`."""


def _cogact(name: str, width: int, depth: int, heads: int) -> CogACTConfig:
    return CogACTConfig(name=name, head=DiTConfig(width, depth, heads), **PRISM_DINOSIGLIP_7B)


CONFIGS: dict[str, CogACTConfig | OpenVLAConfig] = {
    config.name: config
    for config in (
        TABLETOP_PICK,
        TABLETOP_SMALL,
        TABLETOP,
        COGACT_MINI,
        _cogact('cogact-small', 384, 6, 4),
        _cogact('cogact-base', 768, 12, 12),
        _cogact('cogact-large', 1024, 24, 16),
        OpenVLAConfig(name='openvla-7b', **PRISM_DINOSIGLIP_7B),
    )
}
"""Known policies by name."""
