"""Quality of service of every topic, and its overriding by parameters."""

from __future__ import annotations

from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks

_BEST_EFFORT = ReliabilityPolicy.BEST_EFFORT
_RELIABLE = ReliabilityPolicy.RELIABLE


def newest_image() -> QoSProfile:
    """Cameras: only the newest image counts; hears reliable and best-effort publishers."""
    return QoSProfile(depth=1, reliability=_BEST_EFFORT)


def joint_states() -> QoSProfile:
    """Joint states: a short queue, because the anchor is interpolated from a history."""
    return QoSProfile(depth=10, reliability=_BEST_EFFORT)


def latched() -> QoSProfile:
    """Status, robot description, instruction: late joiners get the newest one."""
    return QoSProfile(depth=1, reliability=_RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def newest() -> QoSProfile:
    """Commands and instructions: reliable, only the newest one, nothing for late joiners."""
    return QoSProfile(depth=1, reliability=_RELIABLE)


def queued() -> QoSProfile:
    """Telemetry such as diagnostics: reliable with a short queue."""
    return QoSProfile(depth=10, reliability=_RELIABLE)


def overridable(entity: str | None = None) -> QoSOverridingOptions:
    """Lets users change history, depth and reliability by `qos_overrides.<topic>.*`.

    Args:
        entity: tells apart two entities of one node on the same topic.
    """
    return QoSOverridingOptions.with_default_policies(entity_id=entity)


def no_event_callbacks() -> SubscriptionEventCallbacks:
    """No reaction to QoS events, not even rclpy's warning about publishers that do not match."""
    return SubscriptionEventCallbacks(use_default_callbacks=False)
