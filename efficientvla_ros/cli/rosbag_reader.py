"""Opens rosbag2 recordings with `rosbags`; needs no ROS 2."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from efficientvla_ros.types import InputError

if TYPE_CHECKING:
    from rosbags.highlevel import AnyReader

IMAGE, COMPRESSED = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage'
STRING = 'std_msgs/msg/String'


@contextmanager
def open_bag(folder: Path) -> Iterator[AnyReader]:
    """Opens a recording of any storage plugin that `rosbags` reads, sqlite3 and mcap among them.

    Raises:
        InputError: it is no readable recording, or `rosbags` is not installed.
    """
    try:
        from rosbags.highlevel import AnyReader
        from rosbags.typesys import Stores, get_typestore
    except ModuleNotFoundError as error:
        raise InputError(f'{folder} is a rosbag2 recording: pip install rosbags') from error
    with reading(folder):
        store = get_typestore(Stores.ROS2_JAZZY)
        reader = AnyReader([folder], default_typestore=store)
        reader.open()
    with closing(reader):
        yield reader


@contextmanager
def reading(folder: Path) -> Iterator[None]:
    """Turns what goes wrong while a recording is read into one line.

    Raises:
        InputError: something did.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # rosbags lets through what its storage plugins raise
        text = ' '.join(str(error).split()) or type(error).__name__
        raise InputError(
            f'{folder} cannot be read as a rosbag2 recording ({text[:160]})'
        ) from error
