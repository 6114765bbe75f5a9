"""Projection agrees with what is rendered, also when the camera is displaced."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from efficientvla_ros.simulation.camera import (
    TARGET,
    CameraOffset,
    camera_matrix,
    camera_pose,
    project,
)
from efficientvla_ros.simulation.tabletop import TabletopSim
from efficientvla_ros.simulation.tasks import sample_episode

ANGLE = st.floats(-0.1, 0.1)


@pytest.fixture(scope='module')
def sim():
    with TabletopSim(320, 240) as sim:
        yield sim


def _orange_centre(image: np.ndarray) -> np.ndarray:
    red, green, blue = (image[..., i].astype(int) for i in range(3))
    rows, columns = np.nonzero((red > 110) & (green > 0.35 * red) & (green < 0.65 * red)
                               & (blue < 60))  # fmt: skip
    assert len(rows) > 30
    return np.array([columns.mean(), rows.mean()]) + 0.5


@pytest.mark.parametrize(
    'offset',
    [
        CameraOffset(),
        CameraOffset(pan=0.05),
        CameraOffset(tilt=-0.05),
        CameraOffset(roll=0.2),
        CameraOffset(0.02, 0.03, -0.1, (0.02, -0.03, 0.01)),
    ],
)
def test_projected_centre_is_where_the_object_is_rendered(sim, offset):
    sim.reset(sample_episode('pick', 5, target='orange').with_camera(offset))
    expected = sim.project(sim.object_positions()['orange'])
    # The outline of a sphere is not quite centred on its centre's projection.
    np.testing.assert_allclose(_orange_centre(sim.render()), expected, atol=1.0)


def test_camera_looks_at_the_table_centre():
    pixel = project(np.array(TARGET), camera_pose(), camera_matrix(200, 100))
    np.testing.assert_allclose(pixel, (100.0, 50.0), atol=1e-9)


@given(pan=ANGLE, tilt=ANGLE, roll=ANGLE)
def test_displaced_pose_is_a_rotation(pan, tilt, roll):
    rotation = camera_pose(CameraOffset(pan, tilt, roll))[:3, :3]
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(rotation) == pytest.approx(1.0)


@given(right=st.floats(-6, 6), down=st.floats(-6, 6))
def test_offset_from_pixels_moves_the_picture_by_so_many_pixels(right, down):
    matrix = camera_matrix(112, 112)
    before = project(np.array(TARGET), camera_pose(), matrix)
    after = project(np.array(TARGET), camera_pose(CameraOffset.from_pixels(right, down)), matrix)
    np.testing.assert_allclose(after - before, (right, down), atol=0.02)


def test_points_behind_the_camera_are_not_projected():
    assert np.isnan(project(np.array([2.0, 0.0, 0.5]), camera_pose(), camera_matrix(64, 64))).all()


def test_every_object_starts_inside_the_picture(sim):
    for seed in range(50):
        episode = sample_episode('pick', seed)
        sim.reset(episode)
        positions = sim.object_positions()
        for name in episode.objects:
            fraction = sim.project(positions[name]) / (sim.width, sim.height)
            assert np.all(fraction > 0.05) and np.all(fraction < 0.95)
