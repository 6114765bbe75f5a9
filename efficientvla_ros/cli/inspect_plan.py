"""The part of `efficientvla inspect` about a plan: what it leaves out, and how papers count it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from efficientvla_ros.acceleration.config import AccelerationConfig
    from efficientvla_ros.acceleration.cost import Cost
    from efficientvla_ros.acceleration.cost_conventions import Convention
    from efficientvla_ros.acceleration.cost_model import Workload
    from efficientvla_ros.acceleration.plan_counts import PlanCounts
    from efficientvla_ros.cli.inspect_report import Hardware
    from efficientvla_ros.models.config import CogACTConfig, OpenVLAConfig


@dataclass(frozen=True)
class ChosenPlan:
    """What was asked for.

    Attributes:
        preset: name of the preset; None where only counts were given.
        acceleration: the preset's settings with those counts.
        counts: how much of the model runs.
    """

    preset: str | None
    acceleration: AccelerationConfig
    counts: PlanCounts


def chosen_plan(
    config: CogACTConfig | OpenVLAConfig, preset: str | None, overrides: Mapping[str, Any]
) -> ChosenPlan | None:
    """The preset with some of its settings replaced; None where neither is given.

    Args:
        config: sizes.
        preset: its name; None is the dense plan.
        overrides: fields of `AccelerationConfig`; those that are None stay as they are.

    Raises:
        ValueError: a name or a setting that cannot be used; the message quotes it.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    if preset is None and not given:
        return None
    from efficientvla_ros.acceleration.plan_counts import plan_counts
    from efficientvla_ros.acceleration.presets import preset as settings_of

    acceleration = replace(settings_of(preset or 'dense', config), **given)
    return ChosenPlan(preset, acceleration, plan_counts(config, acceleration))


def plan_report(
    config: CogACTConfig | OpenVLAConfig,
    workload: Workload,
    hardware: Hardware,
    embedded: bool,
    chosen: ChosenPlan,
) -> dict[str, Any]:
    """What the workload's plan leaves out, and its cost in all conventions beside the dense one.

    Args:
        config: sizes.
        workload: with the plan's counts.
        hardware: peak rates for the floor.
        embedded: as for `cost_report`.
        chosen: where the counts come from.

    Raises:
        WorkloadError, ScheduleError: the plan does not fit the model.
    """
    from efficientvla_ros.acceleration.cost_conventions import CONVENTIONS, cost_by
    from efficientvla_ros.acceleration.plan_counts import PlanCounts
    from efficientvla_ros.cli.inspect_report import file_parameters

    in_file = file_parameters(config, embedded)
    plan, dense = workload.plan, replace(workload, plan=PlanCounts())
    head = getattr(config, 'head', None)
    steps = workload.ddim_steps or (head.ddim_steps if head else 0)
    return {
        'preset': chosen.preset,
        'acceleration': chosen.acceleration.to_dict(),
        'kept': {
            'layers': [plan.kept_layers(config), config.llm.layers],
            'visual_tokens': [plan.kept_tokens(config), config.num_patches],
            'mlp_channels': [plan.kept_channels(config), config.llm.mlp_width],
            'heads': [plan.kept_heads(config), config.llm.heads],
            **({'sampling_steps': [plan.full_steps(steps), steps]} if steps else {}),
        },
        'scoring_layer': plan.scoring_layer,
        'notes': _notes(config, chosen),
        'conventions': [
            _convention(
                convention,
                *(cost_by(convention, config, each, in_file) for each in (dense, workload)),
                hardware,
            )
            for convention in CONVENTIONS
        ],
    }


def _notes(config: CogACTConfig | OpenVLAConfig, chosen: ChosenPlan) -> list[str]:
    """What was asked for and is not part of the counts."""
    from efficientvla_ros.acceleration.config import GAP_METHODS

    asked, notes = chosen.acceleration, []
    if asked.adapts_channels and asked.channels_method in GAP_METHODS:
        notes.append('between ticks the whole decoder runs once for each choice; not counted')
    elif asked.adapts_channels:
        notes.append('ticks that choose channels run whole decoder layers; counted are the others')
    if asked.cache_interval != chosen.counts.cache_interval:
        notes.append(f'feature cache stays off: model {config.name} has no diffusion head')
    elif asked.caches and asked.cache_threshold > 0:
        notes.append('steps that the cache threshold refreshes depend on the scene; not counted')
    return notes


def _convention(
    convention: Convention, dense: Cost, plan: Cost, hardware: Hardware
) -> dict[str, Any]:
    return {
        'name': convention.name,
        'label': convention.label,
        'prompt_tokens': convention.prompt_tokens,
        'unit': 'FLOP' if convention.flops_per_mac == 2 else 'MAC',
        'dense': _figures(convention, dense, hardware),
        'plan': _figures(convention, plan, hardware),
        'share': plan.macs / dense.macs,
    }


def _figures(convention: Convention, cost: Cost, hardware: Hardware) -> dict[str, Any]:
    return {
        'parameters': cost.parameters,
        'operations': convention.flops_per_mac * cost.macs,
        'bytes_read': cost.bytes_read,
        'floor_s': cost.floor_seconds(*hardware.rates),
    }
