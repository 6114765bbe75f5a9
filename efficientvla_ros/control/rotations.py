"""Rotations as pure functions: static-xyz Euler angles, matrices, quaternions, 4x4 poses.

Euler angles are static (extrinsic) xyz: roll about the fixed x, then pitch about the fixed y, then
yaw about the fixed z, so that `R = Rz(yaw) @ Ry(pitch) @ Rx(roll)`. Quaternions are xyzw, as in
ROS messages. All angles are in radians.
"""

from __future__ import annotations

import math

import numpy as np


def matrix_from_euler(roll: float, pitch: float, yaw: float) -> np.ndarray:
    """Returns the rotation matrix [3, 3] of static-xyz Euler angles in rad."""
    cr, sr = math.cos(roll), math.sin(roll)
    cp, sp = math.cos(pitch), math.sin(pitch)
    cy, sy = math.cos(yaw), math.sin(yaw)
    return np.array(
        [
            [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
            [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
            [-sp, cp * sr, cp * cr],
        ]
    )


def euler_from_matrix(matrix: np.ndarray) -> np.ndarray:
    """Returns static-xyz Euler angles (roll, pitch, yaw) in rad of a rotation matrix [3, 3].

    Pitch is in [-pi/2, pi/2]. At pitch = +-pi/2 only roll -+ yaw is defined; roll is then 0.
    """
    m = np.asarray(matrix, dtype=np.float64)
    cos_pitch = math.hypot(m[0, 0], m[1, 0])
    pitch = math.atan2(-m[2, 0], cos_pitch)
    if cos_pitch < 1e-9:
        return np.array([0.0, pitch, math.atan2(-m[0, 1], m[1, 1])])
    return np.array([math.atan2(m[2, 1], m[2, 2]), pitch, math.atan2(m[1, 0], m[0, 0])])


def quaternion_from_matrix(matrix: np.ndarray) -> np.ndarray:
    """Returns the unit quaternion xyzw [4] with w >= 0 of a rotation matrix [3, 3]."""
    m = np.asarray(matrix, dtype=np.float64)
    # The squared components; the largest one divides the others, which never loses precision.
    squares = np.array(
        [
            1.0 + m[0, 0] - m[1, 1] - m[2, 2],
            1.0 - m[0, 0] + m[1, 1] - m[2, 2],
            1.0 - m[0, 0] - m[1, 1] + m[2, 2],
            1.0 + m[0, 0] + m[1, 1] + m[2, 2],
        ]
    )
    products = np.array(
        [
            [squares[0], m[1, 0] + m[0, 1], m[0, 2] + m[2, 0], m[2, 1] - m[1, 2]],
            [m[1, 0] + m[0, 1], squares[1], m[2, 1] + m[1, 2], m[0, 2] - m[2, 0]],
            [m[0, 2] + m[2, 0], m[2, 1] + m[1, 2], squares[2], m[1, 0] - m[0, 1]],
            [m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1], squares[3]],
        ]
    )
    quaternion = products[int(np.argmax(squares))]
    quaternion = quaternion / np.linalg.norm(quaternion)
    return -quaternion if quaternion[3] < 0.0 else quaternion


def matrix_from_quaternion(quaternion: np.ndarray) -> np.ndarray:
    """Returns the rotation matrix [3, 3] of a quaternion xyzw [4] of any non-zero length.

    Raises:
        ValueError: the quaternion has zero length or is not finite.
    """
    q = np.asarray(quaternion, dtype=np.float64)
    norm = float(np.linalg.norm(q))
    if not math.isfinite(norm) or norm < 1e-12:
        raise ValueError(f'quaternion {q.tolist()} has no direction, expected a non-zero xyzw')
    x, y, z, w = q / norm
    return np.array(
        [
            [1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y - z * w), 2.0 * (x * z + y * w)],
            [2.0 * (x * y + z * w), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z - x * w)],
            [2.0 * (x * z - y * w), 2.0 * (y * z + x * w), 1.0 - 2.0 * (x * x + y * y)],
        ]
    )


def euler_from_quaternion(quaternion: np.ndarray) -> np.ndarray:
    """Returns static-xyz Euler angles (roll, pitch, yaw) in rad of a quaternion xyzw [4]."""
    return euler_from_matrix(matrix_from_quaternion(quaternion))


def quaternion_from_euler(roll: float, pitch: float, yaw: float) -> np.ndarray:
    """Returns the unit quaternion xyzw [4] with w >= 0 of static-xyz Euler angles in rad."""
    return quaternion_from_matrix(matrix_from_euler(roll, pitch, yaw))


def matrix_from_rotation_vector(vector: np.ndarray) -> np.ndarray:
    """Returns the rotation matrix [3, 3] that turns by |vector| rad about vector [3]."""
    v = np.asarray(vector, dtype=np.float64)
    angle = float(np.linalg.norm(v))
    half = 0.5 * angle
    # sin(half)/angle tends to 1/2; np.sinc is sin(pi x)/(pi x) and is exact at 0.
    scale = 0.5 * float(np.sinc(half / math.pi))
    return matrix_from_quaternion(np.append(v * scale, math.cos(half)))


def rotation_vector_from_matrix(matrix: np.ndarray) -> np.ndarray:
    """Returns axis * angle [3] in rad, angle in [0, pi], of a rotation matrix [3, 3]."""
    q = quaternion_from_matrix(matrix)
    length = float(np.linalg.norm(q[:3]))
    if length < 1e-12:
        return 2.0 * q[:3]
    return q[:3] * (2.0 * math.atan2(length, q[3]) / length)


def rotation_angle(matrix: np.ndarray) -> float:
    """Returns the angle in rad, in [0, pi], by which a rotation matrix [3, 3] turns."""
    return float(np.linalg.norm(rotation_vector_from_matrix(matrix)))


def make_pose(rotation: np.ndarray, translation: np.ndarray) -> np.ndarray:
    """Returns the pose [4, 4] of a rotation matrix [3, 3] and a translation [3] in m."""
    pose = np.eye(4)
    pose[:3, :3] = rotation
    pose[:3, 3] = translation
    return pose
