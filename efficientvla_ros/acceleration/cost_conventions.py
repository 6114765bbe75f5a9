"""The cost of a plan as the two papers count it, for comparison with their tables.

Their percentages are of different wholes, and neither is what this package runs:

    EfficientVLA (arXiv 2506.10100)  2 FLOPs for a MAC; the whole model with `lm_head` at all
                                     positions; prompts of 23 ids (279 positions)
    EcoVLA (arXiv 2602.00780)        MACs of the decoder layers alone; 20 ids (276 positions)

Both take all S^2 pairs of causal attention and every position in the last layer. Neither says
so: these rules are those with which the published numbers come out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from efficientvla_ros.acceleration import network_work as networks
from efficientvla_ros.acceleration.cost import Component, Cost, Pass
from efficientvla_ros.acceleration.cost_model import (
    DTYPE_BYTES,
    Workload,
    decoder_stack,
    part_work,
    tick_cost,
)
from efficientvla_ros.models.config import CogACTConfig, OpenVLAConfig


@dataclass(frozen=True)
class Convention:
    """How a paper counts.

    Attributes:
        name: key in reports.
        label: what is counted, for people.
        prompt_tokens: ids of the prompt; None takes the workload's.
        flops_per_mac: 2 where FLOPs are given, 1 where MACs are.
    """

    name: str
    label: str
    prompt_tokens: int | None
    flops_per_mac: int


OURS = Convention('ours', 'what runs', None, 2)
EFFICIENTVLA = Convention('efficientvla', 'EfficientVLA: whole model', 23, 2)
ECOVLA = Convention('ecovla', 'EcoVLA: decoder layers', 20, 1)
CONVENTIONS = (OURS, EFFICIENTVLA, ECOVLA)


def cost_by(
    convention: Convention,
    config: CogACTConfig | OpenVLAConfig,
    workload: Workload,
    in_file: Mapping[str, int],
) -> Cost:
    """Counts a tick.

    Args:
        convention: one of `CONVENTIONS`.
        config: sizes.
        workload: what a tick asks of the model.
        in_file: parameters of the checkpoint by component, unused ones included, as papers
            count them.

    Raises:
        WorkloadError, ScheduleError: the workload does not fit the model.
    """
    ours = tick_cost(config, workload)
    if convention.name == OURS.name:
        return ours
    counted = replace(workload, prompt_tokens=convention.prompt_tokens)
    decoder = _decoder(config, counted, ours['llm'])
    if convention.name == ECOVLA.name:
        return Cost((decoder,), ours.cache_bytes)
    scores = _next_token_scores(config, counted, ours)
    others = (
        replace(part, parameters=in_file.get(part.name, part.parameters))
        for part in ours.components
        if part.name not in ('llm', 'lm_head')
    )
    return Cost((*others, decoder, scores), ours.cache_bytes)


def _decoder(
    config: CogACTConfig | OpenVLAConfig, workload: Workload, ours: Component
) -> Component:
    size = DTYPE_BYTES[workload.dtype]
    passes = []
    for part in decoder_stack(config, workload):
        work = part_work(config, workload, part, part.tokens, causal=False)
        passes.append(Pass(part.name, work, work.weights * size))
    decoding = (run for run in ours.passes if run.name == 'decoding step')
    return replace(ours, passes=(*passes, *decoding))


def _next_token_scores(
    config: CogACTConfig | OpenVLAConfig, workload: Workload, ours: Cost
) -> Component:
    llm, size = config.llm, DTYPE_BYTES[workload.dtype]
    rows = decoder_stack(config, workload)[-1].tokens
    work = networks.linear(rows, llm.width, llm.vocab_size, bias=False)
    decoding = (
        run
        for part in ours.components
        for run in part.passes
        if run.name == 'logits of a decoding step'
    )
    alive = rows * (llm.width + llm.vocab_size) * size
    first = Pass('logits', work, work.weights * size)
    return Component('lm_head', work.weights, size, alive, (first, *decoding))
