"""Logs what the node sees and does for the Rerun viewer, where `rerun-sdk` is installed.

All of Rerun's work is done in a thread of its own. Whoever hands something over appends it to a
queue and goes on; when the thread falls behind, the oldest records are dropped and counted.
"""

from __future__ import annotations

import socket
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import numpy as np
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from sensor_msgs.msg import JointState as JointStateMsg

from efficientvla_ros.ros import qos
from efficientvla_ros.ros.commander import State
from efficientvla_ros.ros.message_fields import stamp_to_ns
from efficientvla_ros.ros.parameters.logging import rerun_address
from efficientvla_ros.types import InputError

if TYPE_CHECKING:
    from types import ModuleType

    from rclpy.node import Node

    from efficientvla_ros.msg import PolicyStatus
    from efficientvla_ros.ros.parameters.table import Settings
    from efficientvla_ros.types import ActionChunk, JointCommand, Observation

APPLICATION = 'efficientvla'
TIMELINE = 'ros_time'
INSTALL = "pip install 'rerun-sdk>=0.30'"

# Records that wait at most: those with images are large.
_PLANS = 8
_SMALL = 512
_JOINT_PERIOD_NS = 10_000_000
_JPEG_QUALITY = 90
_PORT = 9876  # Rerun's own default
_DIMENSIONS = ('dx', 'dy', 'dz', 'droll', 'dpitch', 'dyaw', 'gripper')
_SCALARS = (
    'rate', 'inference_p50', 'inference_p95', 'latency_p50', 'latency_p95', 'chunk_depth_p50',
    'visual_tokens', 'layers_run', 'diffusion_steps', 'channel_ratio', 'similarity',
    'ticks_late', 'ticks_held', 'image_age', 'memory',
)  # fmt: skip


def open_rerun_log(node: Node, settings: Settings) -> RerunLog | None:
    """Opens the log that `logging.rerun` asks for; None where it asks for none.

    Raises:
        InputError: the package is missing, or the target cannot be opened.
    """
    target = settings['logging.rerun']
    if not target:
        return None
    try:
        import rerun
    except ImportError as error:
        missing = getattr(error, 'name', None) or 'rerun'
        raise InputError(
            f'parameter logging.rerun: got "{target}", but "{missing}" is not installed: '
            f'{INSTALL}, or leave it empty'
        ) from None
    return RerunLog(node, rerun, _open(rerun, target), settings['control.joints'])


def _open(rerun: ModuleType, target: str) -> object:
    """A recording that writes to the target."""
    address = rerun_address(target)
    try:
        recording = rerun.RecordingStream(APPLICATION)
        if target == 'spawn':
            recording.spawn()
        elif address is not None:
            # Rerun itself would try for ever, and hold up the end of the process.
            parts = urlsplit(address)
            socket.create_connection((parts.hostname, parts.port or _PORT), 2.0).close()
            recording.connect_grpc(address)
        else:
            path = Path(target).expanduser()
            if not path.parent.is_dir():
                raise InputError(
                    f'parameter logging.rerun: folder "{path.parent}" does not exist, expected '
                    'the path of a file in an existing one'
                )
            recording.save(path)
    except InputError:
        raise
    except OSError as error:
        raise InputError(
            f'parameter logging.rerun: "{target}" cannot be opened: {error}; expected a file that '
            'can be written, or the address of a viewer that runs'
        ) from error
    except Exception as error:  # of any kind: it comes from another package
        text = ' '.join(str(error).split())[:200]
        raise InputError(
            f'parameter logging.rerun: "{target}" cannot be opened: {type(error).__name__}: '
            f'{text}; expected {INSTALL}'
        ) from error
    return recording


