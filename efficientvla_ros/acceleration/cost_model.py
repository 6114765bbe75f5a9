"""Counts what one tick of a policy takes, from its configuration and a `Workload` alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from efficientvla_ros.acceleration import network_work as networks
from efficientvla_ros.acceleration.cost import Component, Cost, Pass
from efficientvla_ros.acceleration.network_work import Work
from efficientvla_ros.acceleration.plan_counts import PlanCounts, WorkloadError
from efficientvla_ros.acceleration.token_counts import token_counts
from efficientvla_ros.models.config import CogACTConfig, OpenVLAConfig, VLMConfig
from efficientvla_ros.models.diffusion import ddim_timesteps

DTYPE_BYTES = {'float32': 4, 'bfloat16': 2}
_HEAD_BYTES = DTYPE_BYTES['float32']


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
        plan: what is left out of the model.
    """

    prompt_tokens: int = 30
    ddim_steps: int | None = None
    guidance: float | None = None
    dtype: str = 'bfloat16'
    original: bool = False
    plan: PlanCounts = field(default_factory=PlanCounts)

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
        if self.original and not self.plan.dense:
            raise WorkloadError('the original code leaves nothing out, expected the dense plan')


def tick_cost(config: CogACTConfig | OpenVLAConfig, workload: Workload) -> Cost:
    """Counts one tick with one camera image.

    Raises:
        WorkloadError: the prompt or the plan does not fit the model, or a setting of the
            diffusion head was given for a model without one.
        ScheduleError: the number of sampling steps does not divide the schedule.
    """
    workload.plan.check(config)
    tokens = config.num_patches + workload.prompt_tokens
    last_position = tokens + decoding_steps(config)
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
    cache = 0
    if keeps_cache:
        steps = decoding_steps(config)
        cache = sum(
            _cache_bytes(config, workload, part, steps) for part in decoder_stack(config, workload)
        )
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
    steps = decoding_steps(config)
    table = llm.vocab_size * llm.width
    rows = Work(weights=(workload.prompt_tokens + steps) * llm.width)
    yield Component('embedding', table, size, 0, (_run('look-up', rows, size),))

    stack = decoder_stack(config, workload)
    passes = list(_prefill(config, workload, stack))
    held = sum(run.work.weights for run in passes)
    if workload.plan.channels is not None:
        held = _with_slots(config, workload, stack)
    for step in range(steps):
        work, read = networks.final_norm(llm), 0
        for part in stack:
            work += part_work(config, workload, part, 1, part.tokens + step)
            read += _cache_bytes(config, workload, part, step)
        passes.append(Pass('decoding step', work, work.weights * size, read))
    # Widest in the MLP: embeddings, the layer's input, the output of attention, the residual
    # stream, its norm; SiLU of the gate, up, and their product. The layer that scores tokens
    # still has its queries, keys and values then.
    scores = workload.plan.tokens is not None and workload.plan.tokens.needs_scores
    channels = workload.plan.kept_channels(config)
    alive = tokens * ((8 if scores else 5) * llm.width + 3 * channels)
    yield Component('llm', held, size, alive * size, tuple(passes))

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

    full = workload.plan.full_steps(steps)
    denoise = networks.dit_step(head, batch)
    if workload.original:
        embedded = networks.dit_time(head, batch) + networks.dit_condition(head, width, batch)
        passes = [_run('sampling step', denoise + embedded, _HEAD_BYTES, steps)]
    else:
        # Times and the unconditional feature are constants of the schedule and the model.
        condition = networks.dit_condition(head, width, 1)
        passes = [
            _run('condition', condition, _HEAD_BYTES),
            _run('sampling step', denoise, _HEAD_BYTES, full),
        ]
    if full < steps:
        reused = networks.dit_step(head, batch, blocks=False)
        passes.append(_run('reused sampling step', reused, _HEAD_BYTES, steps - full))
    held = denoise + networks.dit_time(head, 1) + networks.dit_condition(head, width, 1)
    # As in the towers; the MLP is four times as wide as the tokens.
    alive = batch * (1 + head.horizon) * (3 + 2 * 4) * head.width
    return Component(
        'action_head', held.weights + width, _HEAD_BYTES, alive * _HEAD_BYTES, tuple(passes)
    )


