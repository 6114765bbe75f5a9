"""Topic `~/debug/tokens`: the camera picture with the visual tokens that the model kept."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from rclpy.node import Node

from efficientvla_ros.ros.cameras.image_topic import ImageTopic, Picture

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


class TokenImage(ImageTopic[TokenView]):
    """Draws and publishes in a thread of its own: offering a picture costs the caller nothing."""

    def __init__(self, node: Node) -> None:
        """Advertises; the thread starts with the first picture."""
        super().__init__(node, TOPIC, _draw, 'token_image')


def _draw(view: TokenView) -> Picture:
    # OpenCV is loaded here: nobody waits for it.
    from efficientvla_ros.evaluation import token_picture

    image = token_picture.token_picture(view.image, view.kept, view.roles, view.patches)
    return Picture(image, view.stamp_ns, view.frame_id)
