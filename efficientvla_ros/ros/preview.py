"""Topics `~/preview/<camera>`: what the model sees of a camera, also before the node is active."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from rclpy.node import Node

from efficientvla_ros.ros.cameras.camera_view import camera_views
from efficientvla_ros.ros.cameras.image_topic import ImageTopic, Picture
from efficientvla_ros.ros.cameras.images import decode
from efficientvla_ros.ros.message_fields import stamp_to_ns
from efficientvla_ros.ros.parameters.table import Settings


class Previews:
    """The pictures of all cameras after crop, rotation and resize, while somebody subscribes.

    Attributes:
        size: side of the network's input, pixels; None shows the picture before the resize.
    """

    def __init__(self, node: Node, settings: Callable[[], Settings]) -> None:
        """Advertises one topic for each camera.

        Args:
            node: the node.
            settings: the settings in force; asked for every picture, so that a crop can be
                tuned while looking at it.
        """
        self.size: int | None = None
        self._settings = settings
        self._topics = {
            camera: ImageTopic(node, preview_topic(camera), self._draw(place, camera), 'preview')
            for place, camera in enumerate(settings()['cameras.names'])
        }

    def offer(self, camera: str, message: Any) -> None:
        """Takes the newest image of a camera; costs next to nothing."""
        topic = self._topics[camera]
        if topic.wanted:
            topic.offer(message)

    def destroy(self) -> None:
        """Ends the threads and withdraws the topics."""
        for topic in self._topics.values():
            topic.destroy()

    def _draw(self, place: int, camera: str) -> Callable[[Any], Picture]:
        def draw(message: Any) -> Picture:
            view = camera_views(self._settings())[place]
            image = self._resized(view.of(decode(message, camera), camera))
            header = message.header
            return Picture(image, stamp_to_ns(header.stamp), header.frame_id)

        return draw

    def _resized(self, image: np.ndarray) -> np.ndarray:
        if self.size is None:
            return image
        from efficientvla_ros.models.images import resize_image

        return resize_image(image, self.size)


def preview_topic(camera: str) -> str:
    """Returns the topic that shows a camera."""
    return f'~/preview/{camera.strip("/")}'
