"""Hears the status of policy nodes: a node that a plain program steps by hand."""

from __future__ import annotations

import math
import time
from collections import deque
from dataclasses import dataclass, field

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.logging import LoggingSeverity
from rclpy.signals import SignalHandlerOptions

from efficientvla_ros.msg import PolicyStatus
from efficientvla_ros.ros import qos
from efficientvla_ros.ros.commander import State

_TYPE = 'efficientvla_ros/msg/PolicyStatus'
_TOPIC = '/status'
_LOOK_AGAIN_S = 0.5
_HISTORY = 300


@dataclass
class WatchedNode:
    """What is known of one policy node.

    Attributes:
        name: full name of the node.
        heard_at: when the newest status came (monotonic), s.
        present: the node is in the ROS graph.
        status: the newest status, None before the first.
        history: newest statuses, oldest first.
    """

    name: str
    heard_at: float
    present: bool = True
    status: PolicyStatus | None = None
    history: deque[PolicyStatus] = field(default_factory=lambda: deque(maxlen=_HISTORY))

    @property
    def silence(self) -> float:
        """Seconds since the newest status, or since the node was found."""
        return time.monotonic() - self.heard_at


class StatusListener:
    """Finds policy nodes and keeps their statuses. Nothing arrives except in `spin`.

    Attributes:
        nodes: the nodes that were found, by full name.
    """

    def __init__(self, name: str | None = None) -> None:
        """Joins the ROS graph in the domain of the environment.

        Args:
            name: the only node to watch, None for all; a name without a leading slash is taken
                from the root namespace.
        """
        self._wanted = None if name is None else '/' + name.strip('/')
        self.nodes: dict[str, WatchedNode] = {}
        self._context = rclpy.Context()
        rclpy.init(context=self._context, signal_handler_options=SignalHandlerOptions.NO)
        self._node = rclpy.create_node(
            'efficientvla_monitor',
            context=self._context,
            start_parameter_services=False,
            enable_rosout=False,
        )
        self._node.get_logger().set_level(LoggingSeverity.ERROR)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._look_at = 0.0
        self._arrived: deque[WatchedNode] = deque()

    @property
    def domain(self) -> int:
        """The ROS domain that it listens in."""
        return self._context.get_domain_id()

    def spin(self, seconds: float) -> list[WatchedNode]:
        """Handles what arrives within that time; returns the nodes whose status came, in order."""
        end = time.monotonic() + seconds
        while (remaining := end - time.monotonic()) > 0.0:
            if time.monotonic() >= self._look_at:
                self._look()
            self._executor.spin_once(timeout_sec=min(remaining, _LOOK_AGAIN_S))
        arrived = list(self._arrived)
        self._arrived.clear()
        return arrived

    def others(self) -> list[str]:
        """Names of policy nodes that are there but not watched."""
        return sorted(name for name in self._topics() if name not in self.nodes)

    def _topics(self) -> dict[str, str]:
        """Full name of a node -> its status topic."""
        return {
            topic.removesuffix(_TOPIC): topic
            for topic, kinds in self._node.get_topic_names_and_types()
            if _TYPE in kinds and self._node.count_publishers(topic)
        }

    def _look(self) -> None:
        self._look_at = time.monotonic() + _LOOK_AGAIN_S
        topics = self._topics()
        for name, topic in topics.items():
            if name not in self.nodes and self._wanted in (None, name):
                self._watch(name, topic)
        for watched in self.nodes.values():
            watched.present = watched.name in topics

    def _watch(self, name: str, topic: str) -> None:
        watched = self.nodes[name] = WatchedNode(name, time.monotonic())

        def on_status(message: PolicyStatus) -> None:
            watched.heard_at = time.monotonic()
            watched.status = message
            watched.history.append(message)
            self._arrived.append(watched)

        self._node.create_subscription(PolicyStatus, topic, on_status, qos.latched())

    def close(self) -> None:
        """Leaves the ROS graph; closing twice is harmless."""
        if self._context.ok():
            self._executor.shutdown()
            self._node.destroy_node()
            self._context.shutdown()


def status_dict(status: PolicyStatus) -> dict[str, object]:
    """All fields of a status as JSON takes them: state in words, stamp in s, NaN as None."""
    values: dict[str, object] = {}
    for name in status.get_fields_and_field_types():
        value = getattr(status, name)
        if name == 'header':
            values['stamp'] = value.stamp.sec + value.stamp.nanosec * 1e-9
            values['frame_id'] = value.frame_id
        elif name == 'state':
            values[name] = State(value).label
        elif isinstance(value, float) and not math.isfinite(value):
            values[name] = None
        elif isinstance(value, (str, bool, int, float)):
            values[name] = value
        else:
            values[name] = [_finite(element) for element in value]
    return values


def _finite(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value
