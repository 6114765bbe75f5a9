"""Episodes as an H.264 MP4: the camera picture between a title bar and a status bar."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from efficientvla_ros.evaluation.demo_presets import PresetFigures, speed_up
from efficientvla_ros.types import InputError

TITLE_HEIGHT = 44
STATUS_HEIGHT = 36
PRESETS_HEIGHT = 26
MARGIN = 12

_FONT = cv2.FONT_HERSHEY_DUPLEX
_BACKGROUND = (24, 26, 31)
_TEXT = (236, 236, 236)
_DIM = (158, 164, 174)
_CHANGED = (255, 190, 64)
_GOOD = (92, 214, 122)
_BAD = (255, 104, 94)

_SPEED_UP_WIDTH, _COLUMN_GAP = 56, 10

_TICKS_PER_SECOND = 1000
_MAX_GAP_MS = 500


@dataclass(frozen=True)
class Caption:
    """What is written around one picture.

    Attributes:
        instruction: the instruction in force.
        episode: e.g. 'episode 3/12'.
        outcome: '' while the episode runs, else 'success', 'timeout', ...
        latency: camera stamp to published command in seconds, NaN while unknown.
        changed: the instruction was changed during this episode.
        presets: two that are compared, () for none; in all captions of a video or in no one.
        active: name of the one in force.
    """

    instruction: str = ''
    episode: str = ''
    outcome: str = ''
    latency: float = math.nan
    changed: bool = False
    presets: tuple[PresetFigures, ...] = ()
    active: str = ''


def _ascii(text: str) -> str:
    return ''.join(c if ' ' <= c <= '~' else '?' for c in text)


def _put(canvas: np.ndarray, text: str, x: int, y: int, width: int, scale: float, color) -> int:
    """Writes one line that starts at (x, y), smaller or cut to fit `width`; returns its width."""
    text = _ascii(text)
    while text:
        (length, _), _ = cv2.getTextSize(text, _FONT, scale, 1)
        if length <= width:
            cv2.putText(canvas, text, (x, y), _FONT, scale, color, 1, cv2.LINE_AA)
            return length
        if scale > 0.42:
            scale -= 0.04
        else:
            text = text.removesuffix('...')[:-1]
            text = text + '...' if text else ''
    return 0


def _put_right(canvas: np.ndarray, text: str, y: int, scale: float, color) -> int:
    length = _length(text, scale)
    x = max(MARGIN, canvas.shape[1] - MARGIN - length)
    return _put(canvas, text, x, y, canvas.shape[1] - MARGIN - x, scale, color)


def annotate(image: np.ndarray, caption: Caption) -> np.ndarray:
    """Puts the title bar above and the status bar below a picture.

    Args:
        image: uint8 [height, width, 3], RGB.
        caption: what to write.

    Returns:
        uint8 [height + bars, width, 3], RGB; both sides even, as yuv420p needs.
    """
    height, width = image.shape[:2]
    total = TITLE_HEIGHT + height + STATUS_HEIGHT + (PRESETS_HEIGHT if caption.presets else 0)
    canvas = np.empty((total + total % 2, width + width % 2, 3), np.uint8)
    canvas[:] = _BACKGROUND
    canvas[TITLE_HEIGHT : TITLE_HEIGHT + height, :width] = image

    title = _CHANGED if caption.changed else _TEXT
    room = width - 2 * MARGIN
    if caption.changed:
        room -= 12 + _put_right(canvas, 'changed', 28, 0.45, _CHANGED)
    _put(canvas, caption.instruction, MARGIN, 29, room, 0.7, title)

    y = TITLE_HEIGHT + height + 24
    used = _put(canvas, caption.episode, MARGIN, y, room, 0.48, _DIM)
    if caption.outcome:
        color = _GOOD if caption.outcome == 'success' else _BAD
        label = caption.outcome.replace('_', ' ').upper()
        _put(canvas, label, MARGIN + used + 16, y, room - used, 0.55, color)
    if math.isfinite(caption.latency):
        _put_right(canvas, f'latency {caption.latency * 1e3:.0f} ms', y, 0.48, _DIM)
    _put_presets(canvas, caption, y + PRESETS_HEIGHT)
    return canvas


def _put_presets(canvas: np.ndarray, caption: Caption, y: int) -> None:
    """Writes a column for each compared preset, and at the right how much faster the second is."""
    if not caption.presets:
        return
    end = canvas.shape[1] - MARGIN - _SPEED_UP_WIDTH
    texts = [preset.short for preset in caption.presets]
    scale, lengths = _fitted(texts, end - MARGIN - _COLUMN_GAP)
    x = MARGIN
    for index, (preset, text) in enumerate(zip(caption.presets, texts, strict=True)):
        color = _TEXT if preset.name == caption.active else _DIM
        _put(canvas, text, x, y, min(lengths[index], end - x), scale, color)
        # Columns stay where they are while figures grow, unless a name needs more.
        column = MARGIN + (index + 1) * (end - MARGIN) // len(texts)
        following = sum(lengths[index + 1 :])
        x = max(x + lengths[index] + _COLUMN_GAP, min(column, end - following))
    _put_right(canvas, speed_up(caption.presets), y, 0.48, _GOOD)


def _length(text: str, scale: float) -> int:
    return cv2.getTextSize(_ascii(text), _FONT, scale, 1)[0][0]


def _fitted(texts: list[str], width: int) -> tuple[float, list[int]]:
    """The largest scale that can be read at which texts fit side by side, and their lengths."""
    for scale in np.arange(0.48, 0.33, -0.02).tolist():
        lengths = [_length(text, scale) for text in texts]
        if sum(lengths) <= width:
            break
    return scale, lengths


class VideoWriter:
    """Writes annotated camera pictures to one MP4 that plays while it downloads."""

    def __init__(self, path: Path, rate: float = 15.0) -> None:
        """Opens the file.

        Args:
            path: where to write; an existing file is replaced.
            rate: nominal pictures per second; the actual ones follow the stamps.

        Raises:
            InputError: the file cannot be written or FFmpeg has no H.264 encoder.
        """
        import av

        self._av = av
        self._path = Path(path)
        self._rate = Fraction(rate).limit_denominator(1000)
        self._stream = None
        self._size: tuple[int, int] | None = None
        self._last_stamp_ns: int | None = None
        self._pts = 0
        self.frames = 0
        try:
            self._path.write_bytes(b'')  # FFmpeg opens the file only with the first picture
        except OSError as error:
            raise InputError(f'video {path}: cannot be written ({error.strerror})') from error
        self._container = av.open(str(path), 'w', format='mp4', options={'movflags': '+faststart'})

    def _open_stream(self, width: int, height: int) -> None:
        try:
            stream = self._container.add_stream('libx264', rate=self._rate)
        except ValueError as error:  # av's UnknownCodecError
            raise InputError('video: this build of PyAV has no libx264 encoder') from error
        stream.width, stream.height, stream.pix_fmt = width, height, 'yuv420p'
        stream.options = {'preset': 'veryfast', 'crf': '20'}
        stream.codec_context.time_base = Fraction(1, _TICKS_PER_SECOND)
        # One encoder thread: the policy needs the other cores.
        stream.codec_context.thread_count = 1
        self._stream, self._size = stream, (width, height)

    def _advance(self, stamp_ns: int) -> int:
        """Presentation time [ms] of a picture: real time, without long or backward gaps."""
        if self._last_stamp_ns is not None:
            gap = round((stamp_ns - self._last_stamp_ns) * 1e-6)
            if not 0 < gap <= _MAX_GAP_MS:
                gap = round(_TICKS_PER_SECOND / float(self._rate))
            self._pts += gap
        self._last_stamp_ns = stamp_ns
        return self._pts

    def add(self, image: np.ndarray, stamp_ns: int, caption: Caption) -> None:
        """Appends one picture.

        Args:
            image: uint8 [height, width, 3], RGB; a size other than the first one is rescaled.
            stamp_ns: when it was taken, ns.
            caption: what to write around it.
        """
        canvas = annotate(image, caption)
        if self._size is None:
            self._open_stream(canvas.shape[1], canvas.shape[0])
        if (canvas.shape[1], canvas.shape[0]) != self._size:
            canvas = cv2.resize(canvas, self._size, interpolation=cv2.INTER_AREA)
        frame = self._av.VideoFrame.from_ndarray(canvas, format='rgb24')
        frame.pts = self._advance(stamp_ns)
        frame.time_base = Fraction(1, _TICKS_PER_SECOND)
        for packet in self._stream.encode(frame):
            self._container.mux(packet)
        self.frames += 1

    def close(self) -> None:
        """Finishes the file, or removes it when it has no picture; closing twice is harmless."""
        if self._container is None:
            return
        container, self._container = self._container, None
        if self._stream is not None:
            for packet in self._stream.encode():
                container.mux(packet)
        container.close()
        if not self.frames:
            self._path.unlink(missing_ok=True)
