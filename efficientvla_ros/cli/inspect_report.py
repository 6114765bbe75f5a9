"""The content of `efficientvla inspect` as plain values, for the tables and for JSON alike."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from efficientvla_ros.acceleration.cost import Component, Cost, Pass
    from efficientvla_ros.acceleration.cost_model import Workload
    from efficientvla_ros.models.config import CogACTConfig, OpenVLAConfig
    from efficientvla_ros.models.verify import Verification

SCHEMA = 'efficientvla_ros/inspect/1'

_NOT_SIZES = {
    'name', 'step_duration', 'cameras', 'head.ddim_steps', 'head.guidance', 'head.temperature',
}  # fmt: skip
"""Fields in which checkpoints of one model may differ."""


@dataclass(frozen=True)
class Hardware:
    """Peak rates of a device.

    Attributes:
        tflops: 10^12 floating-point operations per second.
        gbs: 10^9 bytes of memory traffic per second.
    """

    tflops: float
    gbs: float

    @property
    def rates(self) -> tuple[float, float]:
        """Operations per second, bytes per second."""
        return self.tflops * 1e12, self.gbs * 1e9


def cost_report(
    config: CogACTConfig | OpenVLAConfig,
    workload: Workload,
    hardware: Hardware,
    embedded: bool = False,
) -> dict[str, Any]:
    """Counts a tick as this package runs it, beside the dense plan and the original code.

    Args:
        config: sizes.
        workload: what a tick asks of the model.
        hardware: peak rates for the floor.
        embedded: whether the file has this package's layout, without unused tensors.

    Raises:
        WorkloadError, ScheduleError: the workload does not fit the model.
    """
    from efficientvla_ros.acceleration.cost import Component
    from efficientvla_ros.acceleration.cost_model import tick_cost
    from efficientvla_ros.acceleration.plan_counts import PlanCounts

    cost = tick_cost(config, workload)
    dense = tick_cost(config, replace(workload, plan=PlanCounts()))
    original = tick_cost(config, replace(workload, plan=PlanCounts(), original=True))
    ours, whole = ({part.name: part for part in each.components} for each in (cost, dense))
    in_file = file_parameters(config, embedded)
    nothing = Component('', 0, 0, 0, ())
    return {
        'schema': SCHEMA,
        'model': config.name,
        'config': config.to_dict(),
        'workload': {
            'visual_tokens': config.num_patches,
            **_settings(workload),
            'ddim_steps': _chosen(config, workload, 'ddim_steps'),
            'guidance': _chosen(config, workload, 'guidance'),
        },
        'hardware': asdict(hardware),
        'components': [
            {
                'parameters_in_file': in_file.get(part.name, 0),
                **_component(ours.get(part.name, nothing), part, hardware),
                'dense_macs': whole.get(part.name, nothing).macs,
            }
            for part in original.components
        ],
        'total': {
            'parameters_in_file': sum(in_file.values()),
            'parameters': cost.parameters,
            'macs': cost.macs,
            'flops': cost.flops,
            'dense_macs': dense.macs,
            'dense_floor_s': dense.floor_seconds(*hardware.rates),
            'original_macs': original.macs,
            'original_macs_needed': _needed_macs(original),
            'bytes_read': cost.bytes_read,
            'floor_s': cost.floor_seconds(*hardware.rates),
        },
        'memory': {
            'weight_bytes': cost.weight_bytes,
            'dense_weight_bytes': dense.weight_bytes,
            'cache_bytes': cost.cache_bytes,
            'activation_bytes': cost.activation_bytes,
        },
    }


def file_parameters(config: CogACTConfig | OpenVLAConfig, embedded: bool) -> dict[str, int]:
    """Parameters in the model's file by component; arguments as for `cost_report`."""
    from efficientvla_ros.acceleration.cost_model import Workload, tick_cost
    from efficientvla_ros.models.layout import released_parameters

    if not embedded:
        return released_parameters(config)
    return {part.name: part.parameters for part in tick_cost(config, Workload(2)).components}


