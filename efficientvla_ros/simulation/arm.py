"""The arm: one kinematic table that becomes both the simulator's MJCF and the robot's URDF.

Six revolute joints with the proportions of a small desktop arm and a parallel gripper. At zero
joint angles every frame has the same orientation (x forward, y left, z up), so that a row needs
no more than an offset and an axis. Units are m, rad, kg, N and N m.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass

ARM_JOINTS = ('waist', 'shoulder', 'elbow', 'forearm_roll', 'wrist_angle', 'wrist_rotate')
GRIPPER_JOINT = 'gripper'
MIRROR_JOINT = 'gripper_mirror'
JOINT_NAMES = (*ARM_JOINTS, GRIPPER_JOINT)
BASE_FRAME = 'base_link'
TCP_FRAME = 'tcp'

FINGER_OPEN = 0.045
"""Travel of one finger when the gripper is fully open, m (0 = closed)."""

HOME_POSITIONS = (0.0, -0.15719202, 0.15861532, 0.0, 1.56937303, 0.0, FINGER_OPEN)
"""Joint positions [7]: the tool points straight down at (0.26, 0, 0.20) m, the gripper is open."""

MAX_JOINT_ACCELERATION = 20.0
"""Limit that commands of this arm keep to, rad/s^2."""

TCP_OFFSET = (0.10, 0.0, 0.0)
"""Tool centre point in the gripper link, m: between the finger pads, 12 mm from their tips."""

_DARK = (0.16, 0.17, 0.20)
_GREY = (0.34, 0.35, 0.39)
_STEEL = (0.50, 0.52, 0.56)
_CYAN = (0.0, 0.85, 0.90)


@dataclass(frozen=True)
class Shape:
    """A box (`size` = full extents) or a cylinder along `axis` (`size` = radius, length)."""

    centre: tuple[float, float, float]
    size: tuple[float, ...]
    axis: str = ''
    colour: tuple[float, float, float] = _DARK


@dataclass(frozen=True)
class Link:
    """A link with the joint that carries it.

    Attributes:
        name, parent, joint: names of the link, its parent link and the joint between them.
        origin: of the joint in the parent link.
        axis: of the joint.
        limits: of the joint's position.
        effort: largest force or torque of the joint.
        stiffness: gain of the simulated position actuator, N/m or N m/rad.
        mass, centre_of_mass: of the link.
        extents: box that the link's inertia is taken from.
        shapes: what is seen, and what collides.
        speed: largest velocity of the joint.
        prismatic: whether the joint slides.
    """

    name: str
    parent: str
    joint: str
    origin: tuple[float, float, float]
    axis: tuple[float, float, float]
    limits: tuple[float, float]
    effort: float
    stiffness: float
    mass: float
    centre_of_mass: tuple[float, float, float]
    extents: tuple[float, float, float]
    shapes: tuple[Shape, ...]
    speed: float = 3.14
    prismatic: bool = False

    @property
    def inertia(self) -> tuple[float, float, float]:
        """Principal moments of a solid box of the link's mass and extents, kg m^2."""
        x2, y2, z2 = (side * side for side in self.extents)
        return tuple(self.mass / 12.0 * both for both in (y2 + z2, x2 + z2, x2 + y2))


BASE_SHAPES = (
    Shape((-0.02, 0.0, 0.02), (0.17, 0.15, 0.04), colour=_STEEL),
    Shape((0.0, 0.0, 0.055), (0.05, 0.034), 'z', _STEEL),
)

_Z, _Y, _X = (0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0)


def _finger(name: str, joint: str, side: float) -> Link:
    pad = Shape((0.078, side * 0.006, 0.0), (0.068, 0.012, 0.024), colour=_CYAN)
    return Link(
        name, 'gripper_link', joint, (0.0, 0.0, 0.0), (0.0, side, 0.0), (0.0, FINGER_OPEN),
        effort=20.0, stiffness=900.0, mass=0.03, centre_of_mass=pad.centre, extents=pad.size,
        shapes=(pad,), speed=0.5, prismatic=True)  # fmt: skip


