"""Which images of several cameras make one observation; free of ROS.

Messages are kept by reference and never copied; the history of every camera is bounded.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

LATEST, HOLD, AS_OF = 'latest', 'hold', 'as_of'
POLICIES = (LATEST, HOLD, AS_OF)
LAG = 3
"""With `hold`, a camera lags that gave no image while the first one gave so many."""


@dataclass(frozen=True)
class Frame:
    """An image message of a camera.

    Attributes:
        camera: its name.
        message: Image or CompressedImage, not decoded yet.
        stamp_ns: time of the image, ns of the node's clock.
        number: running number among the images of all cameras.
    """

    camera: str
    message: Any
    stamp_ns: int
    number: int


@dataclass(frozen=True)
class Selection:
    """The images of one observation, or why there are none.

    Attributes:
        frames: one of each camera, in the order of the cameras; None while there are none.
        fault: one line where the images are too far apart; empty while cameras are waited for.
    """

    frames: tuple[Frame, ...] | None = None
    fault: str = ''


class CameraSync:
    """The recent images of every camera; the first camera leads. Not locked.

    Attributes:
        policy: one of `POLICIES`; may be changed at any time.
        capacity: images that `as_of` keeps of every camera but the first; else one is kept.
    """

    def __init__(self, cameras: Sequence[str]) -> None:
        """Sets up empty histories for cameras in the order of the model."""
        self._cameras = tuple(cameras)
        self.policy = LATEST
        self.capacity = 8
        self.clear()

    def clear(self) -> None:
        """Forgets all images, and which ones were used."""
        self._frames: dict[str, list[Frame]] = {camera: [] for camera in self._cameras}
        self._arrived = dict.fromkeys(self._cameras, 0)
        self._used = dict(self._arrived)

    def add(self, frame: Frame) -> None:
        """Takes an image; in the order of stamps, whatever the order of arrival."""
        kept = self._frames[frame.camera]
        kept.insert(bisect_right([other.stamp_ns for other in kept], frame.stamp_ns), frame)
        self._arrived[frame.camera] += 1
        self._trim(frame.camera)
        if self.policy == AS_OF and frame.camera == self._cameras[0]:
            for camera in self._cameras[1:]:
                self._trim(camera)

    def newest(self, camera: str) -> Frame | None:
        """The newest image of a camera, by stamp."""
        kept = self._frames[camera]
        return kept[-1] if kept else None

    def newest_of_each(self) -> tuple[Frame, ...] | None:
        """The newest image of every camera, in the order of the cameras; None if one lacks."""
        frames = tuple(self.newest(camera) for camera in self._cameras)
        return None if None in frames else frames

    def use(self) -> None:
        """Says that an observation was made: the next one needs images that arrive after it."""
        self._used = dict(self._arrived)

    def select(self, max_skew_ns: int, wait: bool = True) -> Selection:
        """Returns the images of the next observation.

        Args:
            max_skew_ns: largest difference to the stamp of the first camera; 0 allows any.
            wait: whether images are waited for that were not used yet: a new one of the first
                camera, with `hold` one of every camera.
        """
        frames = self.newest_of_each()
        if frames is None or (wait and not self._complete()):
            return Selection()
        if self.policy == AS_OF:
            frames, fault = self._as_of(frames)
            if fault:
                return Selection(fault=fault)
        fault = _skew_fault(frames, max_skew_ns)
        return Selection(fault=fault) if fault else Selection(frames)

    def _complete(self) -> bool:
        """Whether there is enough that was not used yet."""
        new = {name: self._arrived[name] - self._used[name] for name in self._cameras}
        first = new[self._cameras[0]]
        if self.policy != HOLD:
            return first > 0
        # A camera that lags does not hold up the others for long: its last image is kept.
        return first >= LAG or all(new.values())

    def _as_of(self, newest: tuple[Frame, ...]) -> tuple[tuple[Frame, ...], str]:
        lead = newest[0]
        frames = [lead]
        for camera in self._cameras[1:]:
            kept = self._frames[camera]
            place = bisect_right([frame.stamp_ns for frame in kept], lead.stamp_ns)
            if place == 0:
                late = (kept[0].stamp_ns - lead.stamp_ns) * 1e-9
                fault = (
                    f'camera "{camera}": no image from before the newest one of '
                    f'"{lead.camera}", its oldest is {late:.3f} s younger'
                )
                return newest, fault
            frames.append(kept[place - 1])
        return tuple(frames), ''

    def _trim(self, camera: str) -> None:
        """Drops what no observation can use any more."""
        kept = self._frames[camera]
        lead = self.newest(self._cameras[0])
        capacity = 1
        if self.policy == AS_OF and camera != self._cameras[0]:
            capacity = self.capacity
            if lead is not None:
                stamps = [frame.stamp_ns for frame in kept]
                del kept[: max(0, bisect_right(stamps, lead.stamp_ns) - 1)]
        del kept[:-capacity]


def _skew_fault(frames: tuple[Frame, ...], max_skew_ns: int) -> str:
    """Which camera is too far from the first one, empty when none is."""
    if max_skew_ns == 0:
        return ''
    lead = frames[0]
    worst = max(frames, key=lambda frame: abs(frame.stamp_ns - lead.stamp_ns))
    skew = worst.stamp_ns - lead.stamp_ns
    if abs(skew) <= max_skew_ns:
        return ''
    side = 'younger' if skew > 0 else 'older'
    return (
        f'camera "{worst.camera}": image is {abs(skew) * 1e-9:.3f} s {side} than that of '
        f'"{lead.camera}", expected at most {max_skew_ns * 1e-9:g} s (cameras.max_skew)'
    )
