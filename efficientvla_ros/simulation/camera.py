"""The scene's camera: pose, intrinsics, projection, and small displacements of it.

Poses are of the *optical* frame (x right, y down, z into the scene) in the robot's base frame.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

CAMERA_NAME = 'camera'
OPTICAL_FRAME = 'camera_optical_frame'
POSITION = (0.88, 0.0, 0.58)
TARGET = (0.30, 0.0, 0.08)
VERTICAL_FOV = math.radians(40.0)


@dataclass(frozen=True)
class CameraOffset:
    """A displacement of the camera: rotation about its own axes [rad], then translation [m].

    Positive pan turns the view to the right, positive tilt turns it up, positive roll turns the
    picture counter-clockwise. The translation is in the base frame.
    """

    pan: float = 0.0
    tilt: float = 0.0
    roll: float = 0.0
    position: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def plus(self, other: CameraOffset) -> CameraOffset:
        """Returns the sum of two small displacements."""
        position = tuple(a + b for a, b in zip(self.position, other.position))
        return CameraOffset(
            self.pan + other.pan, self.tilt + other.tilt, self.roll + other.roll, position
        )

    @classmethod
    def from_pixels(cls, right: float, down: float, image_height: int = 112) -> CameraOffset:
        """Returns the rotation that moves the picture's content by so many pixels."""
        focal = focal_length(image_height)
        return cls(pan=-math.atan(right / focal), tilt=math.atan(down / focal))


def focal_length(height: int) -> float:
    """Returns the focal length in pixels of an image of that height."""
    return height / 2.0 / math.tan(VERTICAL_FOV / 2.0)


def camera_matrix(width: int, height: int) -> np.ndarray:
    """Returns the intrinsic matrix [3, 3]; pixel (0, 0) covers 0..1, its centre is (0.5, 0.5)."""
    focal = focal_length(height)
    return np.array([[focal, 0.0, width / 2.0], [0.0, focal, height / 2.0], [0.0, 0.0, 1.0]])


def _turn(axis: int, angle: float) -> np.ndarray:
    cosine, sine = math.cos(angle), math.sin(angle)
    first, second = (axis + 1) % 3, (axis + 2) % 3
    matrix = np.eye(3)
    matrix[first, first] = matrix[second, second] = cosine
    matrix[first, second], matrix[second, first] = -sine, sine
    return matrix


def camera_pose(offset: CameraOffset | None = None) -> np.ndarray:
    """Returns the pose [4, 4] of the optical frame in the base frame."""
    offset = offset or CameraOffset()
    forward = np.subtract(TARGET, POSITION)
    forward = forward / np.linalg.norm(forward)
    right = np.cross(forward, (0.0, 0.0, 1.0))
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    nominal = np.stack([right, np.cross(forward, right), forward], axis=1)
    pose[:3, :3] = nominal @ _turn(1, offset.pan) @ _turn(0, offset.tilt) @ _turn(2, offset.roll)
    pose[:3, 3] = np.add(POSITION, offset.position)
    return pose


def project(points: np.ndarray, pose: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Projects points [..., 3] in the base frame to pixels [..., 2] (x right, y down).

    Points behind the camera give NaN.
    """
    local = (np.asarray(points, dtype=np.float64) - pose[:3, 3]) @ pose[:3, :3]
    depth = np.where(local[..., 2:] > 1e-6, local[..., 2:], np.nan)
    image = local @ matrix.T
    return image[..., :2] / depth
