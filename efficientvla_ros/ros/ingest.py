"""What was heard, and which of it a tick works on: shared by the live node and by replay.

Free of ROS: messages only need the fields of their types. Nothing is worked on here; images are
kept by reference, the recent ones only.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from efficientvla_ros.control.joint_history import JointHistory
from efficientvla_ros.control.reasons import HoldReason
from efficientvla_ros.ros.cameras.camera_sync import CameraSync, Frame
from efficientvla_ros.ros.message_fields import joint_state, stamp_to_ns
from efficientvla_ros.ros.parameters.camera import uses_receive_time
from efficientvla_ros.ros.parameters.table import Settings
from efficientvla_ros.types import InputError

_CLOCK_RESET_NS = 1_000_000_000
Problem = tuple[HoldReason, str]


@dataclass(frozen=True)
class Listeners:
    """Who is told that something arrived; called in the executor's threads, so keep it short."""

    image: Callable[[], None]
    instruction: Callable[[], None]
    clock_reset: Callable[[], None]
    arrived: Callable[[str, int], None] = lambda camera, stamp_ns: None  # before `image`


class Ingest:
    """Takes messages, answers what there is to plan from; safe to use from several threads."""

    def __init__(
        self, settings: Settings, listeners: Listeners, warn: Callable[[str], None]
    ) -> None:
        """Starts with nothing heard.

        Args:
            settings: names of cameras and joints, and how images are stamped.
            listeners: told what arrived.
            warn: takes lines for the log.
        """
        self._listeners = listeners
        self._warn = warn
        self._arm = tuple(settings['control.joints'])
        self._with_gripper = (*self._arm, settings['gripper.joint'])
        self._cameras = tuple(settings['cameras.names'])
        self._by_receipt = uses_receive_time(settings)
        self._lock = threading.Lock()
        self._images = CameraSync(self._cameras)
        self._follow(settings)
        self._stamps: dict[str, int] = {}
        self._unstamped: set[str] = set()
        self._joint_fault = ''
        self._lead_arrived = 0.0
        self.waits_for_fresh = True
        self.joints = JointHistory(capacity=500)
        self.images_received = 0
        self.instruction: str | None = None
        self.description: str | None = None

    def on_image(self, camera: str, message: Any, received_ns: int) -> None:
        """Takes an Image or CompressedImage that was received at a time in ns."""
        stamp_ns = received_ns
        source = f'camera "{camera}"'
        if self._by_receipt[camera]:
            self._watch_clock(source, stamp_ns)
        else:
            stamp_ns = self._stamp(message, source, received_ns)
        with self._lock:
            self.images_received += 1
            self._images.add(Frame(camera, message, stamp_ns, self.images_received))
            if camera == self._cameras[0]:
                self._lead_arrived = time.monotonic()
        self._listeners.arrived(camera, stamp_ns)
        self._listeners.image()

    def on_joint_state(self, message: Any, received_ns: int) -> None:
        """Takes a JointState that was received at a time in ns."""
        if set(message.name).isdisjoint(self._arm):
            return  # another mechanism on the same topic
        self.keep_joints(message, self._stamp(message, 'joint_states', received_ns))

    def keep_joints(self, message: Any, stamp_ns: int) -> None:
        """Takes the arm's joints out of a JointState that counts from a time in ns."""
        with_gripper = self._with_gripper[-1] in message.name
        names = self._with_gripper if with_gripper else self._arm
        try:
            self.joints.add(joint_state(message, names, stamp_ns))
            self._joint_fault = ''
        except InputError as error:
            self._joint_fault = str(error)

    def on_description(self, message: Any) -> None:
        """Takes a String with a URDF."""
        self.description = message.data

    def on_instruction(self, message: Any) -> None:
        """Takes a String with an instruction."""
        if message.data != self.instruction:
            self.instruction = message.data
            self._listeners.instruction()

    def forget(self) -> None:
        """Forgets images and joint states; instruction and robot description stay."""
        with self._lock:
            self._images.clear()
            self._stamps.clear()
        self.joints.clear()

    def select(self, settings: Settings, wait: bool = True) -> tuple[Frame, ...] | Problem | None:
        """Returns the images of the next observation, in the order of the cameras.

        Args:
            settings: how they are synchronised.
            wait: whether images are waited for that were not used yet.

        Returns:
            One image of each camera; or why the arm must be held; or None while cameras are
            waited for.
        """
        with self._lock:
            self._follow(settings)
            if wait and self._stale(settings['cameras.fresh']):
                return None
            selection = self._images.select(round(settings['cameras.max_skew'] * 1e9), wait)
        return (HoldReason.CAMERA_SKEW, selection.fault) if selection.fault else selection.frames

    def _stale(self, limit_s: float) -> bool:
        """Whether the next image is worth waiting for."""
        if not self.waits_for_fresh or limit_s == 0.0:
            return False
        return time.monotonic() - self._lead_arrived > limit_s

    def used(self) -> None:
        """Says that an observation was made from what `select` returned."""
        with self._lock:
            self._images.use()

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
            with self._lock:
                frame = self._images.newest(camera)
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
        with self._lock:
            frames = self._images.newest_of_each()
        return -1.0 if frames is None else (now_ns - min(f.stamp_ns for f in frames)) * 1e-9

    @property
    def lead_stamp_ns(self) -> int | None:
        """Stamp of the newest image of the first camera, ns."""
        with self._lock:
            frame = self._images.newest(self._cameras[0])
        return None if frame is None else frame.stamp_ns

    def _follow(self, settings: Settings) -> None:
        self._images.policy = settings['cameras.sync']
        self._images.capacity = settings['cameras.history']

    def _stamp(self, message: Any, source: str, received_ns: int) -> int:
        """The header's stamp, or the time of arrival where it has none, in ns."""
        stamp_ns = stamp_to_ns(message.header.stamp)
        if stamp_ns == 0:
            if source not in self._unstamped:
                self._unstamped.add(source)
                self._warn(f'{source}: no time stamp, the time of arrival is taken instead')
            return received_ns
        self._watch_clock(source, stamp_ns)
        return stamp_ns

    def _watch_clock(self, source: str, stamp_ns: int) -> None:
        """Starts over where the stamps of a source jump back."""
        if stamp_ns < self._stamps.get(source, 0) - _CLOCK_RESET_NS:
            self.forget()
            self._listeners.clock_reset()
        self._stamps[source] = stamp_ns


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
