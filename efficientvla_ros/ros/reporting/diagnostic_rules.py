"""Which level a part of the node deserves in `/diagnostics`, and the line that says why.

docs/monitoring.md lists these rules. Each one compares a status with the one a second before.
"""

from __future__ import annotations

from dataclasses import dataclass

from diagnostic_msgs.msg import DiagnosticStatus

from efficientvla_ros.control.reasons import Intervention
from efficientvla_ros.msg import PolicyStatus
from efficientvla_ros.ros.commander import State

OK, WARN = DiagnosticStatus.OK, DiagnosticStatus.WARN
ERROR, STALE = DiagnosticStatus.ERROR, DiagnosticStatus.STALE

_ACTIVE = (
    PolicyStatus.RUNNING,
    PolicyStatus.HOLDING,
    PolicyStatus.STOPPED,
    PolicyStatus.ERROR,
)
# Steps that pass while the plan is made are dropped in every tick: nothing to warn of.
_USUAL = (Intervention.STEP_DROPPED.value,)


@dataclass(frozen=True)
class Judgement:
    """A level of DiagnosticStatus and the line that says why."""

    level: bytes
    message: str


def judge_policy(status: PolicyStatus) -> Judgement:
    """Of the state that the node is in."""
    text = State(status.state).label
    if status.hold_reason:
        text += f': {status.hold_reason}'
    if status.state == PolicyStatus.ERROR:
        return Judgement(ERROR, text)
    if status.state == PolicyStatus.UNCONFIGURED and status.last_error:
        return Judgement(ERROR, f'{text}: {status.last_error}')
    if status.state in (PolicyStatus.HOLDING, PolicyStatus.STOPPED):
        return Judgement(WARN, text)
    return Judgement(OK, text)


def judge_commands(status: PolicyStatus) -> Judgement:
    """Of the output; what goes wrong there is counted, and said in the log."""
    return Judgement(OK if status.state in _ACTIVE else STALE, status.interface)


def judge_inference(status: PolicyStatus, before: PolicyStatus) -> Judgement:
    """Of whether inference keeps up with the ticks."""
    if status.state not in _ACTIVE:
        return Judgement(STALE, 'not active')
    if status.state == PolicyStatus.RUNNING and status.ticks and status.rate == 0.0:
        return Judgement(ERROR, 'no inference has finished for longer than three of them take')
    failed = _growth(status, before, 'ticks_failed')
    if failed:
        return Judgement(WARN, f'{failed} inferences gave no usable plan')
    late = _growth(status, before, 'ticks_late')
    if late:
        return Judgement(WARN, f'{late} ticks missed: inference is slower than one tick')
    if status.inference_p95 > status.tick_period > 0.0:
        return Judgement(
            WARN,
            f'p95 of {1e3 * status.inference_p95:.0f} ms is longer than a tick of '
            f'{1e3 * status.tick_period:.0f} ms',
        )
    return Judgement(OK, f'{status.rate:.2f} Hz')


def judge_safety(status: PolicyStatus, before: PolicyStatus) -> Judgement:
    """Of what the guards did in the last second."""
    if status.state == PolicyStatus.UNCONFIGURED:
        return Judgement(STALE, 'not configured')
    if status.state == PolicyStatus.ERROR:
        return Judgement(ERROR, f'held until ~/reset: {status.hold_reason}')
    if status.state in (PolicyStatus.HOLDING, PolicyStatus.STOPPED):
        return Judgement(WARN, f'the arm is held: {status.hold_reason}')
    known = dict(zip(before.intervention_names, before.intervention_counts))
    grown = {
        name: count - known.get(name, 0)
        for name, count in zip(status.intervention_names, status.intervention_counts)
        if name not in _USUAL and count > known.get(name, 0)
    }
    if grown:
        return Judgement(WARN, ', '.join(f'{name} {count}' for name, count in grown.items()))
    return Judgement(OK, 'dry run: nothing is sent to the arm' if status.dry_run else 'quiet')


def judge_acceleration(status: PolicyStatus, before: PolicyStatus) -> Judgement:
    """Of whether the plan in force is the one that was asked for, and up to date."""
    if status.state == PolicyStatus.UNCONFIGURED:
        return Judgement(STALE, 'not configured')
    if status.acceleration_note and status.acceleration_note != before.acceleration_note:
        return Judgement(WARN, status.acceleration_note)
    missed = _growth(status, before, 'updates_missed')
    if missed:
        return Judgement(WARN, f'{missed} inferences ran by an old choice of channels')
    return Judgement(OK, status.preset)


def judge_camera(status: PolicyStatus, index: int, max_age: float) -> Judgement:
    """Of one camera.

    Args:
        status: the status.
        index: which one, in the order of `camera_names`.
        max_age: age at which the arm is held, s.
    """
    rate, age, jitter = (
        field[index] for field in (status.camera_rate, status.camera_age, status.camera_jitter)
    )
    if age < 0.0:
        return Judgement(STALE, 'no image came yet')
    if age > max_age:
        return Judgement(ERROR, f'newest image is {age:.2f} s old, the arm is held at {max_age:g}')
    if age > 0.5 * max_age:
        return Judgement(WARN, f'newest image is {age:.2f} s old, the arm is held at {max_age:g}')
    if rate > 0.0 and jitter > 0.5 / rate:
        return Judgement(
            WARN, f'{1e3 * jitter:.0f} ms of jitter at {rate:.1f} Hz: images are lost or late'
        )
    return Judgement(OK, f'{rate:.1f} Hz')


def _growth(status: PolicyStatus, before: PolicyStatus, counter: str) -> int:
    # An activation starts counters again.
    return max(0, getattr(status, counter) - getattr(before, counter))