def _settings(workload: Workload) -> dict[str, Any]:
    return {name: value for name, value in asdict(workload).items() if name != 'plan'}


def _chosen(config: Any, workload: Workload, name: str) -> Any:
    value = getattr(workload, name)
    head = getattr(config, 'head', None)
    return getattr(head, name, None) if value is None else value


def _needed_macs(original: Cost) -> int:
    """What papers count: all positions, but neither `lm_head` nor blocks without effect."""
    return sum(
        run.macs
        for part in original.components
        for run in part.passes
        if part.name != 'lm_head' and run.name != 'unused block'
    )


def _component(part: Component, original: Component, hardware: Hardware) -> dict[str, Any]:
    return {
        'name': original.name,
        'parameters': part.parameters,
        'macs': part.macs,
        'flops': 2 * part.macs,
        'original_macs': original.macs,
        'bytes_read': part.bytes_read,
        'activation_bytes': part.activation_bytes,
        'floor_s': part.floor_seconds(*hardware.rates),
        'bound_by': _bound(part, hardware),
        'passes': [_pass(run, hardware) for run in part.passes],
    }


def _pass(run: Pass, hardware: Hardware) -> dict[str, Any]:
    return {
        'name': run.name,
        'times': run.times,
        'macs': run.macs,
        'bytes_read': run.bytes_read,
        'floor_s': run.floor_seconds(*hardware.rates),
    }


def _bound(part: Component, hardware: Hardware) -> str:
    """Which limit makes up most of the component's floor."""
    arithmetic, memory = 0.0, 0.0
    for run in part.passes:
        floor = run.floor_seconds(*hardware.rates)
        if run.bytes_read / (hardware.gbs * 1e9) < floor:
            arithmetic += floor
        else:
            memory += floor
    if not part.passes:
        return ''
    return 'arithmetic' if arithmetic > memory else 'memory'


def verification_report(
    path: Path, check: Verification, wanted: CogACTConfig | OpenVLAConfig | None
) -> dict[str, Any]:
    """What a checkpoint holds and what is wrong with it.

    Args:
        path: where it lies.
        check: what was found.
        wanted: the model that it should be; None takes any.
    """
    faults = {
        'missing': list(check.missing),
        'extra': list(check.extra),
        'misshaped': [
            f'{name}: {list(found)}, expected {list(expected)}'
            for name, (found, expected) in check.misshaped.items()
        ],
        'not_floating': [f'{name}: {kind}' for name, kind in check.not_floating.items()],
        'statistics': [] if check.statistics_keys else ['no action statistics that can be read'],
        'another_model': [] if wanted is None else _differences(wanted, check.config),
    }
    return {
        'path': str(path),
        'weights': str(check.weights),
        'kind': check.kind,
        'model': check.config.name,
        'good': not any(faults.values()),
        'faults': faults,
        'groups': check.groups,
        'missing_groups': list(check.missing_groups),
        'unused': check.unused,
        'dtypes': check.dtypes,
        'file_bytes': check.file_bytes,
        'statistics_keys': list(check.statistics_keys),
        'has_tokenizer': check.has_tokenizer,
        'has_ema': check.has_ema,
    }


def _differences(wanted: Any, found: Any) -> list[str]:
    """Sizes in which two configurations differ, one line each."""
    ours, theirs = _flat(wanted.to_dict()), _flat(found.to_dict())
    return [
        f'{name} is {theirs.get(name)}, {wanted.name} has {ours.get(name)}'
        for name in sorted(ours.keys() | theirs.keys())
        if ours.get(name) != theirs.get(name) and name not in _NOT_SIZES
    ]


def _flat(values: dict[str, Any], prefix: str = '') -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f'{prefix}{key}.')
        else:
            flat[prefix + key] = value
    return flat
