"""What the engine takes from an observation, and what it tells of a tick."""

from __future__ import annotations

import numpy as np

from efficientvla_ros.models.config import VLMConfig
from efficientvla_ros.runtime.channel_ticks import ChannelReport
from efficientvla_ros.runtime.policies import Policy
from efficientvla_ros.runtime.stopwatch import Stopwatch
from efficientvla_ros.runtime.timeline import INFERENCE, Timeline
from efficientvla_ros.types import InputError, Observation, TickReport


def camera_image(observation: Observation, config: VLMConfig) -> np.ndarray:
    """The image that a model reads, uint8 [height, width, 3]; one alone may have any name.

    Raises:
        InputError: it is missing or of another kind.
    """
    name = config.cameras[0]
    image = observation.images.get(name)
    if image is None and len(observation.images) == 1:
        image = next(iter(observation.images.values()))
    if image is None:
        raise InputError(
            f'model {config.name} wants camera {name!r}, '
            f'the observation has {sorted(observation.images)}'
        )
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise InputError(
            f'camera {name!r}: image is {image.dtype} {image.shape}, '
            'expected uint8 (height, width, 3)'
        )
    return image


def tick_report(
    policy: Policy, config: VLMConfig, watch: Stopwatch, show_tokens: bool, notes: tuple[str, ...]
) -> TickReport:
    """What the last tick of a policy cost and did.

    Args:
        policy: ran it.
        config: the model's sizes.
        watch: timed it.
        show_tokens: whether to say which visual tokens were kept, and why.
        notes: lines to be told beside those of the policy.
    """
    plan, kept, roles = policy.plan, None, None
    if show_tokens and policy.selection is not None:
        kept, roles = (part[0].cpu().numpy() for part in policy.selection)
    channels = policy.channels.report
    return TickReport(
        watch.seconds,
        config.num_patches if plan.tokens is None else plan.tokens.keep,
        len(plan.layers),
        policy.full_steps_run,
        kept,
        roles,
        channel_ratio=channels.ratio,
        pattern_age=channels.age,
        similarity=channels.similarity,
        updated=channels.updated,
        update_reason=channels.reason,
        updates_missed=channels.missed,
        audit_deviation=channels.deviation,
        channels_changed=channels.changed,
        notes=policy.channels.take_notes() + notes,
    )


def draw_tick(timeline: Timeline, channels: ChannelReport) -> None:
    """Adds what a tick did with its channels to a timeline."""
    if channels.similarity is not None:
        timeline.count('similarity', channels.similarity)
    timeline.count('channel ratio', channels.ratio)
    if channels.updated:
        timeline.mark(INFERENCE, 'update', reason=channels.reason)
