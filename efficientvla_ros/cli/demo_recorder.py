"""Keeps what the camera shows during a demo: the video, and key frames for the report."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from efficientvla_ros.evaluation.demo_report import FilmStrip, key_frame_indices
from efficientvla_ros.evaluation.demo_summary import EpisodeRow
from efficientvla_ros.evaluation.video import Caption, VideoWriter

KEY_FRAME_SIDE = 224
_KEY_FRAME_EVERY_NS = 200_000_000
MAX_STRIPS = 4


class DemoRecorder:
    """Takes camera images while an episode is on the screen, ignores them otherwise.

    Attributes:
        caption: what is written around the next image; None pauses the recording.
    """

    def __init__(self, video: Path | None) -> None:
        """Opens the video; without one, nothing is kept.

        Raises:
            InputError: it cannot be written.
        """
        self._video = None if video is None else VideoWriter(video)
        self._frames: list[tuple[int, np.ndarray]] = []
        self._finished: list[tuple[EpisodeRow, list[tuple[int, np.ndarray]]]] = []
        self.caption: Caption | None = None

    @property
    def frames(self) -> int:
        """Images in the video so far."""
        return self._video.frames if self._video else 0

    def begin_episode(self) -> None:
        """Starts a new series of key frames."""
        self._frames = []

    def add(self, image: np.ndarray, stamp_ns: int) -> None:
        """Takes an image uint8 [height, width, 3], RGB, and its stamp in ns."""
        if self.caption is None or self._video is None:
            return
        self._video.add(image, stamp_ns, self.caption)
        if self.caption.outcome:
            return
        if not self._frames or stamp_ns - self._frames[-1][0] >= _KEY_FRAME_EVERY_NS:
            side = (KEY_FRAME_SIDE, KEY_FRAME_SIDE)
            small = cv2.resize(image, side, interpolation=cv2.INTER_AREA)
            self._frames.append((stamp_ns, small))

    def end_episode(self, row: EpisodeRow) -> None:
        """Keeps a few evenly spaced frames of the episode."""
        chosen = [self._frames[i] for i in key_frame_indices(len(self._frames))]
        self._finished.append((row, chosen))
        # Only what the report will show is kept: a run may have thousands of episodes.
        self._finished = sorted(self._finished, key=lambda item: _interest(item[0]))[:MAX_STRIPS]

    def strips(self) -> list[FilmStrip]:
        """Rows for the report: changed instructions and failures before other episodes."""
        return [_strip(*item) for item in sorted(self._finished, key=lambda i: i[0].episode)]

    def close(self) -> None:
        """Finishes the video; closing twice is harmless."""
        if self._video is not None:
            self._video.close()


def _interest(row: EpisodeRow) -> int:
    if row.instruction_changed:
        return 0
    return 2 if row.success else 1


def _strip(row: EpisodeRow, frames: list[tuple[int, np.ndarray]]) -> FilmStrip:
    start = frames[0][0] if frames else 0
    return FilmStrip(
        title=f'episode {row.episode + 1}: {row.title} - {row.outcome.replace("_", " ")}',
        frames=[image for _, image in frames],
        captions=[f'{(stamp - start) * 1e-9:.1f} s' for stamp, _ in frames],
    )
