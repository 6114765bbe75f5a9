"""A camera gone wild, as a program: what the simulator sees, 200 times a second for 3 s.

It is a process of its own because a flood of images from the peer between simulator and policy
would hold up the joint states that pass through that peer.
"""

from __future__ import annotations

import sys
import time

import rclpy
from sensor_msgs.msg import Image

from efficientvla_ros.ros.transport import make_room_for_images

RATE, SECONDS = 200.0, 3.0


def main() -> int:
    make_room_for_images()
    rclpy.init()
    node = rclpy.create_node('fast_camera')
    publisher = node.create_publisher(Image, 'camera/image_raw', 1)
    seen: list[Image] = []
    node.create_subscription(Image, 'simulated/image_raw', seen.append, 1)
    while not (seen and publisher.get_subscription_count()):
        rclpy.spin_once(node, timeout_sec=0.1)

    sent, begin = 0, time.monotonic()
    while (passed := time.monotonic() - begin) < SECONDS:
        if sent < passed * RATE:
            seen[-1].header.stamp = node.get_clock().now().to_msg()
            publisher.publish(seen[-1])
            sent += 1
        rclpy.spin_once(node, timeout_sec=0.2 / RATE)
    print(f'{sent} images in {SECONDS:g} s', flush=True)
    node.destroy_node()
    rclpy.shutdown()
    return 0


if __name__ == '__main__':
    sys.exit(main())
