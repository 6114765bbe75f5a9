"""Messages to an `Observation`: shared by the live node and by replay; free of ROS."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from efficientvla_ros.ros.cameras.camera_view import CameraView, camera_views
from efficientvla_ros.ros.cameras.images import decode
from efficientvla_ros.types import Observation

if TYPE_CHECKING:
    from efficientvla_ros.control.joint_history import JointHistory
    from efficientvla_ros.ros.cameras.camera_sync import Frame
    from efficientvla_ros.ros.parameters.table import Settings


class ObservationBuilder:
    """Decodes the images of an observation, and looks up the arm at its stamp."""

    def __init__(self, camera_names: Sequence[str], joints: JointHistory) -> None:
        """Sets up a builder.

        Args:
            camera_names: what the model calls its cameras, in the order of `cameras.names`.
            joints: where the joints were.
        """
        self._names = tuple(camera_names)
        self._joints = joints
        self._settings: Settings | None = None
        self._views: tuple[CameraView, ...] = ()

    def build(self, frames: Sequence[Frame], instruction: str, settings: Settings) -> Observation:
        """Returns an observation with the stamp of the first image.

        The images are views on the messages where the encoding allows it; crop and rotation copy
        nothing.

        Raises:
            InputError: an image cannot be used; the line names the camera.
        """
        if settings is not self._settings:
            self._settings, self._views = settings, camera_views(settings)
        images: dict[str, np.ndarray] = {}
        for name, frame, view in zip(self._names, frames, self._views, strict=True):
            images[name] = view.of(decode(frame.message, frame.camera), frame.camera)
        stamp_ns = frames[0].stamp_ns
        return Observation(images, instruction, stamp_ns, self._joints.state_at(stamp_ns))
