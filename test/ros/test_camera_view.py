"""Crop and rotation: what the model sees, for any resolution, without a copy of the picture."""

from __future__ import annotations

import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from efficientvla_ros.control.joint_history import JointHistory
from efficientvla_ros.ros.cameras.camera_sync import Frame
from efficientvla_ros.ros.cameras.camera_view import ROTATIONS, CameraView, camera_views
from efficientvla_ros.ros.observation import ObservationBuilder
from efficientvla_ros.ros.parameters.policy import TABLE
from efficientvla_ros.types import InputError, JointState


def picture(height: int, width: int) -> np.ndarray:
    return np.arange(height * width * 3, dtype=np.uint8).reshape(height, width, 3)


def message(height: int, width: int, encoding: str = 'rgb8'):
    """Only the fields of an Image, as `rosbags` has them."""
    return SimpleNamespace(
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=0,
        step=3 * width,
        data=picture(height, width).reshape(-1),
    )


def built(image, joints: JointHistory | None = None, stamp_ns: int = 5, **values):
    settings = TABLE.settings({name.replace('__', '.'): v for name, v in values.items()})
    builder = ObservationBuilder(('primary',), joints or JointHistory())
    return builder.build([Frame('camera', image, stamp_ns, 1)], 'pick', settings)


@given(st.integers(1, 12), st.integers(1, 12), st.sampled_from(ROTATIONS), st.integers(0, 11))
def test_rotation_is_clockwise_and_keeps_every_pixel(height, width, rotation, row):
    image = picture(height, width)
    turned = CameraView(rotation=rotation).of(image, 'camera')
    if rotation == 90:  # what was left at the bottom is now left at the top
        np.testing.assert_array_equal(turned[0, 0], image[-1, 0])
    back = CameraView(rotation=(360 - rotation) % 360).of(turned, 'camera')
    np.testing.assert_array_equal(back, image)
    assert np.shares_memory(turned, image)


@pytest.mark.parametrize('scale', [1, 2, 5])
def test_a_crop_is_the_same_part_at_any_resolution(scale):
    image = picture(8 * scale, 12 * scale)
    part = CameraView(crop=(0.25, 0.5, 0.5, 0.25)).of(image, 'camera')
    expected = image[4 * scale : 6 * scale, 3 * scale : 9 * scale]
    np.testing.assert_array_equal(part, expected)
    assert np.shares_memory(part, image)


def test_the_crop_comes_before_the_rotation():
    seen = CameraView(crop=(0.0, 0.0, 0.5, 0.25), rotation=90).of(picture(8, 8), 'camera')
    assert seen.shape[:2] == (4, 2)
    np.testing.assert_array_equal(seen[0, 0], picture(8, 8)[1, 0])


def test_a_crop_that_leaves_nothing_of_a_small_picture_is_named():
    with pytest.raises(InputError, match=r'camera "camera": .*cameras.crop .* 0x1 of 4x2 pixels'):
        built(message(2, 4), cameras__crop=[0.0, 0.0, 0.05, 0.5])


@pytest.mark.parametrize('rotation', ROTATIONS)
@pytest.mark.parametrize('crop', [[0.0, 0.0, 1.0, 1.0], [0.1, 0.2, 0.5, 0.5]])
def test_observations_of_rgb_images_copy_nothing(rotation, crop):
    image = message(720, 1280)
    built(image, cameras__crop=crop, cameras__rotation=[rotation])  # imports, caches
    tracemalloc.start()
    seen = built(image, cameras__crop=crop, cameras__rotation=[rotation]).images['primary']
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.shares_memory(seen, image.data)
    assert peak < 100_000  # the image has 2.8 MB; what is counted are the settings


def test_an_uncropped_rgb_image_reaches_the_resize_without_a_copy():
    image = message(480, 640)
    seen = built(image).images['primary']
    assert np.ascontiguousarray(seen) is seen or np.shares_memory(
        np.ascontiguousarray(seen), image.data
    )


def test_views_are_given_for_each_camera_or_once_for_all():
    names = {'cameras.names': ['a', 'b']}
    both = TABLE.settings(names | {'cameras.rotation': [180], 'cameras.crop': [0, 0, 1, 0.5]})
    assert camera_views(both) == (CameraView((0.0, 0.0, 1.0, 0.5), 180),) * 2
    each = TABLE.settings(
        names | {'cameras.rotation': [0, 90], 'cameras.crop': [0, 0, 1, 1, 0.5, 0, 0.5, 1]}
    )
    assert camera_views(each) == (CameraView(), CameraView((0.5, 0.0, 0.5, 1.0), 90))


@pytest.mark.parametrize(
    ('name', 'value', 'complaint'),
    [
        ('cameras.crop', [0.0, 0.0, 1.0], 'got 3 values, expected 4 or 8'),
        ('cameras.crop', [0.5, 0.0, 0.6, 1.0], r'x \+ width'),
        ('cameras.crop', [0.5, 0.0, 0.0, 1.0], 'width and height above 0'),
        ('cameras.rotation', [45], 'got 45, expected one of 0, 90, 180, 270'),
        ('cameras.rotation', [0, 0, 0], 'expected 1 or 2'),
        ('cameras.stamp', ['header', 'header', 'header'], 'expected 1 or 2'),
        ('cameras.stamp', ['sent'], 'one of header, receive'),
        ('cameras.sync', 'nearest', 'one of latest, hold, as_of'),
    ],
)
def test_values_that_cannot_be_used_are_named_by_key(name, value, complaint):
    with pytest.raises(InputError, match=f'parameter {name}: .*{complaint}'):
        TABLE.settings({'cameras.names': ['a', 'b'], name: value})


def test_proprioception_is_interpolated_at_the_stamp_with_velocities():
    joints = JointHistory()
    for stamp, value in ((0, 1.0), (100, 2.0)):
        arm = np.array([value, -value])
        joints.add(JointState(('a', 'b'), arm, stamp, velocities=10 * arm))
    state = built(message(4, 4), joints, stamp_ns=25).joint_state
    assert (state.names, state.stamp_ns) == (('a', 'b'), 25)
    np.testing.assert_allclose(state.positions, [1.25, -1.25])
    np.testing.assert_allclose(state.velocities, [12.5, -12.5])
    joints.add(JointState(('a', 'b'), np.array([3.0, -3.0]), 200))
    assert built(message(4, 4), joints, stamp_ns=150).joint_state.velocities is None
