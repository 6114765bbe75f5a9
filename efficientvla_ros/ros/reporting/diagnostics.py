"""The status as a DiagnosticArray for `/diagnostics`, as rqt_robot_monitor and others read it."""

from __future__ import annotations

from collections.abc import Mapping

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from efficientvla_ros.msg import PolicyStatus
from efficientvla_ros.ros.parameters.table import Value
from efficientvla_ros.ros.reporting import diagnostic_rules as rules


def diagnostic_array(
    status: PolicyStatus,
    before: PolicyStatus | None,
    name: str,
    settings: Mapping[str, Value],
    commands: Mapping[str, object],
) -> DiagnosticArray:
    """Returns the diagnostics of the node: one entry for each part, and for each camera.

    Args:
        status: what the node reports.
        before: what it reported with the last diagnostics, None for the first ones.
        name: full name of the node.
        settings: parameters in force.
        commands: counters and figures of what sends commands, by name.
    """
    before = status if before is None else before
    model = f'{settings["model.path"]} on {settings["model.device"]}'
    max_age = settings['safety.max_image_age']
    entries = [
        ('policy', rules.judge_policy(status), _policy(status)),
        ('inference', rules.judge_inference(status, before), _inference(status)),
        ('safety', rules.judge_safety(status, before), _safety(status)),
        ('acceleration', rules.judge_acceleration(status, before), _acceleration(status)),
    ]
    if commands:
        entries.append(('commands', rules.judge_commands(status), commands))
    for index, camera in enumerate(status.camera_names):
        judgement = rules.judge_camera(status, index, max_age)
        entries.append((f'camera {camera}', judgement, _camera(status, index)))
    array = DiagnosticArray()
    array.header.stamp = status.header.stamp
    array.status = [
        DiagnosticStatus(
            level=judgement.level,
            name=f'{name.lstrip("/")}: {part}',
            message=judgement.message,
            hardware_id=model,
            values=[KeyValue(key=key, value=str(value)) for key, value in values.items()],
        )
        for part, judgement, values in entries
    ]
    return array


def _policy(status: PolicyStatus) -> dict[str, object]:
    return {
        'instruction': status.instruction,
        'hold detail': status.hold_detail,
        'commands published': status.commands_published,
        'dry run': status.dry_run,
        'speed scale': f'{status.speed_scale:g}',
        'execution': status.execution,
        'interface': status.interface,
        'images received': status.images_received,
        'images rejected': status.images_rejected,
        'callback p95 [ms]': _ms(status.callback_p95),
        'callback max [ms]': _ms(status.callback_max),
        'resident memory [MB]': status.memory // 1_000_000,
        'parameter revision': status.parameter_revision,
        'last error': status.last_error,
    }


def _inference(status: PolicyStatus) -> dict[str, object]:
    values: dict[str, object] = {
        'inferences': status.ticks,
        'rate [Hz]': f'{status.rate:.2f}',
        'tick period [ms]': _ms(status.tick_period),
        'inferences without a usable plan': status.ticks_failed,
        'ticks missed: inference late': status.ticks_late,
        'ticks delayed: no new image': status.ticks_without_image,
        'ticks without a command: held': status.ticks_held,
        'ticks without a command: plan discarded': status.ticks_discarded,
        'actions of a plan': status.chunk_actions,
        'waypoints of a command': status.chunk_waypoints,
        'plan left when replaced p50 [ms]': _ms(status.chunk_depth_p50),
        'plan left when replaced p05 [ms]': _ms(status.chunk_depth_p05),
    }
    for text, field in (
        ('camera to command', 'latency'),
        ('camera to inference', 'input'),
        ('inference', 'inference'),
    ):
        for percentile in ('p50', 'p95', 'p99'):
            values[f'{text} {percentile} [ms]'] = _ms(getattr(status, f'{field}_{percentile}'))
    stages = zip(
        status.stage_names, status.stage_p50, status.stage_p95, status.stage_p99, strict=True
    )
    for stage, *durations in stages:
        for percentile, seconds in zip(('p50', 'p95', 'p99'), durations):
            values[f'{stage} {percentile} [ms]'] = _ms(seconds)
    return values


def _safety(status: PolicyStatus) -> dict[str, object]:
    changed = zip(status.intervention_names, status.intervention_counts, strict=True)
    held = zip(status.hold_names, status.hold_counts, strict=True)
    return {
        'hold reason': status.hold_reason,
        **{f'changed: {name}': count for name, count in changed},
        **{f'held: {name}': count for name, count in held},
    }


def _acceleration(status: PolicyStatus) -> dict[str, object]:
    return {
        'acceleration preset': status.preset,
        'visual tokens kept': f'{status.visual_tokens} of {status.visual_tokens_total}',
        'decoder layers run': f'{status.layers_run} of {status.layers_total}',
        'diffusion steps in full': f'{status.diffusion_steps} of {status.diffusion_steps_total}',
        'channels left out [%]': f'{100.0 * status.channel_ratio:.1f}',
        'channel choice age': status.pattern_age,
        'image similarity': f'{status.similarity:.4f}',
        'channel updates': status.channel_updates,
        'newest channel update': status.update_reason,
        'channel updates missed': status.updates_missed,
        'audit deviation': ' '.join(f'{value:.2g}' for value in status.audit_deviation),
        'changed by itself': status.acceleration_note,
    }


def _camera(status: PolicyStatus, index: int) -> dict[str, object]:
    return {
        'rate [Hz]': f'{status.camera_rate[index]:.2f}',
        'age [ms]': _ms(status.camera_age[index]),
        'jitter p95 [ms]': _ms(status.camera_jitter[index]),
    }


def _ms(seconds: float) -> str:
    return f'{1e3 * seconds:.2f}'
