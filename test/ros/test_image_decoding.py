"""Image messages become RGB arrays: views where possible, one clear line where not."""

from __future__ import annotations

import array
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ros_harness import image_message
from sensor_msgs.msg import CompressedImage, Image

from efficientvla_ros.ros.cameras.images import decode_compressed, decode_image
from efficientvla_ros.types import InputError

ORDERS = {
    'rgb8': (0, 1, 2),
    'bgr8': (2, 1, 0),
    'rgba8': (0, 1, 2),
    'bgra8': (2, 1, 0),
    'mono8': (0, 0, 0),
}
CHANNELS = {'rgb8': 3, 'bgr8': 3, 'rgba8': 4, 'bgra8': 4, 'mono8': 1}


@given(
    encoding=st.sampled_from(sorted(ORDERS)),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    padding=st.integers(0, 7),
    seed=st.integers(0, 1000),
)
def test_every_common_encoding_and_step_gives_the_pixels(encoding, height, width, padding, seed):
    shape = (height, width, CHANNELS[encoding])
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    image = decode_image(image_message(pixels, encoding, padding), 'camera')
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, pixels[:, :, ORDERS[encoding]])


@pytest.mark.parametrize('encoding', sorted(ORDERS))
def test_common_encodings_are_views_not_copies(encoding):
    message = image_message(np.zeros((8, 8, CHANNELS[encoding]), np.uint8), encoding, padding=3)
    image = decode_image(message, 'camera')
    message.data[0] = 200
    assert 200 in image[0, 0]


@pytest.mark.parametrize(
    ('change', 'complaint'),
    [
        ({'height': 0}, 'camera "wrist": image is 6x0 pixels, expected at least 1x1'),
        ({'width': 0}, 'camera "wrist": image is 0x4 pixels'),
        ({'step': 17}, 'image has 72 bytes, expected step x height = 17 x 4 = 68'),
        ({'height': 5}, 'image has 72 bytes, expected step x height = 18 x 5 = 90'),
        ({'width': 7}, 'step is 18 bytes, expected at least width x channels = 7 x 3 = 21'),
        ({'encoding': 'infrared12'}, 'encoding "infrared12"'),
        ({'encoding': ''}, 'encoding ""'),
        ({'encoding': '32FC1', 'step': 24, 'height': 3}, 'encoding "32FC1"'),
    ],
)
def test_what_cannot_be_used_is_named_with_the_camera(change, complaint):
    message = image_message(np.zeros((4, 6, 3), np.uint8), 'rgb8')
    for name, value in change.items():
        setattr(message, name, value)
    with pytest.raises(InputError) as caught:
        decode_image(message, 'wrist')
    assert complaint in str(caught.value)
    assert '\n' not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize('padding', [0, 3])
def test_other_encodings_go_through_cv_bridge_with_any_step(padding):
    pytest.importorskip('cv_bridge')
    # Every red pixel of the RGGB pattern is bright: a skewed image would mix the colours.
    mosaic = np.zeros((8, 8, 1), np.uint8)
    mosaic[0::2, 0::2] = 200
    image = decode_image(image_message(mosaic, 'bayer_rggb8', padding), 'camera')
    np.testing.assert_array_equal(image[2:6, 2:6, 0], 200)
    np.testing.assert_array_equal(image[2:6, 2:6, 2], 0)


@pytest.mark.parametrize('order', ['<', '>'], ids=['little endian', 'big endian'])
def test_sixteen_bit_pixels_are_converted_or_refused_never_wrong(order):
    pixels = np.full((4, 6), 40000, f'{order}u2')
    message = image_message(pixels.view(np.uint8).reshape(4, 12, 1), 'mono16')
    message.width, message.is_bigendian = 6, int(order == '>')
    try:
        image = decode_image(message, 'camera')
    except InputError as error:
        assert 'encoding "mono16"' in str(error)
    else:
        assert abs(int(image[0, 0, 0]) - 40000 // 256) <= 1


def test_a_broken_cv_bridge_is_reported_not_fatal(monkeypatch):
    monkeypatch.setitem(sys.modules, 'cv_bridge', None)  # import fails
    message = image_message(np.zeros((4, 6, 2), np.uint8), 'mono16')
    with pytest.raises(InputError, match='needs cv_bridge, which cannot be imported'):
        decode_image(message, 'camera')
    rgb = image_message(np.zeros((4, 6, 3), np.uint8), 'rgb8')
    assert decode_image(rgb, 'camera').shape == (4, 6, 3)


def test_compressed_images_are_rgb():
    cv2 = pytest.importorskip('cv2')
    red = np.zeros((16, 16, 3), np.uint8)
    red[:, :, 0] = 255
    _, png = cv2.imencode('.png', red[:, :, ::-1])
    message = CompressedImage(format='png', data=array.array('B', png.tobytes()))
    np.testing.assert_array_equal(decode_compressed(message, 'camera'), red)


@pytest.mark.parametrize(
    ('data', 'complaint'),
    [(b'', 'compressed image is empty'), (b'not a picture', '13 bytes of compressed image')],
)
def test_damaged_compressed_images_are_named(data, complaint):
    message = CompressedImage(format='jpeg', data=array.array('B', data))
    with pytest.raises(InputError, match=complaint):
        decode_compressed(message, 'camera')


def test_an_empty_message_is_named():
    with pytest.raises(InputError, match='image is 0x0 pixels'):
        decode_image(Image(), 'camera')
