"""Networks of the released sizes against transformers; prints errors and memory as JSON.

A program of its own, so that the peak of its memory is that of these networks and nothing else.
One part is built at a time, and the oracle shares its weights.
"""

import gc
import json
import resource
import sys
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn
from transformers_oracles import dino_oracle, llama_oracle, siglip_oracle

from efficientvla_ros.models.config import CONFIGS, CogACTConfig
from efficientvla_ros.models.diffusion import DiffusionSampler
from efficientvla_ros.models.dit import DiT
from efficientvla_ros.models.llama import LlamaModel
from efficientvla_ros.models.vision import Projector, ViT

CONFIG: CogACTConfig = CONFIGS['cogact-base']
PROMPT = 30


def built(make: Callable[[], nn.Module]) -> nn.Module:
    """A network with quick random weights of a sensible scale."""
    with torch.device('meta'):
        model = make()
    buffers = dict(model.named_buffers())
    tensors = {}
    for number, (name, meta) in enumerate(model.named_parameters()):
        generator = torch.Generator().manual_seed(number)
        value = torch.empty(meta.shape)
        if ('norm' in name and name.endswith('weight')) or name.endswith('gamma'):
            value.uniform_(0.8, 1.2, generator=generator)
        else:
            bound = meta.shape[1:].numel() ** -0.5 if meta.ndim > 1 else 0.1
            value.uniform_(-bound, bound, generator=generator)
        tensors[name] = value
    model.load_state_dict(tensors, assign=True)
    assert all(buffer.device.type == 'cpu' for buffer in buffers.values())
    return model.eval().requires_grad_(False)


def error(found: Tensor, expected: Tensor) -> float:
    """Largest difference relative to the largest value."""
    return float((found - expected).abs().max() / expected.abs().max())


def tower(name: str) -> dict[str, float]:
    """One vision tower: all of it, and its blocks alone."""
    config = getattr(CONFIG, name)
    ours = built(lambda: ViT(config, CONFIG.num_patches, CONFIG.patch_size))
    oracle = {'dino': dino_oracle, 'siglip': siglip_oracle}[name](
        ours, config, CONFIG.image_size, CONFIG.patch_size
    )
    image = torch.rand(1, 3, CONFIG.image_size, CONFIG.image_size)
    hidden = oracle((image - ours.mean) / ours.std, output_hidden_states=True).hidden_states
    x = hidden[0]
    for block in ours.blocks:
        x = block(x)
    return {
        name: error(ours(image), hidden[-2][:, ours.prefix_tokens :]),
        f'{name} blocks': error(x, hidden[-2]),
    }


def projector() -> dict[str, float]:
    """The projector against its formula, in float64."""
    ours = built(lambda: Projector(CONFIG.vision_width, CONFIG.projector_width, CONFIG.llm.width))
    x = torch.randn(4, CONFIG.vision_width)
    found, y = ours(x), x.double()
    for index in (0, 2, 4):
        layer = ours.projector[index]
        y = y @ layer.weight.double().T + layer.bias.double()
        if index < 4:
            y = y * 0.5 * (1.0 + torch.erf(y / 2.0**0.5))
    return {'projector': error(found.double(), y)}


def decoder() -> dict[str, float]:
    """Two decoder layers of real width, at the length of a real prompt."""
    config = replace(CONFIG.llm, layers=2)
    ours = built(lambda: LlamaModel(config))
    x = torch.randn(1, CONFIG.num_patches + PROMPT, config.width)
    expected = llama_oracle(ours, config)(inputs_embeds=x).last_hidden_state
    last = ours(x, last_position_only=True)
    return {'decoder': error(ours(x), expected), 'cognition': error(last, expected[:, -1:])}


def head() -> dict[str, float]:
    """The diffusion head: ten guided steps in float32 against float64."""
    config = CONFIG.head
    ours = built(lambda: DiT(config, CONFIG.llm.width))
    z = torch.randn(1, CONFIG.llm.width)
    noise = torch.randn(1, config.horizon, config.action_dim)
    options = {'steps': config.ddim_steps, 'guidance': config.guidance}
    found = DiffusionSampler(ours, **options)(z, noise)
    expected = DiffusionSampler(ours.double(), **options)(z.double(), noise.double())
    return {'head': error(found.double(), expected)}


def main() -> None:
    """Runs all parts."""
    torch.manual_seed(0)
    errors: dict[str, float] = {}
    parts = [lambda: tower('dino'), lambda: tower('siglip'), projector, decoder, head]
    for part in parts:
        errors |= part()
        gc.collect()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    json.dump({'errors': errors, 'peak_bytes': peak}, sys.stdout)


if __name__ == '__main__':
    main()
