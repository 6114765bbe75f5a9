"""The table top as MJCF: mat, objects, lights and camera around the arm, primitives only."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from dataclasses import dataclass

import numpy as np

from efficientvla_ros.simulation.arm import OBJECT_BITS, TABLE_BITS, arm_mjcf
from efficientvla_ros.simulation.camera import CAMERA_NAME, VERTICAL_FOV, camera_pose

TIMESTEP = 0.004
"""Physics step, s."""


@dataclass(frozen=True)
class ObjectModel:
    """An object that can be picked: an upright cylinder, or a sphere where height is 0."""

    radius: float
    height: float
    colour: tuple[float, float, float]
    mass: float = 0.06

    @property
    def rest_height(self) -> float:
        """Height of the centre above the table when the object stands, m."""
        return self.height / 2 if self.height else self.radius


OBJECT_MODELS = {
    'red can': ObjectModel(0.026, 0.075, (0.86, 0.07, 0.07)),
    'green can': ObjectModel(0.026, 0.075, (0.08, 0.58, 0.12)),
    'blue can': ObjectModel(0.026, 0.075, (0.10, 0.16, 0.82)),
    'orange': ObjectModel(0.029, 0.0, (1.0, 0.50, 0.02)),
}
"""Every object of the scene by the name that instructions use."""

PARKING = (3.0, 0.0)
"""Where objects stand that an episode does not use: behind the camera, m."""

_MAT = (0.31, 0.0, 0.17, 0.25)  # centre x, y and half extents of the mat, m


def _text(values) -> str:
    return ' '.join(f'{float(value):.7g}' for value in values)


def body_name(name: str) -> str:
    """Returns the MJCF body of an object, e.g. 'red_can'."""
    return name.replace(' ', '_')


def _add_object(world: ET.Element, name: str, model: ObjectModel, index: int) -> None:
    place = (PARKING[0], PARKING[1] + 0.3 * index, model.rest_height)
    body = ET.SubElement(world, 'body', name=body_name(name), pos=_text(place))
    ET.SubElement(body, 'freejoint', name=body_name(name))
    common = {
        'rgba': _text((*model.colour, 1.0)),
        'mass': f'{model.mass:g}',
        'solref': '0.008 1',
        **OBJECT_BITS,
    }
    if not model.height:
        # condim 6 adds rolling friction: an orange that was touched stops again.
        ET.SubElement(
            body,
            'geom',
            type='sphere',
            size=_text([model.radius]),
            condim='6',
            friction='1.2 0.02 0.004',
            **common,
        )
        return
    half = model.height / 2
    ET.SubElement(
        body,
        'geom',
        type='cylinder',
        size=_text((model.radius, half)),
        condim='4',
        friction='1.2 0.02 0.001',
        **common,
    )
    for end in (-1, 1):
        ET.SubElement(
            body,
            'geom',
            type='cylinder',
            size=_text((0.85 * model.radius, 0.001)),
            pos=_text((0, 0, end * half)),
            rgba='0.80 0.80 0.82 1',
            mass='0',
            contype='0',
            conaffinity='0',
        )


def _box(
    world: ET.Element, x: float, y: float, half_x: float, half_y: float, height: float, colour: str
) -> None:
    ET.SubElement(
        world,
        'geom',
        type='box',
        size=_text((half_x, half_y, height / 2)),
        pos=_text((x, y, height / 2)),
        rgba=colour,
        contype='0',
        conaffinity='0',
    )


def _add_table(world: ET.Element) -> None:
    ET.SubElement(
        world,
        'geom',
        name='table',
        type='plane',
        size='4 4 0.1',
        rgba='0.70 0.64 0.56 1',
        friction='1.0 0.01 0.001',
        **TABLE_BITS,
    )
    x, y, half_x, half_y = _MAT
    _box(world, x, y, half_x, half_y, 0.0006, '0.87 0.87 0.85 1')
    # Landmarks that let a policy see where its camera stands: the mat's rim and corner marks.
    rim = '0.30 0.32 0.38 1'
    for side in (-1, 1):
        _box(world, x + side * half_x, y, 0.004, half_y + 0.004, 0.0012, rim)
        _box(world, x, y + side * half_y, half_x + 0.004, 0.004, 0.0012, rim)
    marks = {(-1, -1): '0.55 0.20 0.60 1', (-1, 1): rim, (1, -1): rim, (1, 1): '0.95 0.80 0.10 1'}
    for (side_x, side_y), colour in marks.items():
        _box(
            world,
            x + side_x * (half_x - 0.02),
            y + side_y * (half_y - 0.02),
            0.014,
            0.014,
            0.0015,
            colour,
        )


def _add_camera(world: ET.Element) -> None:
    pose = camera_pose()
    ET.SubElement(
        world,
        'camera',
        name=CAMERA_NAME,
        pos=_text(pose[:3, 3]),
        xyaxes=_text((*pose[:3, 0], *-pose[:3, 1])),
        fovy=f'{math.degrees(VERTICAL_FOV):g}',
    )


def scene_mjcf(width: int, height: int) -> str:
    """Returns the whole scene; width and height bound the off-screen images, pixels."""
    root = ET.fromstring(arm_mjcf())
    root.set('model', 'tabletop')
    ET.SubElement(
        root,
        'option',
        timestep=f'{TIMESTEP:g}',
        integrator='implicitfast',
        cone='elliptic',
        impratio='10',
    )
    visual = ET.SubElement(root, 'visual')
    ET.SubElement(visual, 'global', offwidth=str(width), offheight=str(height))
    ET.SubElement(visual, 'quality', offsamples='0', shadowsize='0')
    ET.SubElement(visual, 'map', znear='0.02', zfar='20')
    ET.SubElement(
        visual, 'headlight', ambient='0.35 0.35 0.35', diffuse='0.45 0.45 0.45', specular='0 0 0'
    )
    world = root.find('worldbody')
    ET.SubElement(
        world,
        'light',
        name='lamp',
        pos='0.6 -0.5 1.6',
        dir='-0.5 0.4 -1',
        directional='true',
        castshadow='false',
        diffuse='0.40 0.40 0.40',
        specular='0.05 0.05 0.05',
    )
    _add_table(world)
    for index, (name, model) in enumerate(OBJECT_MODELS.items()):
        _add_object(world, name, model, index)
    _add_camera(world)
    return ET.tostring(root, encoding='unicode')


def optical_to_mujoco(rotation: np.ndarray) -> np.ndarray:
    """Turns an optical-frame rotation [3, 3] into that of a MuJoCo camera (y up, z backwards)."""
    return rotation * np.array([1.0, -1.0, -1.0])
