"""Physics and rendering of the table top."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from efficientvla_ros.control.kinematics import ArmKinematics
from efficientvla_ros.simulation.arm import (
    ARM_JOINTS,
    FINGER_OPEN,
    HOME_POSITIONS,
    TCP_FRAME,
    arm_urdf,
)
from efficientvla_ros.simulation.scene import OBJECT_MODELS
from efficientvla_ros.simulation.tabletop import TabletopSim
from efficientvla_ros.simulation.tasks import sample_episode
from efficientvla_ros.types import InputError


@pytest.fixture(scope='module')
def sim():
    with TabletopSim(96, 96) as sim:
        yield sim


def test_same_seed_gives_the_same_picture_after_the_same_motion(sim):
    def run() -> np.ndarray:
        sim.reset(sample_episode('pick', 3))
        sim.set_targets(np.array(HOME_POSITIONS) + (0.3, 0, 0, 0, 0, 0, -0.02))
        sim.step(100)
        return sim.render()

    first = run()
    sim.reset(sample_episode('pick', 4))
    sim.step(10)
    assert not np.array_equal(sim.render(), first)
    np.testing.assert_array_equal(run(), first)


@pytest.mark.parametrize('size', [(64, 48), (224, 224), (640, 480)])
def test_picture_has_the_size_asked_for(size):
    with TabletopSim(*size) as sim:
        sim.reset(sample_episode('pick', 0))
        image = sim.render()
    assert image.shape == (size[1], size[0], 3) and image.dtype == np.uint8
    assert image.std() > 10


@pytest.mark.parametrize('size', [(0, 64), (64, 100_000)])
def test_impossible_picture_sizes_are_named(size):
    with pytest.raises(InputError, match=r'expected 16 \.\. 4096 pixels'):
        TabletopSim(*size)


def test_objects_rest_where_the_episode_puts_them(sim):
    for seed in range(5):
        episode = sample_episode('pick', seed)
        sim.reset(episode)
        sim.step(250)
        positions = sim.object_positions()
        for name, place in episode.object_positions.items():
            np.testing.assert_allclose(positions[name][:2], place, atol=1e-3)
            assert positions[name][2] == pytest.approx(OBJECT_MODELS[name].rest_height, abs=1e-3)


def test_arm_holds_against_gravity(sim):
    sim.reset(sample_episode('pick', 0))
    sim.step(500)
    np.testing.assert_allclose(sim.tcp_pose()[:3, 3], (0.26, 0.0, 0.20), atol=5e-4)
    assert np.abs(sim.joint_velocities()).max() < 1e-3


@pytest.mark.parametrize(
    'move', [(0.035, 0, 0), (0, -0.035, 0), (0, 0, 0.03), (0.02, 0.02, -0.03)]
)
def test_tool_reaches_a_waypoint_within_a_control_period(sim, move):
    sim.reset(sample_episode('pick', 0))
    kinematics = ArmKinematics(arm_urdf(), ARM_JOINTS, TCP_FRAME)
    start = sim.joint_positions()
    target = sim.tcp_pose()
    target[:3, 3] += move
    goal = np.append(kinematics.ik(target, start[:-1]).q, FINGER_OPEN)
    for index in range(50):
        sim.set_targets(start + (goal - start) * (index + 1) / 50)
        sim.step()
    assert np.linalg.norm(sim.tcp_pose()[:3, 3] - target[:3, 3]) < 2.5e-3
    distances = []
    for _ in range(50):
        sim.step()
        distances.append(np.linalg.norm(sim.tcp_pose()[:3, 3] - target[:3, 3]))
    assert max(distances) < 2.5e-3 and distances[-1] < 2e-4  # no oscillation


def test_fingers_move_together(sim):
    sim.reset(sample_episode('pick', 0))
    sim.set_targets((*HOME_POSITIONS[:-1], 0.01))
    sim.step(100)
    mirror = sim.data.qpos[sim.model.joint('gripper_mirror').qposadr[0]]
    assert sim.joint_positions()[-1] == pytest.approx(0.01, abs=5e-4)
    assert mirror == pytest.approx(0.01, abs=5e-4)


def test_lights_change_the_picture_and_reset_restores_them(sim):
    episode = sample_episode('pick', 0)
    sim.reset(episode)
    nominal = sim.render()
    sim.set_lighting(0.5)
    assert sim.render().mean() < 0.8 * nominal.mean()
    sim.reset(episode)
    np.testing.assert_array_equal(sim.render(), nominal)


def test_without_opengl_one_line_names_the_packages():
    code = (
        'import ctypes, sys\n'
        'real = ctypes.CDLL\n'
        'def missing(name, *a, **k):\n'
        '    if name and ("EGL" in str(name) or "OSMesa" in str(name)): raise OSError(name)\n'
        '    return real(name, *a, **k)\n'
        'ctypes.CDLL = missing\n'
        'from efficientvla_ros.types import InputError\n'
        'try:\n'
        '    import efficientvla_ros.simulation.tabletop\n'
        'except InputError as error:\n'
        '    print(error)\n'
    )
    environment = {
        key: value
        for key, value in os.environ.items()
        if key not in ('MUJOCO_GL', 'PYOPENGL_PLATFORM')
    }
    result = subprocess.run(
        [sys.executable, '-c', code], env=environment, capture_output=True, text=True, check=True
    )
    assert result.stdout.count('\n') == 1
    assert 'libegl1' in result.stdout and 'libosmesa6' in result.stdout
