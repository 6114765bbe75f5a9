"""Topic `~/debug/tokens`: the camera picture with the visual tokens that the model kept."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import Image

from efficientvla_ros.ros import qos
from efficientvla_ros.ros.conversions import image_message
from efficientvla_ros.types import InputError

TOPIC = '~/debug/tokens'


@dataclass(frozen=True)
class TokenView:
    """What a picture is drawn from.

    Attributes:
        image: uint8 [H, W, 3], RGB; it must not be written to afterwards.
        kept: indices of the kept patches, [K].
        roles: why each is kept, numbers of `acceleration.token_roles`, [K]; None if not known.
        patches: patches of the image.
        stamp_ns: when the image was taken, ns.
        frame_id: the camera's frame.
    """

    image: np.ndarray
    kept: np.ndarray
    roles: np.ndarray | None
    patches: int
    stamp_ns: int
    frame_id: str


class TokenImage:
    """Draws and publishes in a thread of its own: offering a picture costs the caller nothing."""

    def __init__(self, node: Node) -> None:
        """Advertises; the thread starts with the first picture."""
        self._node = node
        self._publisher = node.create_publisher(
            Image, TOPIC, qos.newest(), qos_overriding_options=qos.overridable()
        )
        self._condition = threading.Condition()
        self._newest: TokenView | None = None
        self._stopping = False
        self._thread: threading.Thread | None = None

    @property
    def wanted(self) -> bool:
        """Whether anybody is subscribed."""
        return self._publisher.get_subscription_count() > 0

    def offer(self, view: TokenView) -> None:
        """Takes a picture to be published; one that still waits is replaced. From one thread."""
        with self._condition:
            if self._stopping:
                return
            self._newest = view
            self._condition.notify()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name='token_image', daemon=True)
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
        # OpenCV is loaded here: nobody waits for it.
        from efficientvla_ros.evaluation.token_picture import token_picture

        while (view := self._next()) is not None:
            try:
                picture = token_picture(view.image, view.kept, view.roles, view.patches)
            except InputError as error:
                self._node.get_logger().error(str(error), throttle_duration_sec=10.0)
                continue
            self._publisher.publish(image_message(picture, view.stamp_ns, view.frame_id))

    def _next(self) -> TokenView | None:
        with self._condition:
            self._condition.wait_for(lambda: self._stopping or self._newest is not None)
            view, self._newest = self._newest, None
            return None if self._stopping else view
