"""What the simulator node sends and takes, as ROS messages."""

from __future__ import annotations

import numpy as np
from sensor_msgs.msg import CameraInfo, JointState
from trajectory_msgs.msg import JointTrajectory

from efficientvla_ros.msg import EpisodeResult
from efficientvla_ros.ros.conversions import stamp_from_ns
from efficientvla_ros.ros.message_fields import stamp_to_ns
from efficientvla_ros.ros.simulator.live_tabletop import EpisodeEnd

_NS = 1_000_000_000


def camera_info_message(
    matrix: np.ndarray, width: int, height: int, stamp_ns: int, frame_id: str
) -> CameraInfo:
    """Calibration of an undistorted camera.

    Args:
        matrix: intrinsic matrix [3, 3] with pixel centres at (0.5, 0.5), pixels.
        width: image width, pixels.
        height: image height, pixels.
        stamp_ns: stamp of the image it belongs to, ns.
        frame_id: optical frame.
    """
    k = np.array(matrix, dtype=np.float64)
    k[:2, 2] -= 0.5  # CameraInfo counts from the centre of the first pixel
    message = CameraInfo(width=width, height=height, distortion_model='plumb_bob')
    message.header.stamp = stamp_from_ns(stamp_ns)
    message.header.frame_id = frame_id
    message.d = [0.0] * 5
    message.k = k.ravel()
    message.r = np.eye(3).ravel()
    message.p = np.hstack([k, np.zeros((3, 1))]).ravel()
    return message


def joint_state_message(
    names: tuple[str, ...],
    positions: np.ndarray,
    velocities: np.ndarray,
    stamp_ns: int,
    frame_id: str,
) -> JointState:
    """Joint positions [rad, m] and velocities [rad/s, m/s]."""
    message = JointState(name=list(names))
    message.header.stamp = stamp_from_ns(stamp_ns)
    message.header.frame_id = frame_id
    message.position = positions.tolist()
    message.velocity = velocities.tolist()
    return message


def episode_result_message(end: EpisodeEnd, stamp_ns: int, frame_id: str) -> EpisodeResult:
    """How an episode ended."""
    message = EpisodeResult(
        episode=end.index,
        seed=end.episode.seed,
        task=end.episode.task,
        instruction=end.instruction,
        instruction_changed=end.changed,
        success=end.success,
        outcome=end.outcome,
        lifted_object=end.lifted_object,
        steps=end.steps,
        duration=end.duration,
    )
    message.header.stamp = stamp_from_ns(stamp_ns)
    message.header.frame_id = frame_id
    return message


def trajectory_arrays(
    message: JointTrajectory,
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Points of a trajectory as arrays.

    Returns:
        Times [points] in seconds after the stamp, positions [points, joints], and velocities
        [points, joints] or None where no point has any.

    Raises:
        ValueError: the points are not of equal size.
    """
    points = message.points
    times = np.array([stamp_to_ns(p.time_from_start) / _NS for p in points], np.float64)
    positions = _rows([p.positions for p in points], 'positions')
    if not any(len(p.velocities) for p in points):
        return times, positions, None
    return times, positions, _rows([p.velocities for p in points], 'velocities')


def _rows(rows: list, what: str) -> np.ndarray:
    sizes = sorted({len(row) for row in rows})
    if len(sizes) > 1:
        raise ValueError(f'the points have {sizes[0]} to {sizes[-1]} {what}, expected all alike')
    return np.array([np.asarray(row, np.float64) for row in rows])
