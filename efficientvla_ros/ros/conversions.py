"""From the types of `efficientvla_ros.types` to ROS messages; stamps are ns of one clock."""

from __future__ import annotations

import array
from dataclasses import replace

import numpy as np
from builtin_interfaces.msg import Duration, Time
from geometry_msgs.msg import Pose
from sensor_msgs.msg import Image
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from efficientvla_ros.control.rotations import quaternion_from_matrix
from efficientvla_ros.msg import ActionChunk as ActionChunkMsg
from efficientvla_ros.types import ActionChunk, JointCommand

_SECOND = 1_000_000_000


def stamp_from_ns(stamp_ns: int) -> Time:
    """Returns ns as a time message."""
    seconds, nanoseconds = divmod(stamp_ns, _SECOND)
    return Time(sec=seconds, nanosec=nanoseconds)


def duration_from_s(seconds: float) -> Duration:
    """Returns seconds as a duration message, rounded to ns."""
    whole, nanoseconds = divmod(round(seconds * _SECOND), _SECOND)
    return Duration(sec=whole, nanosec=nanoseconds)


def image_message(image: np.ndarray, stamp_ns: int, frame_id: str) -> Image:
    """Returns a picture, uint8 [height, width, 3], RGB, as an rgb8 message."""
    message = Image(height=image.shape[0], width=image.shape[1], encoding='rgb8')
    message.header.stamp = stamp_from_ns(stamp_ns)
    message.header.frame_id = frame_id
    message.step = 3 * image.shape[1]
    # An array is taken as it is; bytes or a list would be checked element by element.
    data = array.array('B')
    data.frombytes(memoryview(np.ascontiguousarray(image)).cast('B'))
    message.data = data
    return message


def joint_trajectory(command: JointCommand, frame_id: str) -> JointTrajectory:
    """Returns a command as a message; its stamp is the command's."""
    message = JointTrajectory(joint_names=list(command.names))
    message.header.stamp = stamp_from_ns(command.stamp_ns)
    message.header.frame_id = frame_id
    message.points = [
        JointTrajectoryPoint(
            positions=_doubles(positions),
            velocities=_doubles(velocities),
            time_from_start=duration_from_s(float(time)),
        )
        for time, positions, velocities in zip(
            command.times, command.positions, command.velocities, strict=True
        )
    ]
    return message


def columns(command: JointCommand, names: tuple[str, ...]) -> JointCommand:
    """Returns the part of a command that concerns the joints named."""
    indices = [command.names.index(name) for name in names]
    return replace(
        command,
        names=names,
        positions=command.positions[:, indices],
        velocities=command.velocities[:, indices],
    )


def pose(matrix: np.ndarray) -> Pose:
    """Returns a pose matrix [4, 4] as a message."""
    message = Pose()
    position, orientation = message.position, message.orientation
    position.x, position.y, position.z = (float(value) for value in matrix[:3, 3])
    quaternion = quaternion_from_matrix(matrix[:3, :3])
    orientation.x, orientation.y, orientation.z, orientation.w = (float(v) for v in quaternion)
    return message


def action_chunk(chunk: ActionChunk, frame_id: str) -> ActionChunkMsg:
    """Returns a chunk as a message."""
    message = ActionChunkMsg(
        instruction=chunk.instruction,
        sequence=chunk.sequence,
        action_space=chunk.action_space,
        step_duration=float(chunk.step_duration),
        horizon=chunk.actions.shape[0],
        dimension=chunk.actions.shape[1],
        actions=_doubles(chunk.actions.ravel()),
        anchor_valid=chunk.anchor is not None,
    )
    message.header.stamp = stamp_from_ns(chunk.stamp_ns)
    message.header.frame_id = frame_id
    if chunk.anchor is not None:
        message.anchor = pose(chunk.anchor)
    return message


def _doubles(values: np.ndarray) -> array.array:
    # The generated setters take an array as it is; a list they check element by element.
    return array.array('d', np.ascontiguousarray(values, dtype=np.float64).tobytes())
