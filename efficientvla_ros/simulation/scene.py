"""The table top as MJCF: mat, objects, lights and camera around the arm, primitives only."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET

import numpy as np

from efficientvla_ros.simulation.arm import OBJECT_BITS, TABLE_BITS, arm_mjcf
from efficientvla_ros.simulation.cabinet import add_cabinet
from efficientvla_ros.simulation.camera import CAMERA_NAME, VERTICAL_FOV, camera_pose
from efficientvla_ros.simulation.objects import (
    OBJECT_MODELS,
    PICK_MODELS,
    PLATE,
    PLATE_HEIGHT,
    PLATE_RADIUS,
    ObjectModel,
)

TIMESTEP = 0.004
"""Physics step, s."""


PARKING = (3.0, 0.0)
"""Where objects stand that an episode does not use: behind the camera, m."""

CABINET_PARKING = (3.5, -1.0)
"""Where the front of the cabinet stands while an episode does without it (x, y), m."""

BARE, FURNISHED = 'bare', 'furnished'
"""Scenes: the table with the objects of `pick`, and the one with all objects, plate, cabinet."""

SCENE_OBJECTS = {BARE: tuple(PICK_MODELS), FURNISHED: (*OBJECT_MODELS, PLATE)}
"""Free bodies of each scene."""

# Objects stand on the plate with small feet: a point each, while a cylinder on a cylinder has
# one contact in all and rocks.
_PLATE_BITS = {'contype': '8', 'conaffinity': '6'}
_FEET_BITS = {'contype': '0', 'conaffinity': '8'}
_FOOT = 0.002

_MAT = (0.31, 0.0, 0.17, 0.25)  # centre x, y and half extents of the mat, m


def _text(values) -> str:
    return ' '.join(f'{float(value):.7g}' for value in values)


def body_name(name: str) -> str:
    """Returns the MJCF body of an object, e.g. 'red_can'."""
    return name.replace(' ', '_')


def _free_body(world: ET.Element, name: str, index: int, height: float) -> ET.Element:
    place = (PARKING[0], PARKING[1] + 0.3 * index, height)
    body = ET.SubElement(world, 'body', name=body_name(name), pos=_text(place))
    ET.SubElement(body, 'freejoint', name=body_name(name))
    return body


def _add_object(world: ET.Element, name: str, model: ObjectModel, index: int, feet: bool) -> None:
    body = _free_body(world, name, index, model.rest_height)
    common = {
        'rgba': _text((*model.colour, 1.0)),
        'mass': f'{model.mass:g}',
        'solref': '0.008 1',
        **OBJECT_BITS,
    }
    if model.height:
        half = model.height / 2
        size = (model.radius, model.radius, half) if model.box else (model.radius, half)
        shape = {'type': 'box' if model.box else 'cylinder', 'size': _text(size)}
        contact = {'condim': '4', 'friction': '1.2 0.02 0.001'}
    else:
        # condim 6 adds rolling friction: an orange that was touched stops again.
        shape = {'type': 'sphere', 'size': _text([model.radius])}
        contact = {'condim': '6', 'friction': '1.2 0.02 0.004'}
        if feet:
            common['conaffinity'] = '15'
    ET.SubElement(body, 'geom', **shape, **contact, **common)
    for part in model.parts:
        ET.SubElement(
            body,
            'geom',
            type='cylinder' if len(part.size) == 2 else 'sphere',
            size=_text(part.size),
            pos=_text(part.offset),
            rgba=_text((*part.colour, 1.0)),
            mass='0',
            contype='0',
            conaffinity='0',
        )
    if feet and model.height:
        _add_feet(body, model)


def _add_feet(body: ET.Element, model: ObjectModel) -> None:
    reach = 0.7 * model.radius
    for x in (-reach, reach):
        for y in (-reach, reach):
            ET.SubElement(
                body,
                'geom',
                type='sphere',
                size=_text([_FOOT]),
                pos=_text((x, y, _FOOT - model.height / 2)),
                rgba='0 0 0 0',
                mass='0',
                condim='4',
                friction='1.2 0.02 0.001',
                **_FEET_BITS,
            )


def _add_plate(world: ET.Element, index: int) -> None:
    body = _free_body(world, PLATE, index, PLATE_HEIGHT / 2)
    half = PLATE_HEIGHT / 2
    ET.SubElement(
        body,
        'geom',
        type='cylinder',
        size=_text((PLATE_RADIUS, half)),
        rgba='0.16 0.52 0.66 1',
        mass='0.25',
        condim='4',
        friction='1.2 0.02 0.001',
        **_PLATE_BITS,
    )
    for radius, top, colour in (
        (0.86, 0.0004, '0.97 0.97 0.99 1'),
        (0.58, 0.0008, '0.82 0.88 0.92 1'),
    ):
        ET.SubElement(
            body,
            'geom',
            type='cylinder',
            size=_text((radius * PLATE_RADIUS, 0.0004)),
            pos=_text((0, 0, half + top)),
            rgba=colour,
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


def scene_mjcf(width: int, height: int, scene: str = BARE) -> str:
    """Returns a whole scene; width and height bound the off-screen images, pixels."""
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
    furnished = scene == FURNISHED
    models = OBJECT_MODELS if furnished else PICK_MODELS
    for index, (name, model) in enumerate(models.items()):
        _add_object(world, name, model, index, furnished)
    if furnished:
        _add_plate(world, len(models))
        add_cabinet(world, CABINET_PARKING)
    _add_camera(world)
    return ET.tostring(root, encoding='unicode')


def optical_to_mujoco(rotation: np.ndarray) -> np.ndarray:
    """Turns an optical-frame rotation [3, 3] into that of a MuJoCo camera (y up, z backwards)."""
    return rotation * np.array([1.0, -1.0, -1.0])
