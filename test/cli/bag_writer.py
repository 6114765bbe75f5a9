"""Writes small rosbag2 recordings for tests."""

from __future__ import annotations

import cv2
import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

STORE = get_typestore(Stores.ROS2_JAZZY)
IMAGE, COMPRESSED = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage'
STRING = 'std_msgs/msg/String'


def header():
    stamp = STORE.types['builtin_interfaces/msg/Time'](sec=0, nanosec=0)
    return STORE.types['std_msgs/msg/Header'](stamp=stamp, frame_id='camera')


def image(value: int, encoding: str = 'rgb8'):
    pixels = np.full((4, 6, 3), (value, 1, 2), np.uint8)
    if encoding == 'bgr8':
        pixels = pixels[..., ::-1]
    return STORE.types[IMAGE](
        header=header(),
        height=4,
        width=6,
        encoding=encoding,
        is_bigendian=0,
        step=18,
        data=np.ascontiguousarray(pixels).reshape(-1),
    )


def compressed(value: int):
    pixels = np.full((4, 6, 3), (value, 1, 2), np.uint8)[..., ::-1]
    data = cv2.imencode('.png', pixels)[1].ravel()
    return STORE.types[COMPRESSED](header=header(), format='png', data=data)


def text(value: str):
    return STORE.types[STRING](data=value)


def write_bag(folder, messages, storage: StoragePlugin = StoragePlugin.SQLITE3) -> None:
    """Messages: (time, topic, type, message)."""
    with Writer(folder, version=9, storage_plugin=storage) as writer:
        connections = {
            (topic, kind): writer.add_connection(topic, kind, typestore=STORE)
            for topic, kind in dict.fromkeys((topic, kind) for _, topic, kind, _ in messages)
        }
        for stamp, topic, kind, message in messages:
            writer.write(connections[topic, kind], stamp, STORE.serialize_cdr(message, kind))


def two_episodes(make=image, kind=IMAGE):
    """Eight images; an instruction before the third, the same again, and another one."""
    rows = [(10 * n, '/camera/image_raw', kind, make(n)) for n in range(1, 9)]
    rows += [
        (25, '/instruction', STRING, text('pick red can')),
        (45, '/instruction', STRING, text('pick red can')),
        (65, '/instruction', STRING, text(' pick orange ')),
        (75, '/instruction', STRING, text('')),
    ]
    return sorted(rows, key=lambda row: row[0])
