"""A topic with pictures that are drawn only while somebody looks, by a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import Image

from efficientvla_ros.ros import qos
from efficientvla_ros.ros.conversions import image_message
from efficientvla_ros.types import InputError

Source = TypeVar('Source')


@dataclass(frozen=True)
class Picture:
    """What is published.

    Attributes:
        image: uint8 [H, W, 3], RGB.
        stamp_ns: when the camera's image was taken, ns.
        frame_id: the camera's frame.
    """

    image: np.ndarray
    stamp_ns: int
    frame_id: str


class ImageTopic(Generic[Source]):
    """Draws and publishes in a thread of its own: offering something costs the caller nothing."""

    def __init__(
        self, node: Node, topic: str, draw: Callable[[Source], Picture], thread: str
    ) -> None:
        """Advertises; the thread starts with the first offer.

        Args:
            node: the node.
            topic: name of the topic.
            draw: makes a picture in the thread; what it raises as InputError is logged.
            thread: name of the thread.
        """
        self._node = node
        self._draw = draw
        self._name = thread
        self._publisher = node.create_publisher(
            Image, topic, qos.newest(), qos_overriding_options=qos.overridable()
        )
        self._condition = threading.Condition()
        self._newest: Source | None = None
        self._stopping = False
        self._thread: threading.Thread | None = None

    @property
    def wanted(self) -> bool:
        """Whether anybody is subscribed; never after `destroy`, which may come meanwhile."""
        with self._condition:
            return not self._stopping and self._publisher.get_subscription_count() > 0

    def offer(self, source: Source) -> None:
        """Takes something to be drawn; what still waits is replaced. From one thread."""
        with self._condition:
            if self._stopping:
                return
            self._newest = source
            self._condition.notify()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()

    def destroy(self) -> None:
        """Ends the thread and withdraws the topic."""
        with self._condition:
            self._stopping = True
            self._condition.notify()
        if self._thread is not None:
            self._thread.join()
        self._node.destroy_publisher(self._publisher)

    def _run(self) -> None:
        while (source := self._next()) is not None:
            try:
                picture = self._draw(source)
            except InputError as error:
                self._node.get_logger().error(str(error), throttle_duration_sec=10.0)
                continue
            self._publisher.publish(
                image_message(picture.image, picture.stamp_ns, picture.frame_id)
            )

    def _next(self) -> Source | None:
        with self._condition:
            self._condition.wait_for(lambda: self._stopping or self._newest is not None)
            source, self._newest = self._newest, None
            return None if self._stopping else source
