"""What the node hears: only the newest of everything is kept, nothing is worked on here."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.node import Node
from sensor_msgs.msg import CompressedImage, Image
from sensor_msgs.msg import JointState as JointStateMsg
from std_msgs.msg import String

from efficientvla_ros.control.joint_history import JointHistory
from efficientvla_ros.control.reasons import HoldReason
from efficientvla_ros.ros import qos
from efficientvla_ros.ros.conversions import joint_state, stamp_to_ns
from efficientvla_ros.ros.parameter_table import Settings
from efficientvla_ros.ros.parameters import compressed_flags
from efficientvla_ros.ros.timing import Window, timed
from efficientvla_ros.types import InputError

_CLOCK_RESET_NS = 1_000_000_000
Problem = tuple[HoldReason, str]


@dataclass(frozen=True)
class Frame:
    """The newest image message of a camera.

    Attributes:
        camera: its name.
        message: Image or CompressedImage, not decoded yet.
        stamp_ns: time of the image, ns of the node's clock.
        number: running number of images of this camera.
    """

    camera: str
    message: Image | CompressedImage
    stamp_ns: int
    number: int


@dataclass(frozen=True)
class Listeners:
    """Who is told that something arrived; called in the executor's threads, so keep it short."""

    image: Callable[[], None]
    instruction: Callable[[], None]
    clock_reset: Callable[[], None]