# fmt: off
LINKS = (
    Link('shoulder_link', BASE_FRAME, 'waist', (0.0, 0.0, 0.072), _Z, (-3.1, 3.1),
         effort=40.0, stiffness=2400.0,
         mass=0.80, centre_of_mass=(0.0, 0.0, 0.02), extents=(0.10, 0.10, 0.08),
         shapes=(Shape((0.0, 0.0, 0.025), (0.08, 0.09, 0.07), colour=_STEEL),)),
    Link('upper_arm_link', 'shoulder_link', 'shoulder', (0.0, 0.0, 0.03865), _Y, (-1.88, 1.98),
         effort=60.0, stiffness=4000.0,
         mass=0.80, centre_of_mass=(0.01, 0.0, 0.125), extents=(0.07, 0.06, 0.26),
         shapes=(Shape((0.0, 0.0, 0.125), (0.024, 0.25), 'z', _GREY),
                 Shape((0.025, 0.0, 0.25), (0.022, 0.05), 'x', _GREY),
                 Shape((0.0, 0.0, 0.0), (0.034, 0.085), 'y'))),
    Link('upper_forearm_link', 'upper_arm_link', 'elbow', (0.04975, 0.0, 0.25), _Y, (-2.10, 1.60),
         effort=40.0, stiffness=2400.0,
         mass=0.45, centre_of_mass=(0.085, 0.0, 0.0), extents=(0.18, 0.05, 0.05),
         shapes=(Shape((0.085, 0.0, 0.0), (0.021, 0.17), 'x', _GREY),
                 Shape((0.0, 0.0, 0.0), (0.030, 0.07), 'y'))),
    Link('lower_forearm_link', 'upper_forearm_link', 'forearm_roll', (0.175, 0.0, 0.0), _X,
         (-3.1, 3.1), effort=15.0, stiffness=800.0,
         mass=0.22, centre_of_mass=(0.035, 0.0, 0.0), extents=(0.08, 0.05, 0.05),
         shapes=(Shape((0.035, 0.0, 0.0), (0.024, 0.07), 'x'),)),
    Link('wrist_link', 'lower_forearm_link', 'wrist_angle', (0.075, 0.0, 0.0), _Y, (-1.74, 2.14),
         effort=15.0, stiffness=800.0,
         mass=0.18, centre_of_mass=(0.03, 0.0, 0.0), extents=(0.08, 0.05, 0.05),
         shapes=(Shape((0.0, 0.0, 0.0), (0.026, 0.055), 'y'),
                 Shape((0.03, 0.0, 0.0), (0.020, 0.06), 'x', _GREY))),
    Link('gripper_link', 'wrist_link', 'wrist_rotate', (0.065, 0.0, 0.0), _X, (-3.1, 3.1),
         effort=15.0, stiffness=600.0,
         mass=0.20, centre_of_mass=(0.03, 0.0, 0.0), extents=(0.06, 0.10, 0.05),
         shapes=(Shape((0.012, 0.0, 0.0), (0.022, 0.04), 'x'),
                 Shape((0.036, 0.0, 0.0), (0.018, 0.116, 0.034)))),
    _finger('left_finger_link', GRIPPER_JOINT, 1.0),
    _finger('right_finger_link', MIRROR_JOINT, -1.0),
)
# fmt: on
"""The arm from the base to the fingers, a parent before its children."""


def _text(values: tuple[float, ...]) -> str:
    return ' '.join(f'{value:.8g}' for value in values)


# MJCF -----------------------------------------------------------------------------------------

# Collision bits: objects touch everything; the hand touches objects and the table, not itself.
OBJECT_BITS = {'contype': '1', 'conaffinity': '7'}
TABLE_BITS = {'contype': '2', 'conaffinity': '0'}
_HAND_BITS = {'contype': '4', 'conaffinity': '2'}
_NO_CONTACT = {'contype': '0', 'conaffinity': '0'}
_HAND_LINKS = ('gripper_link', 'left_finger_link', 'right_finger_link')


def _mjcf_geom(body: ET.Element, shape: Shape, bits: dict[str, str]) -> None:
    attributes = {'rgba': _text((*shape.colour, 1.0)), 'group': '2', **bits}
    if shape.axis:
        radius, length = shape.size
        turn = {'x': '0 1.5707963 0', 'y': '1.5707963 0 0', 'z': '0 0 0'}[shape.axis]
        attributes |= {'type': 'cylinder', 'euler': turn, 'size': _text((radius, length / 2))}
    else:
        attributes |= {'type': 'box', 'size': _text(tuple(side / 2 for side in shape.size))}
    if body.get('name', '').endswith('finger_link'):
        attributes |= {'friction': '1.6 0.02 0.001', 'condim': '4'}
    ET.SubElement(body, 'geom', pos=_text(shape.centre), **attributes)


def _mjcf_link(parent: ET.Element, link: Link) -> ET.Element:
    body = ET.SubElement(parent, 'body', name=link.name, pos=_text(link.origin), gravcomp='1')
    ET.SubElement(
        body,
        'joint',
        name=link.joint,
        type='slide' if link.prismatic else 'hinge',
        axis=_text(link.axis),
        range=_text(link.limits),
        limited='true',
        armature='0.05' if link.prismatic else '0.02',
    )
    ET.SubElement(
        body,
        'inertial',
        pos=_text(link.centre_of_mass),
        mass=f'{link.mass:g}',
        diaginertia=_text(link.inertia),
    )
    bits = _HAND_BITS if link.name in _HAND_LINKS else _NO_CONTACT
    for shape in link.shapes:
        _mjcf_geom(body, shape, bits)
    return body


