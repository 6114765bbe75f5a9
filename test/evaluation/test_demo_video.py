"""The demo's video: H.264 that plays everywhere, in real time, with captions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip('av')
import av

from efficientvla_ros.evaluation.video import (
    STATUS_HEIGHT,
    TITLE_HEIGHT,
    Caption,
    VideoWriter,
    annotate,
)
from efficientvla_ros.types import InputError

PERIOD = 66_666_667


def picture(value: int = 90, height: int = 120, width: int = 160) -> np.ndarray:
    image = np.full((height, width, 3), value, np.uint8)
    image[40:60, 30:50] = (255, 0, 0)
    return image


def written(tmp_path, frames) -> list[np.ndarray]:
    path = tmp_path / 'video.mp4'
    writer = VideoWriter(path)
    for image, stamp, caption in frames:
        writer.add(image, stamp, caption)
    writer.close()
    with av.open(str(path)) as container:
        return [f.to_ndarray(format='rgb24') for f in container.decode(video=0)]


def test_video_is_h264_yuv420p_with_its_index_first(tmp_path):
    path = tmp_path / 'video.mp4'
    writer = VideoWriter(path)
    for index in range(30):
        writer.add(picture(), index * PERIOD, Caption('pick orange'))
    writer.close()
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == 'h264'
        assert stream.codec_context.pix_fmt == 'yuv420p'
        assert stream.frames == writer.frames == 30
        assert float(stream.duration * stream.time_base) == pytest.approx(2.0, abs=0.1)
    data = path.read_bytes()
    assert data.find(b'moov') < data.find(b'mdat')


def test_pictures_keep_their_colours(tmp_path):
    frames = written(tmp_path, [(picture(), i * PERIOD, Caption()) for i in range(5)])
    middle = frames[-1][TITLE_HEIGHT : TITLE_HEIGHT + 120]
    assert middle[50, 40] == pytest.approx([255, 0, 0], abs=30)
    assert middle[100, 100] == pytest.approx([90, 90, 90], abs=8)


def test_video_time_follows_the_stamps_without_long_or_backward_gaps(tmp_path):
    path = tmp_path / 'video.mp4'
    stamps = [0, 100_000_000, 300_000_000, 60_000_000_000, 60_100_000_000, 5_000_000, 105_000_000]
    writer = VideoWriter(path, rate=10.0)
    for stamp in stamps:
        writer.add(picture(), stamp, Caption())
    writer.close()
    with av.open(str(path)) as container:
        times = [float(f.pts * f.time_base) for f in container.decode(video=0)]
    assert np.diff(times) == pytest.approx([0.1, 0.2, 0.1, 0.1, 0.1, 0.1], abs=0.002)


def test_a_picture_of_another_size_is_scaled_to_the_first(tmp_path):
    frames = written(
        tmp_path, [(picture(), 0, Caption()), (picture(height=240, width=320), PERIOD, Caption())]
    )
    assert frames[0].shape == frames[1].shape


@settings(max_examples=40, deadline=None)
@given(
    instruction=st.text(max_size=300),
    episode=st.text(max_size=40),
    outcome=st.sampled_from(['', 'success', 'timeout', 'wrong_object']),
    latency=st.floats(0, 10) | st.just(float('nan')),
    height=st.integers(17, 200),
    width=st.integers(17, 200),
)
def test_any_caption_fits_around_any_picture(
    instruction, episode, outcome, latency, height, width
):
    image = picture(200, max(height, 61), max(width, 51))
    caption = Caption(instruction, episode, outcome, latency, changed=True)
    canvas = annotate(image, caption)
    assert canvas.dtype == np.uint8
    assert canvas.shape[0] % 2 == canvas.shape[1] % 2 == 0
    assert canvas.shape[0] >= image.shape[0] + TITLE_HEIGHT + STATUS_HEIGHT
    inside = canvas[TITLE_HEIGHT : TITLE_HEIGHT + image.shape[0], : image.shape[1]]
    assert (inside == image).all(), 'captions stay off the picture'


def test_caption_parts_are_visible():
    image = picture(height=448, width=448)
    bare = annotate(image, Caption())
    title = slice(0, TITLE_HEIGHT)
    status = slice(TITLE_HEIGHT + 448, None)

    def differs(part, **caption) -> bool:
        return bool((annotate(image, Caption(**caption))[part] != bare[part]).any())

    assert differs(title, instruction='pick orange')
    assert differs(title, changed=True)
    assert differs(status, episode='episode 1/12')
    assert differs(status, outcome='success')
    assert differs(status, latency=0.1)
    assert not differs(status, instruction='pick orange')


def test_nothing_is_left_of_a_video_without_a_picture(tmp_path):
    writer = VideoWriter(tmp_path / 'video.mp4')
    writer.close()
    writer.close()
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(InputError, match=r'missing/video.mp4: cannot be written'):
        VideoWriter(tmp_path / 'missing' / 'video.mp4')
