"""Writes small rosbag2 recordings for tests."""

from __future__ import annotations

import cv2
import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

STORE = get_typestore(Stores.ROS2_JAZZY)
IMAGE, COMPRESSED = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage'
STRING, JOINT_STATE = 'std_msgs/msg/String', 'sensor_msgs/msg/JointState'


def header(stamp_ns: int = 0):
    seconds, nanoseconds = divmod(stamp_ns, 1_000_000_000)
    stamp = STORE.types['builtin_interfaces/msg/Time'](sec=seconds, nanosec=nanoseconds)
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


def picture(pixels: np.ndarray, stamp_ns: int):
    """An rgb8 image of uint8 [height, width, 3]."""
    height, width = pixels.shape[:2]
    return STORE.types[IMAGE](
        header=header(stamp_ns),
        height=height,
        width=width,
        encoding='rgb8',
        is_bigendian=0,
        step=3 * width,
        data=np.ascontiguousarray(pixels).reshape(-1),
    )


def joints(names, positions, stamp_ns: int):
    empty = np.zeros(0)
    return STORE.types[JOINT_STATE](
        header=header(stamp_ns),
        name=list(names),
        position=np.array(positions, dtype=np.float64),
        velocity=empty,
        effort=empty,
    )


def write_bag(folder, messages, storage: StoragePlugin = StoragePlugin.SQLITE3, empty=()) -> None:
    """Messages: (time, topic, type, message); empty: (topic, type) without any."""
    with Writer(folder, version=9, storage_plugin=storage) as writer:
        topics = [(topic, kind) for _, topic, kind, _ in messages]
        connections = {
            (topic, kind): writer.add_connection(topic, kind, typestore=STORE)
            for topic, kind in dict.fromkeys([*topics, *empty])
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
