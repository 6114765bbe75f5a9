"""The topic `stop`, as emergency stop buttons publish it: true while pressed."""

from __future__ import annotations

from collections.abc import Callable

from rclpy.callback_groups import CallbackGroup
from rclpy.node import Node
from std_msgs.msg import Bool

from efficientvla_ros.ros import qos


class StopTopic:
    """Remembers the button from the start of the node on, also while nothing is configured.

    Attributes:
        pressed: the newest message was true.
    """

    def __init__(self, node: Node, on_change: Callable[[bool], None], group: CallbackGroup):
        """Subscribes; `on_change` is told every change of `pressed`."""
        self.pressed = False
        self._on_change = on_change
        # A transient-local subscription does not hear volatile publishers, so there are two.
        for profile, entity in ((qos.newest(), None), (qos.latched(), 'latched')):
            node.create_subscription(
                Bool,
                'stop',
                self._on_message,
                profile,
                callback_group=group,
                qos_overriding_options=qos.overridable(entity),
                event_callbacks=None if entity is None else qos.no_event_callbacks(),
            )

    def _on_message(self, message: Bool) -> None:
        before, self.pressed = self.pressed, bool(message.data)
        if self.pressed != before:
            self._on_change(self.pressed)
