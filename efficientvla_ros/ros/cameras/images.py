"""ROS image messages to NumPy arrays: common encodings as views, the rest through cv_bridge."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np

from efficientvla_ros.types import InputError

if TYPE_CHECKING:
    from sensor_msgs.msg import CompressedImage, Image

_CHANNELS = {'rgb8': 3, 'bgr8': 3, 'rgba8': 4, 'bgra8': 4, 'mono8': 1}


def decode(message: Image | CompressedImage, camera: str) -> np.ndarray:
    """Returns an image as uint8 [height, width, 3], RGB, of either type of message.

    Raises:
        InputError: as `decode_image` and `decode_compressed`.
    """
    kind = decode_image if hasattr(message, 'encoding') else decode_compressed
    return kind(message, camera)


def decode_image(message: Image, camera: str) -> np.ndarray:
    """Returns an image as uint8 [height, width, 3], RGB.

    rgb8, bgr8, rgba8, bgra8 and mono8 come as a view on the message's data (not to be written to),
    for any valid step; other encodings are converted by cv_bridge, where it is installed.

    Raises:
        InputError: size, step, amount of data or encoding cannot be used; the line names the
            camera, what is wrong and what was expected.
    """
    where = f'camera "{camera}"'
    height, width, step = message.height, message.width, message.step
    if height == 0 or width == 0:
        raise InputError(f'{where}: image is {width}x{height} pixels, expected at least 1x1')
    if len(message.data) != step * height:
        raise InputError(
            f'{where}: image has {len(message.data)} bytes, expected step x height = '
            f'{step} x {height} = {step * height}'
        )
    channels = _CHANNELS.get(message.encoding)
    if channels is None:
        return _through_cv_bridge(message, where)
    if step < width * channels:
        raise InputError(
            f'{where}: step is {step} bytes, expected at least width x channels = '
            f'{width} x {channels} = {width * channels} for {message.encoding}'
        )
    rows = np.frombuffer(message.data, dtype=np.uint8).reshape(height, step)
    pixels = rows[:, : width * channels].reshape(height, width, channels)
    if channels == 1:
        return np.broadcast_to(pixels, (height, width, 3))
    return pixels[:, :, 2::-1] if message.encoding.startswith('bgr') else pixels[:, :, :3]


def decode_compressed(message: CompressedImage, camera: str) -> np.ndarray:
    """Returns a JPEG, PNG, ... image as uint8 [height, width, 3], RGB.

    Raises:
        InputError: the data is empty or OpenCV cannot decode it.
    """
    where = f'camera "{camera}"'
    if len(message.data) == 0:
        raise InputError(f'{where}: compressed image is empty, expected JPEG or PNG data')
    import cv2

    data = np.frombuffer(message.data, dtype=np.uint8)
    try:
        decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    except cv2.error:
        decoded = None
    if decoded is None:
        raise InputError(
            f'{where}: {data.size} bytes of compressed image ("{message.format[:40]}") cannot '
            'be decoded, expected JPEG or PNG data'
        )
    return decoded[:, :, ::-1]


def _through_cv_bridge(message: Image, where: str) -> np.ndarray:
    encoding = message.encoding[:40]
    expected = f'expected {", ".join(_CHANNELS)} or an encoding that cv_bridge converts to rgb8'
    try:
        from cv_bridge import CvBridge
    except Exception as error:  # a cv_bridge built for another NumPy fails in many ways
        raise InputError(
            f'{where}: encoding "{encoding}" needs cv_bridge, which cannot be imported '
            f'({_first_line(error)}), {expected}'
        ) from None
    try:
        bridge = CvBridge()
        kind, channels = bridge.encoding_to_dtype_with_channels(message.encoding)
        packed = _without_padding(message, message.width * channels * np.dtype(kind).itemsize)
        image = np.asarray(bridge.imgmsg_to_cv2(packed, desired_encoding='rgb8'))
    except Exception as error:  # CvBridgeError, cv2.error, KeyError, numpy errors
        raise InputError(
            f'{where}: cannot convert encoding "{encoding}" ({_first_line(error)}), {expected}'
        ) from None
    if image.dtype != np.uint8 or image.shape != (message.height, message.width, 3):
        raise InputError(f'{where}: encoding "{encoding}" gave no colour image, {expected}')
    return image


def _without_padding(message: Image, row: int) -> SimpleNamespace:
    """The fields that cv_bridge reads, with `row` bytes a row: not every one heeds the step."""
    if message.step < row:
        raise ValueError(f'step is {message.step} bytes, expected at least {row}')
    data = message.data
    if message.step > row:
        rows = np.frombuffer(data, dtype=np.uint8).reshape(message.height, message.step)
        data = np.ascontiguousarray(rows[:, :row])
    return SimpleNamespace(
        height=message.height,
        width=message.width,
        encoding=message.encoding,
        is_bigendian=message.is_bigendian,
        step=row,
        data=data,
    )


def _first_line(error: BaseException) -> str:
    text = ' '.join(str(error).split()) or type(error).__name__
    return text if len(text) <= 120 else text[:117] + '...'