class RerunLog:
    """Hands records to Rerun without making anybody wait.

    Attributes:
        dropped: records that were dropped because the log was behind, or refused by Rerun.
    """

    def __init__(
        self, node: Node, rerun: ModuleType, recording: object, joints: list[str]
    ) -> None:
        """Starts the thread and hears the joint states.

        Args:
            node: the node.
            rerun: the package.
            recording: where it logs to.
            joints: names of the joints that are logged.
        """
        self._node = node
        self._rerun = rerun
        self._recording = recording
        self._joints = frozenset(joints)
        self._condition = threading.Condition()
        self._plans: deque[Callable[[], None]] = deque()
        self._small: deque[Callable[[], None]] = deque()
        self._stopping = False
        self._joint_stamp_ns = 0
        self._following: JointCommand | None = None
        self._followed_ns = 0
        self._said = ''
        self.dropped = 0
        self._thread = threading.Thread(target=self._run, name='rerun_log', daemon=True)
        self._thread.start()
        self._subscription = node.create_subscription(
            JointStateMsg,
            'joint_states',
            self._on_joint_state,
            qos.joint_states(),
            callback_group=MutuallyExclusiveCallbackGroup(),
        )

    def planned(self, observation: Observation, chunk: ActionChunk) -> None:
        """Takes an observation and the plan that was made of it."""
        self._offer(self._plans, _PLANS, lambda: self._log_plan(observation, chunk))

    def commanded(self, command: JointCommand, now_ns: int) -> None:
        """Takes a command at the time when it replaced the one before, ns."""
        self._offer(self._small, _SMALL, lambda: self._log_followed(command, now_ns))

    def ended(self, now_ns: int) -> None:
        """Says that the arm does not follow the newest command any more, since a time in ns."""
        self._offer(self._small, _SMALL, lambda: self._log_followed(None, now_ns))

    def status(self, status: PolicyStatus) -> None:
        """Takes a status; it must not be written to afterwards."""
        self._offer(self._small, _SMALL, lambda: self._log_status(status))

    def close(self, timeout_s: float = 2.0) -> None:
        """Writes what waits and ends; after the time limit what still waits is lost."""
        self._node.destroy_subscription(self._subscription)
        with self._condition:
            self._stopping = True
            self._condition.notify()
        self._thread.join(timeout_s)

    def _offer(self, queue: deque, size: int, record: Callable[[], None]) -> None:
        with self._condition:
            if self._stopping:
                return
            if len(queue) >= size:
                queue.popleft()
                self.dropped += 1
            queue.append(record)
            self._condition.notify()

    def _run(self) -> None:
        while (record := self._next()) is not None:
            try:
                record()
            except Exception as error:  # a record that cannot be logged must not end the log
                self.dropped += 1
                self._complain(error)
        try:
            self._recording.flush(timeout_sec=1.0)
            self._recording.disconnect()
        except Exception as error:
            self._complain(error)

    def _next(self) -> Callable[[], None] | None:
        with self._condition:
            self._condition.wait_for(lambda: self._stopping or self._small or self._plans)
            if self._small:
                return self._small.popleft()
            return self._plans.popleft() if self._plans else None

    def _complain(self, error: Exception) -> None:
        text = f'{type(error).__name__}: {" ".join(str(error).split())[:200]}'
        if text != self._said:
            self._said = text
            self._node.get_logger().warning(f'logging.rerun: {text}')

    def _on_joint_state(self, message: JointStateMsg) -> None:
        stamp_ns = stamp_to_ns(message.header.stamp) or self._node.get_clock().now().nanoseconds
        if 0 <= stamp_ns - self._joint_stamp_ns < _JOINT_PERIOD_NS:
            return  # a controller may send a thousand of them a second
        if self._joints.isdisjoint(message.name):
            return
        self._joint_stamp_ns = stamp_ns
        self._offer(self._small, _SMALL, lambda: self._log_joints(message, stamp_ns))

    # What follows runs in the thread of the log.

    def _at(self, stamp_ns: int) -> None:
        self._recording.set_time(TIMELINE, timestamp=np.datetime64(stamp_ns, 'ns'))

    def _scalar(self, path: str, value: float) -> None:
        self._recording.log(path, self._rerun.Scalars([float(value)]))

    def _log_plan(self, observation: Observation, chunk: ActionChunk) -> None:
        rerun, record = self._rerun, self._recording.log
        self._at(observation.stamp_ns)
        for camera, image in observation.images.items():
            picture = rerun.Image(np.ascontiguousarray(image))
            record(f'cameras/{camera}', picture.compress(jpeg_quality=_JPEG_QUALITY))
        record('plan/actions', rerun.Tensor(chunk.actions, dim_names=('step', 'value')))
        for name, value in zip(_DIMENSIONS, chunk.actions[0]):
            self._scalar(f'plan/first_action/{name}', value)

    def _log_joints(self, message: JointStateMsg, stamp_ns: int) -> None:
        self._at(stamp_ns)
        for name, position in zip(message.name, message.position):
            self._scalar(f'joints/{name}/measured', position)

    def _log_followed(self, command: JointCommand | None, now_ns: int) -> None:
        # Of the command before, only what the arm was given time to follow.
        before, since_ns = self._following, self._followed_ns
        self._following, self._followed_ns = command, now_ns
        if before is None:
            return
        due_ns = before.stamp_ns + np.round(before.times * 1e9).astype(np.int64)
        for point in np.flatnonzero((due_ns > since_ns) & (due_ns <= now_ns)):
            self._at(int(due_ns[point]))
            for name, position in zip(before.names, before.positions[point]):
                self._scalar(f'joints/{name}/commanded', position)

    def _log_status(self, status: PolicyStatus) -> None:
        self._at(stamp_to_ns(status.header.stamp))
        for name in _SCALARS:
            self._scalar(f'status/{name}', getattr(status, name))
        for stage, seconds in zip(status.stage_names, status.stage_p50):
            self._scalar(f'status/stage_p50/{stage}', seconds)
        for camera, rate in zip(status.camera_names, status.camera_rate):
            self._scalar(f'status/camera_rate/{camera}', rate)
        state = State(status.state)
        text = f'{state.label}: {status.hold_reason}' if status.hold_reason else state.label
        level = {State.ERROR: 'ERROR', State.HOLDING: 'WARN', State.STOPPED: 'WARN'}
        document = self._rerun.TextLog(text, level=level.get(state, 'INFO'))
        self._recording.log('status/state', document)
