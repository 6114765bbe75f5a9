"""A camera of 1280 x 720 pixels at 15 Hz, as a program: `python -m hd_camera`."""

from __future__ import annotations

import signal
import sys

import numpy as np
import rclpy
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Image

from efficientvla_ros.ros.conversions import image_message
from efficientvla_ros.ros.transport import make_room_for_images


def main() -> int:
    stopped: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.append(1))
    make_room_for_images()
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node('hd_camera')
    publisher = node.create_publisher(Image, 'camera/image_raw', 1)
    pixels = np.linspace(0, 255, 1280 * 720 * 3).astype(np.uint8).reshape(720, 1280, 3)

    def publish() -> None:
        stamp_ns = node.get_clock().now().nanoseconds
        publisher.publish(image_message(pixels, stamp_ns, 'camera'))

    node.create_timer(1 / 15, publish)
    while not stopped:
        rclpy.spin_once(node, timeout_sec=0.1)
    node.destroy_node()
    rclpy.shutdown()
    return 0


if __name__ == '__main__':
    sys.exit(main())
