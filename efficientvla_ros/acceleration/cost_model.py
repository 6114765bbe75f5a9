"""Counts what one tick of a policy takes, from its configuration and a `Workload` alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from efficientvla_ros.acceleration import network_work as networks
from efficientvla_ros.acceleration.cost import Component, Cost, Pass
from efficientvla_ros.acceleration.network_work import Work
from efficientvla_ros.models.config import CogACTConfig, OpenVLAConfig, VLMConfig
from efficientvla_ros.models.diffusion import ddim_timesteps

DTYPE_BYTES = {'float32': 4, 'bfloat16': 2}
_HEAD_BYTES = DTYPE_BYTES['float32']


class WorkloadError(ValueError):
    """A workload that the model cannot take; the message quotes the bad value."""


@dataclass(frozen=True)
class Workload:
    """What a tick asks of the model.

    Attributes:
        prompt_tokens: ids of the prompt, with the first (BOS) and the appended ones.
        ddim_steps: sampling steps; None takes the model's.
        guidance: classifier-free guidance scale; above 1 every chunk is computed twice.
            None takes the model's.
        dtype: type of the vision-language model's weights, a key of `DTYPE_BYTES`. The
            diffusion head is float32 whatever this is.
        original: count what the original code runs: both towers' last block, all positions
            in the last decoder layer, `lm_head` at all positions, and time and condition
            embedded at every sampling step. The results are the same.
    """

    prompt_tokens: int = 30
    ddim_steps: int | None = None
    guidance: float | None = None
    dtype: str = 'bfloat16'
    original: bool = False

    def __post_init__(self) -> None:
        """Refuses what no model takes."""
        if self.prompt_tokens < 2:
            raise WorkloadError(
                f'{self.prompt_tokens} prompt tokens, expected at least 2: the first id and the '
                'last one'
            )
        if self.dtype not in DTYPE_BYTES:
            raise WorkloadError(
                f'dtype {self.dtype!r} is unknown, expected one of {", ".join(DTYPE_BYTES)}'
            )


def tick_cost(config: CogACTConfig | OpenVLAConfig, workload: Workload) -> Cost:
    """Counts one tick with one camera image.

    Raises:
        WorkloadError: the prompt does not fit the model's positions, or a setting of the
            diffusion head was given for a model without one.
        ScheduleError: the number of sampling steps does not divide the schedule.
    """
    tokens = config.num_patches + workload.prompt_tokens
    last_position = tokens + _decoding_steps(config)
    if last_position > config.llm.max_positions:
        raise WorkloadError(
            f'{workload.prompt_tokens} prompt tokens, model {config.name} takes at most '
            f'{config.llm.max_positions - last_position + workload.prompt_tokens}'
        )
    components = [*_vision(config, workload), *_language(config, workload)]
    if isinstance(config, CogACTConfig):
        components.append(_action_head(config, workload))
    elif workload.ddim_steps is not None or workload.guidance is not None:
        raise WorkloadError(
            f'sampling steps or guidance given, but model {config.name} has no diffusion head'
        )
    keeps_cache = workload.original or isinstance(config, OpenVLAConfig)
    cache = _cache_bytes(config, workload, last_position) if keeps_cache else 0
    return Cost(tuple(components), cache)


def _vision(config: VLMConfig, workload: Workload) -> Iterator[Component]:
    size, patches = DTYPE_BYTES[workload.dtype], config.num_patches
    for name, tower in (('dino', config.dino), ('siglip', config.siglip)):
        tokens = patches + tower.prefix_tokens
        used = networks.vit(tower, patches, config.patch_size)
        passes = [_run('features', used, size)]
        if workload.original:
            passes.append(_run('unused block', networks.vit_block(tower, tokens), size))
        # Widest in the MLP: the block's input, the residual stream, its norm, and the hidden
        # values before and after GELU.
        alive = tokens * (3 * tower.width + 2 * tower.mlp_width)
        held = sum(part.work.weights for part in passes)
        yield Component(name, held, size, alive * size, tuple(passes))
    widths = (config.vision_width, config.projector_width, config.llm.width, config.llm.width)
    work = networks.mlp(patches, widths)
    alive = patches * (config.vision_width + 2 * config.projector_width)
    passes = (_run('projection', work, size),)
    yield Component('projector', work.weights, size, alive * size, passes)


def _language(config: VLMConfig, workload: Workload) -> Iterator[Component]:
    llm, size, original = config.llm, DTYPE_BYTES[workload.dtype], workload.original
    tokens = config.num_patches + workload.prompt_tokens
    steps = _decoding_steps(config)
    table = llm.vocab_size * llm.width
    rows = Work(weights=(workload.prompt_tokens + steps) * llm.width)
    yield Component('embedding', table, size, 0, (_run('look-up', rows, size),))

    prefill = networks.llama(llm, tokens, all_positions=original)
    passes = [_run('prefill', prefill, size)]
    for position in range(tokens, tokens + steps):
        read = _cache_bytes(config, workload, position)
        work = networks.llama(llm, 1, cached=position)
        passes.append(Pass('decoding step', work, work.weights * size, read))
    # Widest in the MLP: embeddings, the layer's input, the output of attention, the residual
    # stream, its norm; SiLU of the gate, up, and their product.
    alive = tokens * (5 * llm.width + 3 * llm.mlp_width)
    yield Component('llm', prefill.weights, size, alive * size, tuple(passes))

    if original or steps:
        first = tokens if original else 1
        logits = [_run('logits', networks.linear(first, llm.width, llm.vocab_size, False), size)]
        if steps:
            one = networks.linear(1, llm.width, llm.vocab_size, False)
            logits.append(_run('logits of a decoding step', one, size, steps))
        alive = first * (llm.width + llm.vocab_size)
        yield Component('lm_head', table, size, alive * size, tuple(logits))


def _action_head(config: CogACTConfig, workload: Workload) -> Component:
    head, width = config.head, config.llm.width
    steps = head.ddim_steps if workload.ddim_steps is None else workload.ddim_steps
    ddim_timesteps(steps, head.diffusion_steps)
    guidance = head.guidance if workload.guidance is None else workload.guidance
    batch = 2 if guidance > 1.0 else 1

    denoise = networks.dit_step(head, batch)
    if workload.original:
        embedded = networks.dit_time(head, batch) + networks.dit_condition(head, width, batch)
        passes = (_run('sampling step', denoise + embedded, _HEAD_BYTES, steps),)
    else:
        # Times and the unconditional feature are constants of the schedule and the model.
        condition = networks.dit_condition(head, width, 1)
        passes = (
            _run('condition', condition, _HEAD_BYTES),
            _run('sampling step', denoise, _HEAD_BYTES, steps),
        )
    held = denoise + networks.dit_time(head, 1) + networks.dit_condition(head, width, 1)
    # As in the towers; the MLP is four times as wide as the tokens.
    alive = batch * (1 + head.horizon) * (3 + 2 * 4) * head.width
    return Component('action_head', held.weights + width, _HEAD_BYTES, alive * _HEAD_BYTES, passes)


def _run(name: str, work: Work, size: int, times: int = 1) -> Pass:
    return Pass(name, work, work.weights * size, times=times)


def _decoding_steps(config: VLMConfig) -> int:
    """Runs of the decoder after the first one; each action token but the last is fed back."""
    return config.action_dim - 1 if isinstance(config, OpenVLAConfig) else 0


def _cache_bytes(config: VLMConfig, workload: Workload, positions: int) -> int:
    """Keys and values of all layers: 2 * layers * positions * kv_heads * head_dim values."""
    llm = config.llm
    values = 2 * llm.layers * positions * llm.kv_heads * llm.head_dim
    return values * DTYPE_BYTES[workload.dtype]
