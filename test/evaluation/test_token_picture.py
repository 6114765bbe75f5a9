"""Dropped patches are dark and grey; kept ones show the image in the colour of their role."""

import numpy as np
import pytest

from efficientvla_ros.acceleration.token_roles import DIVERSITY, KEY, ROLE_NAMES, TASK, UNRANKED
from efficientvla_ros.evaluation.token_picture import ROLE_COLOURS, add_legend, token_picture
from efficientvla_ros.types import InputError

RED = (200, 40, 40)


def image(height=48, width=64) -> np.ndarray:
    return np.full((height, width, 3), RED, np.uint8)


def centre(picture, patch, side=4):
    row, column = divmod(patch, side)
    height, width = picture.shape[:2]
    return picture[(2 * row + 1) * height // (2 * side), (2 * column + 1) * width // (2 * side)]


def test_dropped_patches_are_dark_and_grey_and_kept_ones_keep_their_colour():
    kept = np.array([0, 5, 10, 15])
    picture = token_picture(image(), kept, np.array([KEY, TASK, DIVERSITY, UNRANKED]), 16)
    assert picture.shape == (48, 64, 3) and picture.dtype == np.uint8
    for patch in range(16):
        red, green, blue = centre(picture, patch).astype(int)
        if patch in kept:
            assert red > 150 and red > green + 60 and red > blue + 60
        else:
            assert red == green == blue < 50


@pytest.mark.parametrize('role', range(len(ROLE_NAMES)))
def test_a_patch_is_framed_in_the_colour_of_its_role(role):
    picture = token_picture(image(), np.array([6]), np.array([role]), 16)
    area = picture[12:24, 32:48]  # row 1, column 2 of four
    for edge in (area[0], area[-1], area[:, 0], area[:, -1]):
        assert (edge == ROLE_COLOURS[role]).all()
    assert (picture == ROLE_COLOURS[role]).all(-1).sum() == 2 * 12 + 2 * 16 - 4


def test_the_colours_of_the_three_roles_are_far_apart():
    colours = np.array(ROLE_COLOURS[:3], dtype=float)
    for first in range(3):
        for second in range(first):
            assert np.linalg.norm(colours[first] - colours[second]) > 100


def test_patches_go_row_by_row_and_cover_an_image_of_any_size():
    everything = np.arange(256)
    for height, width in ((224, 224), (480, 640), (113, 131), (9, 7)):
        picture = token_picture(image(height, width), everything, None, 256)
        assert picture.shape == (height, width, 3)
        # No pixel is left out between two patches: none is dark.
        assert picture.max(-1).min() > 50


def test_the_image_itself_is_not_painted_and_may_be_a_flipped_view():
    source = image()
    view = source[:, ::-1, ::-1]
    before = source.copy()
    picture = token_picture(view, np.array([0]), np.array([KEY]), 16)
    assert (source == before).all()
    blue = centre(picture, 0).astype(int)
    assert blue[2] > blue[0] + 40


def test_small_images_are_enlarged_by_a_whole_factor():
    kept, roles = np.array([0]), np.array([KEY])
    assert token_picture(image(112, 112), kept, roles, 64, min_side=448).shape == (448, 448, 3)
    assert token_picture(image(112, 160), kept, roles, 64, min_side=300).shape == (336, 480, 3)
    assert token_picture(image(480, 640), kept, roles, 64, min_side=448).shape == (480, 640, 3)


def test_nothing_kept_is_a_dark_picture():
    none = np.array([], dtype=int)
    assert token_picture(image(), none, none, 16).max() < 50


@pytest.mark.parametrize('width', [112, 224, 640])
def test_the_legend_shows_each_role_that_occurs(width):
    roles = np.array([KEY] * 4 + [DIVERSITY] * 3)
    picture = token_picture(image(112, width), np.arange(7), roles, 64)
    found = add_legend(picture, roles, 64)
    assert (found[:112] == picture).all()
    bar = found[112:]
    shown = [(bar == ROLE_COLOURS[role]).all(-1).any() for role in (KEY, TASK, DIVERSITY)]
    assert shown == [True, False, True]
    assert (bar[:, -6:] == bar[0, 0]).all()  # the text ends before the border


@pytest.mark.parametrize(
    ('arguments', 'quoted'),
    [
        ((image(), np.array([16]), np.array([0]), 16), 'patch 16, expected 0 to 15'),
        ((image(), np.array([-1]), np.array([0]), 16), 'patch -1'),
        ((image(), np.array([1]), np.array([7]), 16), 'role 7, expected 0 to 3'),
        ((image(), np.array([1, 2]), np.array([0]), 16), 'one role for each index'),
        ((image(), np.array([1]), np.array([0]), 15), 'square number'),
        ((image().astype(float), np.array([1]), np.array([0]), 16), 'float64'),
        ((image()[..., 0], np.array([1]), np.array([0]), 16), r'\(48, 64\)'),
    ],
)
def test_what_does_not_fit_is_named_in_one_line(arguments, quoted):
    with pytest.raises(InputError, match=quoted) as caught:
        token_picture(*arguments)
    assert '\n' not in str(caught.value)