def _run(name: str, work: Work, size: int, times: int = 1) -> Pass:
    return Pass(name, work, work.weights * size, times=times)


def decoding_steps(config: VLMConfig) -> int:
    """Runs of the decoder after the first one; each action token but the last is fed back."""
    return config.action_dim - 1 if isinstance(config, OpenVLAConfig) else 0


@dataclass(frozen=True)
class StackPart:
    """Decoder layers that run on the same tokens.

    Attributes:
        name: what a pass through them is called.
        layers: how many.
        tokens: positions that they see, the prompt's included.
        scores: whether the attention of the last of them scores tokens.
    """

    name: str
    layers: int
    tokens: int
    scores: bool = False


def decoder_stack(config: VLMConfig, workload: Workload) -> list[StackPart]:
    """Divides the decoder layers that run where visual tokens are dropped."""
    plan, prompt = workload.plan, workload.prompt_tokens
    layers, everything = plan.kept_layers(config), config.num_patches + prompt
    if plan.tokens is None:
        return [StackPart('prefill', layers, everything)]
    first = plan.scoring_layer + 1
    return [
        StackPart('prefill, all tokens', first, everything, plan.tokens.needs_scores),
        StackPart('prefill, kept tokens', layers - first, plan.tokens.keep + prompt),
    ]


def part_work(
    config: VLMConfig,
    workload: Workload,
    part: StackPart,
    tokens: int,
    cached: int = 0,
    *,
    last_position_only: bool = False,
    causal: bool = True,
) -> Work:
    """What the layers of a part take for `tokens` new positions; see `llama_layers`."""
    plan, layers = workload.plan, part.layers - part.scores
    work = networks.llama_layers(
        config.llm,
        layers,
        tokens,
        cached,
        last_position_only=last_position_only,
        causal=causal,
        **plan.layer_sizes(),
    )
    if part.scores:
        sizes = plan.layer_sizes(scores=True)
        work += networks.llama_layer(config.llm, tokens, tokens, cached, causal=causal, **sizes)
    return work


def _with_slots(config: VLMConfig, workload: Workload, stack: list[StackPart]) -> int:
    """Weights of the whole layers that run, of their slots, and what fills these."""
    llm, plan = config.llm, workload.plan
    kept = [(part.layers - part.scores, plan.channels.heads) for part in stack]
    kept += [(1, llm.heads) for part in stack if part.scores]
    slots = sum(
        layers * networks.slot_values(llm, plan.channels.mlp, heads) for layers, heads in kept
    )
    layers = plan.kept_layers(config)
    whole = networks.llama_layers(llm, layers, 1) + networks.final_norm(llm)
    return whole.weights + slots + layers * networks.row_copies(llm)


def _prefill(config: VLMConfig, workload: Workload, stack: list[StackPart]) -> Iterator[Pass]:
    llm, size = config.llm, DTYPE_BYTES[workload.dtype]
    for part in stack:
        final = part is stack[-1]
        only_last = final and not workload.original
        work = part_work(config, workload, part, part.tokens, last_position_only=only_last)
        yield _run(part.name, work + networks.final_norm(llm) if final else work, size)
        if not final:
            yield _run('token selection', _selection(config, workload), size)


def _selection(config: VLMConfig, workload: Workload) -> Work:
    """Attention of all text rows to everything, and cosines for diversity."""
    options, patches, width = workload.plan.tokens, config.num_patches, config.llm.width
    work = Work()
    if options.needs_scores:
        tokens = patches + workload.prompt_tokens
        work += networks.attention_scores(config.llm, workload.prompt_tokens - 1, tokens)
    counts = token_counts(options.keep, options.key, options.alpha)
    if options.method == 'efficientvla' and counts.diversity:
        others = counts.key if options.diversity == 'key' else patches
        work += networks.cosines(width, patches, others)
    return work


def _cache_bytes(config: VLMConfig, workload: Workload, part: StackPart, steps: int) -> int:
    """Keys and values: 2 * layers * positions * kv_heads * head_dim values."""
    llm, positions = config.llm, part.tokens + steps
    kv_heads = min(llm.kv_heads, workload.plan.kept_heads(config))
    heads = (part.layers - part.scores) * kv_heads + part.scores * llm.kv_heads
    values = 2 * heads * positions * llm.head_dim
    return values * DTYPE_BYTES[workload.dtype]