def arm_mjcf() -> str:
    """Returns a complete MJCF model: arm, tool site, coupled fingers, position actuators."""
    root = ET.Element('mujoco', model='tabletop_arm')
    # `eulerseq` stays at its default; only single-axis rotations are used.
    ET.SubElement(root, 'compiler', angle='radian')
    world = ET.SubElement(root, 'worldbody')
    base = ET.SubElement(world, 'body', name=BASE_FRAME)
    for shape in BASE_SHAPES:
        _mjcf_geom(base, shape, _NO_CONTACT)
    bodies = {BASE_FRAME: base}
    for link in LINKS:
        bodies[link.name] = _mjcf_link(bodies[link.parent], link)
    ET.SubElement(
        bodies['gripper_link'],
        'site',
        name=TCP_FRAME,
        pos=_text(TCP_OFFSET),
        size='0.004',
        group='4',
    )
    equality = ET.SubElement(root, 'equality')
    ET.SubElement(
        equality,
        'joint',
        joint1=MIRROR_JOINT,
        joint2=GRIPPER_JOINT,
        polycoef='0 1 0 0 0',
        solref='0.004 1',
        solimp='0.95 0.99 0.001',
    )
    actuators = ET.SubElement(root, 'actuator')
    for link in LINKS:
        if link.joint != MIRROR_JOINT:
            ET.SubElement(
                actuators,
                'position',
                name=link.joint,
                joint=link.joint,
                kp=f'{link.stiffness:g}',
                dampratio='1',
                ctrlrange=_text(link.limits),
                forcerange=_text((-link.effort, link.effort)),
            )
    return ET.tostring(root, encoding='unicode')


# URDF -----------------------------------------------------------------------------------------


def _urdf_shape(link: ET.Element, shape: Shape) -> None:
    turn = {'x': '0 1.5707963 0', 'y': '1.5707963 0 0'}.get(shape.axis, '0 0 0')
    for role in ('visual', 'collision'):
        element = ET.SubElement(link, role)
        ET.SubElement(element, 'origin', xyz=_text(shape.centre), rpy=turn)
        geometry = ET.SubElement(element, 'geometry')
        if shape.axis:
            ET.SubElement(
                geometry, 'cylinder', radius=f'{shape.size[0]:g}', length=f'{shape.size[1]:g}'
            )
        else:
            ET.SubElement(geometry, 'box', size=_text(shape.size))
        if role == 'visual':
            colour = (*shape.colour, 1.0)
            material = ET.SubElement(
                element,
                'material',
                name='rgb_' + '_'.join(f'{round(255 * part)}' for part in shape.colour),
            )
            ET.SubElement(material, 'color', rgba=_text(colour))


def _urdf_inertial(
    element: ET.Element, mass: float, centre: tuple[float, ...], moments: tuple[float, ...]
) -> None:
    inertial = ET.SubElement(element, 'inertial')
    ET.SubElement(inertial, 'origin', xyz=_text(centre), rpy='0 0 0')
    ET.SubElement(inertial, 'mass', value=f'{mass:g}')
    ET.SubElement(
        inertial,
        'inertia',
        ixx=f'{moments[0]:.8g}',
        iyy=f'{moments[1]:.8g}',
        izz=f'{moments[2]:.8g}',
        ixy='0',
        ixz='0',
        iyz='0',
    )


def _urdf_joint(root: ET.Element, link: Link) -> None:
    kind = 'prismatic' if link.prismatic else 'revolute'
    joint = ET.SubElement(root, 'joint', name=link.joint, type=kind)
    ET.SubElement(joint, 'parent', link=link.parent)
    ET.SubElement(joint, 'child', link=link.name)
    ET.SubElement(joint, 'origin', xyz=_text(link.origin), rpy='0 0 0')
    ET.SubElement(joint, 'axis', xyz=_text(link.axis))
    ET.SubElement(
        joint,
        'limit',
        lower=f'{link.limits[0]:g}',
        upper=f'{link.limits[1]:g}',
        effort=f'{link.effort:g}',
        velocity=f'{link.speed:g}',
    )
    if link.joint == MIRROR_JOINT:
        ET.SubElement(joint, 'mimic', joint=GRIPPER_JOINT, multiplier='1', offset='0')


def arm_urdf() -> str:
    """Returns the URDF with limits and inertials; root `base_link`, tool frame `tcp`."""
    root = ET.Element('robot', name='tabletop_arm')
    base = ET.SubElement(root, 'link', name=BASE_FRAME)
    for shape in BASE_SHAPES:
        _urdf_shape(base, shape)
    for link in LINKS:
        element = ET.SubElement(root, 'link', name=link.name)
        _urdf_inertial(element, link.mass, link.centre_of_mass, link.inertia)
        for shape in link.shapes:
            _urdf_shape(element, shape)
        _urdf_joint(root, link)
    ET.SubElement(root, 'link', name=TCP_FRAME)
    tool = ET.SubElement(root, 'joint', name='tcp_joint', type='fixed')
    ET.SubElement(tool, 'parent', link='gripper_link')
    ET.SubElement(tool, 'child', link=TCP_FRAME)
    ET.SubElement(tool, 'origin', xyz=_text(TCP_OFFSET), rpy='0 0 0')
    return '<?xml version="1.0"?>\n' + ET.tostring(root, encoding='unicode')
