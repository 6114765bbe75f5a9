"""The status as a DiagnosticArray for `/diagnostics`, as rqt_robot_monitor and others read it."""

from __future__ import annotations

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from efficientvla_ros.msg import PolicyStatus
from efficientvla_ros.ros.commander import State

# Levels are `bytes` in Python.
_LEVELS = {
    PolicyStatus.UNCONFIGURED: DiagnosticStatus.OK,
    PolicyStatus.IDLE: DiagnosticStatus.OK,
    PolicyStatus.RUNNING: DiagnosticStatus.OK,
    PolicyStatus.HOLDING: DiagnosticStatus.WARN,
    PolicyStatus.STOPPED: DiagnosticStatus.WARN,
    PolicyStatus.ERROR: DiagnosticStatus.ERROR,
}


def diagnostic_array(
    status: PolicyStatus, name: str, model: str, extra: dict[str, object]
) -> DiagnosticArray:
    """Returns the diagnostics of the node.

    Args:
        status: what the node reports.
        name: full name of the node.
        model: what runs, becomes the hardware id.
        extra: further values, by name.
    """
    text = State(status.state).label
    if status.hold_reason:
        text += f': {status.hold_reason}'
    values = {
        'instruction': status.instruction,
        'inferences': status.ticks,
        'inferences without a usable plan': status.ticks_failed,
        'commands published': status.commands_published,
        'rate [Hz]': f'{status.rate:.2f}',
        'camera to command p50 [ms]': _ms(status.latency_p50),
        'camera to command p95 [ms]': _ms(status.latency_p95),
        'acceleration preset': status.preset,
        'visual tokens kept': status.visual_tokens,
        'decoder layers run': status.layers_run,
        'diffusion steps in full': status.diffusion_steps,
        'channels left out [%]': f'{100.0 * status.channel_ratio:.1f}',
        'channel choice age': status.pattern_age,
        'image similarity': f'{status.similarity:.4f}',
        'channel updates': status.channel_updates,
        'newest channel update': status.update_reason,
        'channel updates missed': status.updates_missed,
        'audit deviation': ' '.join(f'{value:.2g}' for value in status.audit_deviation),
        'images received': status.images_received,
        'images rejected': status.images_rejected,
        'image age [s]': f'{status.image_age:.3f}',
        'callback p95 [ms]': _ms(status.callback_p95),
        'callback max [ms]': _ms(status.callback_max),
        'resident memory [MB]': status.memory // 1_000_000,
        'last error': status.last_error,
        **{
            f'{stage} p50 [ms]': _ms(seconds)
            for stage, seconds in zip(status.stage_names, status.stage_p50, strict=True)
        },
        **extra,
    }
    entry = DiagnosticStatus(
        level=_LEVELS[status.state],
        name=f'{name.lstrip("/")}: policy',
        message=text,
        hardware_id=model,
        values=[KeyValue(key=key, value=str(value)) for key, value in values.items()],
    )
    array = DiagnosticArray(status=[entry])
    array.header.stamp = status.header.stamp
    return array


def _ms(seconds: float) -> str:
    return f'{1e3 * seconds:.2f}'