class Inputs:
    """Subscriptions of the policy, set up on any node."""

    def __init__(
        self, node: Node, settings: Settings, listeners: Listeners, durations: Window
    ) -> None:
        """Subscribes.

        Args:
            node: the node.
            settings: names of cameras and joints.
            listeners: told what arrived.
            durations: takes the duration of every callback, s.
        """
        self._node = node
        self._log = node.get_logger()
        self._listeners = listeners
        self._durations = durations
        self._arm = tuple(settings['control.joints'])
        self._with_gripper = (*self._arm, settings['gripper.joint'])
        self._cameras = tuple(settings['cameras.names'])
        self._lock = threading.Lock()
        self._frames: dict[str, Frame] = {}
        self._stamps: dict[str, int] = {}
        self._unstamped: set[str] = set()
        self._joint_fault = ''
        self.joints = JointHistory(capacity=500)
        self.images_received = 0
        self.instruction: str | None = None
        self.description: str | None = None
        self._group = MutuallyExclusiveCallbackGroup()
        self._subscriptions = []
        self._subscribe(compressed_flags(settings))

    def _subscribe(self, compressed: tuple[bool, ...]) -> None:
        for camera, packed in zip(self._cameras, compressed, strict=True):
            kind = CompressedImage if packed else Image
            topic = f'{camera}/image_raw' + ('/compressed' if packed else '')
            self._hear(kind, topic, self._image_callback(camera), qos.newest_image())
        self._hear(JointStateMsg, 'joint_states', self._on_joint_state, qos.joint_states())
        self._hear(String, 'robot_description', self._on_description, qos.latched())
        # A transient-local subscription does not hear volatile publishers, so there are two.
        self._hear(String, 'instruction', self._on_instruction, qos.newest())
        self._hear(String, 'instruction', self._on_instruction, qos.latched(), 'latched')

    def _hear(self, kind, topic, callback, profile, entity: str | None = None) -> None:
        subscription = self._node.create_subscription(
            kind,
            topic,
            timed(self._durations, callback),
            profile,
            callback_group=self._group,
            qos_overriding_options=qos.overridable(entity),
            # The latched subscription to the instruction cannot hear volatile publishers; the
            # other one does, so rclpy's warning about it would only mislead.
            event_callbacks=None if entity is None else qos.no_event_callbacks(),
        )
        self._subscriptions.append(subscription)

    def destroy(self) -> None:
        """Unsubscribes and forgets everything."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions.clear()
        self.forget()
        self.instruction = self.description = None

    def forget(self) -> None:
        """Forgets images and joint states; instruction and robot description stay."""
        with self._lock:
            self._frames.clear()
            self._stamps.clear()
        self.joints.clear()

    def frames(self) -> tuple[Frame, ...] | None:
        """The newest image of every camera, in the order of the cameras; None if one lacks."""
        with self._lock:
            if len(self._frames) < len(self._cameras):
                return None
            return tuple(self._frames[camera] for camera in self._cameras)

    def arm_at(self, stamp_ns: int) -> np.ndarray | None:
        """Positions [joints] of the arm at a time in ns, interpolated; None when not known."""
        positions = self.joints.at(stamp_ns)
        return None if positions is None else positions[: len(self._arm)]

    def image_problem(self, settings: Settings, now_ns: int) -> Problem | None:
        """What keeps the policy from planning, if anything."""
        if now_ns == 0:
            return HoldReason.NO_CLOCK, 'use_sim_time is true, but nothing came on /clock yet'
        if self.instruction is None:
            return HoldReason.NO_INSTRUCTION, 'nothing came on "instruction" yet'
        limit = settings['safety.max_image_age']
        for camera in self._cameras:
            frame = self._frames.get(camera)
            if frame is None:
                return HoldReason.NO_IMAGE, f'camera "{camera}": no image came yet'
            fault = _age_fault(now_ns - frame.stamp_ns, limit)
            if fault:
                return HoldReason.IMAGE_TOO_OLD, f'camera "{camera}": newest image {fault}'
        return None

    def joint_problem(self, settings: Settings, now_ns: int) -> Problem | None:
        """What keeps the arm from being commanded, if anything."""
        newest = self.joints.newest
        if newest is None:
            return HoldReason.NO_JOINT_STATE, self._joint_fault or 'no joint state came yet'
        fault = _age_fault(now_ns - newest.stamp_ns, settings['safety.max_joint_state_age'])
        if fault:
            detail = f'newest joint state {fault}'
            if self._joint_fault:
                detail += f'; {self._joint_fault}'
            return HoldReason.JOINT_STATE_TOO_OLD, detail
        return None

    def image_age(self, now_ns: int) -> float:
        """Age of the oldest of the newest images, s; negative when one is missing."""
        frames = self.frames()
        return -1.0 if frames is None else (now_ns - min(f.stamp_ns for f in frames)) * 1e-9

    def _image_callback(self, camera: str) -> Callable[[Image | CompressedImage], None]:
        def on_image(message) -> None:
            stamp_ns = self._stamp(message, f'camera "{camera}"')
            with self._lock:
                self.images_received += 1
                frame = Frame(camera, message, stamp_ns, self.images_received)
                self._frames[camera] = frame
            self._listeners.image()

        return on_image

    def _on_joint_state(self, message: JointStateMsg) -> None:
        present = set(message.name)
        if not present.intersection(self._arm):
            return  # another mechanism on the same topic
        stamp_ns = self._stamp(message, 'joint_states')
        names = self._with_gripper if self._with_gripper[-1] in present else self._arm
        try:
            self.joints.add(joint_state(message, names, stamp_ns))
            self._joint_fault = ''
        except InputError as error:
            self._joint_fault = str(error)

    def _on_description(self, message: String) -> None:
        self.description = message.data

    def _on_instruction(self, message: String) -> None:
        if message.data != self.instruction:
            self.instruction = message.data
            self._listeners.instruction()

    def _stamp(self, message, source: str) -> int:
        """The header's stamp, or the time of arrival where it has none, in ns."""
        stamp_ns = stamp_to_ns(message.header.stamp)
        if stamp_ns == 0:
            if source not in self._unstamped:
                self._unstamped.add(source)
                self._log.warning(f'{source}: no time stamp, the time of arrival is taken instead')
            return self._node.get_clock().now().nanoseconds
        if stamp_ns < self._stamps.get(source, 0) - _CLOCK_RESET_NS:
            self.forget()
            self._listeners.clock_reset()
        self._stamps[source] = stamp_ns
        return stamp_ns


def _age_fault(age_ns: int, limit_s: float) -> str:
    """What is wrong with an age, empty when it is fine."""
    age = age_ns * 1e-9
    if -1.0 <= age <= limit_s:
        return ''
    if abs(age) > 1e6:
        return (
            f'is {abs(age):.3g} s {"old" if age > 0 else "in the future"}: '
            'is use_sim_time the same here and at its publisher?'
        )
    if age < 0:
        return f'is {-age:.2f} s in the future, expected the clocks to agree'
    return f'is {age:.2f} s old, expected at most {limit_s:g} s'
