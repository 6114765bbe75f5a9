"""What a model sees of a camera's picture: a part of it, turned; no copies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from efficientvla_ros.types import InputError

WHOLE = (0.0, 0.0, 1.0, 1.0)
ROTATIONS = (0, 90, 180, 270)


@dataclass(frozen=True)
class CameraView:
    """A crop and a rotation, in this order.

    The crop is in fractions of the picture, so that it holds for any resolution of the camera.

    Attributes:
        crop: x, y of the upper left corner, width, height; 0 to 1 of the picture as published.
        rotation: clockwise, degrees, one of `ROTATIONS`.
    """

    crop: tuple[float, float, float, float] = WHOLE
    rotation: int = 0

    def of(self, image: np.ndarray, camera: str) -> np.ndarray:
        """Returns a view on an image [height, width, 3].

        Raises:
            InputError: no pixel is left of it.
        """
        if self.crop != WHOLE:
            image = self._cropped(image, camera)
        # numpy turns anticlockwise.
        return np.rot90(image, -self.rotation // 90) if self.rotation else image

    def _cropped(self, image: np.ndarray, camera: str) -> np.ndarray:
        height, width = image.shape[:2]
        x, y, part_width, part_height = self.crop
        left, right = round(x * width), round((x + part_width) * width)
        top, bottom = round(y * height), round((y + part_height) * height)
        if right <= left or bottom <= top:
            raise InputError(
                f'camera "{camera}": parameter cameras.crop {list(self.crop)} leaves '
                f'{max(0, right - left)}x{max(0, bottom - top)} of {width}x{height} pixels, '
                'expected at least 1x1'
            )
        return image[top:bottom, left:right]


def camera_views(settings: Mapping[str, object]) -> tuple[CameraView, ...]:
    """Returns the view of every camera, in the order of `cameras.names`."""
    cameras = len(settings['cameras.names'])
    numbers, turns = settings['cameras.crop'], settings['cameras.rotation']
    crops = [tuple(numbers[start : start + 4]) for start in range(0, len(numbers), 4)]
    crops = crops if len(crops) == cameras else crops * cameras
    turns = turns if len(turns) == cameras else list(turns) * cameras
    return tuple(CameraView(*pair) for pair in zip(crops, turns, strict=True))
