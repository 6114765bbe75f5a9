"""Subscriptions of the policy: they only hand over what arrives to `Ingest`."""

from __future__ import annotations

from collections.abc import Callable

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.node import Node
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import String

from efficientvla_ros.ros import qos
from efficientvla_ros.ros.ingest import Ingest, Listeners
from efficientvla_ros.ros.parameters.policy import compressed_flags
from efficientvla_ros.ros.parameters.table import Settings
from efficientvla_ros.ros.preview import Previews
from efficientvla_ros.ros.timing import Window, timed
from efficientvla_ros.ros.topics import (
    INSTRUCTION,
    JOINT_STATES,
    ROBOT_DESCRIPTION,
    image_topic,
)


class Inputs(Ingest):
    """What the node hears, set up on any node."""

    def __init__(
        self,
        node: Node,
        settings: Settings,
        listeners: Listeners,
        durations: Window,
        previews: Previews | None = None,
    ) -> None:
        """Subscribes.

        Args:
            node: the node.
            settings: names of cameras and joints.
            listeners: told what arrived.
            durations: takes the duration of every callback, s.
            previews: offered every image; None shows nothing.
        """
        super().__init__(settings, listeners, node.get_logger().warning)
        self._node = node
        self._durations = durations
        self._previews = previews
        self._group = MutuallyExclusiveCallbackGroup()
        self._subscriptions = []
        self._subscribe(compressed_flags(settings))

    def _subscribe(self, compressed: tuple[bool, ...]) -> None:
        for camera, packed in zip(self._cameras, compressed, strict=True):
            kind = CompressedImage if packed else Image
            topic = image_topic(camera, packed)
            self._hear(kind, topic, self._image_callback(camera), qos.newest_image())
        self._hear(JointState, JOINT_STATES, self._joint_callback, qos.joint_states())
        self._hear(String, ROBOT_DESCRIPTION, self.on_description, qos.latched())
        # A transient-local subscription does not hear volatile publishers, so there are two.
        self._hear(String, INSTRUCTION, self.on_instruction, qos.newest())
        self._hear(String, INSTRUCTION, self.on_instruction, qos.latched(), 'latched')

    def _hear(self, kind, topic, callback, profile, entity: str | None = None) -> None:
        subscription = self._node.create_subscription(
            kind,
            topic,
            timed(self._durations, callback),
            profile,
            callback_group=self._group,
            qos_overriding_options=qos.overridable(entity),
            # The latched subscription to the instruction cannot hear volatile publishers; the
            # other one does, so rclpy's warning about it would only mislead.
            event_callbacks=None if entity is None else qos.no_event_callbacks(),
        )
        self._subscriptions.append(subscription)

    def destroy(self) -> None:
        """Unsubscribes and forgets everything."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions.clear()
        self.forget()
        self.instruction = self.description = None

    def _image_callback(self, camera: str) -> Callable[[Image | CompressedImage], None]:
        def on_image(message) -> None:
            self.on_image(camera, message, self._now())
            if self._previews is not None:
                self._previews.offer(camera, message)

        return on_image

    def _joint_callback(self, message: JointState) -> None:
        self.on_joint_state(message, self._now())

    def _now(self) -> int:
        return self._node.get_clock().now().nanoseconds
