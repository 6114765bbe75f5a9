"""Two cameras in a process of their own: `front` raw at 30 Hz, `wrist` as PNG at 15 Hz.

Every fourth image of `front` has another size. The red of every pixel is the running number.
"""

from __future__ import annotations

import array
import contextlib

import cv2
import numpy as np
import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from ros_harness import image_message
from sensor_msgs.msg import CompressedImage, Image


class Cameras(Node):
    def __init__(self) -> None:
        super().__init__('cameras')
        self._front = self.create_publisher(Image, 'front/image_raw', 10)
        self._wrist = self.create_publisher(CompressedImage, 'wrist/image_raw/compressed', 10)
        self._count = 0
        self.create_timer(1 / 30, self._shoot)

    def _shoot(self) -> None:
        self._count += 1
        number = self._count % 256
        side = 32 if self._count % 4 else 64
        image = image_message(_picture(side, number), 'rgb8')
        image.header.frame_id = 'front_optical'
        image.header.stamp = self.get_clock().now().to_msg()
        self._front.publish(image)
        if self._count % 2 == 0:
            data = cv2.imencode('.png', _picture(32, number)[:, :, ::-1])[1]
            message = CompressedImage(format='png', data=array.array('B', data.tobytes()))
            message.header.stamp = self.get_clock().now().to_msg()
            self._wrist.publish(message)


def _picture(side: int, number: int) -> np.ndarray:
    """The upper left quarter is green, to see crop and rotation."""
    pixels = np.zeros((side, side, 3), np.uint8)
    pixels[:, :, 0] = number
    pixels[: side // 2, : side // 2, 1] = 255
    return pixels


if __name__ == '__main__':
    rclpy.init()
    with contextlib.suppress(KeyboardInterrupt, ExternalShutdownException):
        rclpy.spin(Cameras())
