"""Resizing is Pillow's bicubic within two levels, as the released models were trained with."""

import numpy as np
import pytest

from efficientvla_ros.models.images import resize_image, to_input


def smooth_image(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 17 + k) + np.cos(y / 23 - k) + np.sin((x + y) / 41) for k in range(3)]
    image = np.stack(waves, axis=-1)
    return np.uint8(255 * (image - image.min()) / (image.max() - image.min()))


@pytest.mark.parametrize('size', [112, 224])
@pytest.mark.parametrize('shape', [(480, 640), (512, 640), (256, 320), (448, 448), (60, 80)])
def test_resize_is_within_two_levels_of_pillow(shape, size):
    image_module = pytest.importorskip('PIL.Image')
    image = smooth_image(*shape)
    expected = image_module.fromarray(image).resize((size, size), image_module.BICUBIC)
    difference = np.abs(resize_image(image, size).astype(int) - np.asarray(expected).astype(int))
    assert difference.max() <= 2
    # Weights are rounded to other integers than Pillow's: few values differ at all.
    assert (difference > 0).mean() <= 0.03


def test_an_image_of_the_right_size_is_not_touched():
    image = smooth_image(112, 112)
    assert resize_image(image, 112) is image


def test_values_and_layout_of_the_network_input():
    image = np.zeros((50, 70, 3), np.uint8)
    image[..., 0] = 255
    tensor = to_input(image, 28)
    assert tuple(tensor.shape) == (1, 3, 28, 28)
    assert float(tensor[0, 0].min()) == 1.0 and float(tensor[0, 1:].max()) == 0.0


def test_views_that_are_not_contiguous_are_taken():
    image = smooth_image(112, 112)
    assert np.array_equal(
        to_input(image[:, :, ::-1], 112).numpy()[0, 0] * 255, image[..., 2].astype(np.float32)
    )
