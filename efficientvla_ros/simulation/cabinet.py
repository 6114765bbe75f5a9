"""The cabinet: a flat box with one drawer that slides towards the camera, and its handle.

Lengths are in m. `front` is the x of the cabinet's front, `y` its centre and `opening` how far
the drawer is out; all in the base frame. The drawer is open at the top, so that the camera sees
what lies in it.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass, replace

import numpy as np

from efficientvla_ros.simulation.arm import TABLE_BITS

TRAVEL = 0.11
"""How far the drawer opens, m."""

DRAWER_JOINT = 'drawer'
CABINET_BODY = 'cabinet'
HANDLE_HALF_WIDTH = 0.013
HALF_WIDTH = 0.075
"""Half the width of the cabinet, m."""

FLOOR = 0.008
"""Height of the drawer's floor, m."""

_DEPTH, _TOP = 0.135, 0.056
_WALL_TOP, _INNER, _WALL = 0.036, 0.060, 0.005
_PANEL = 0.008
_HANDLE_X, _HANDLE_HEIGHT = 0.040, 0.036

_WOOD, _DARK_WOOD = '0.72 0.50 0.30 1', '0.55 0.36 0.20 1'
_INSIDE, _HANDLE_COLOUR = '0.93 0.86 0.74 1', '0.10 0.10 0.12 1'


@dataclass(frozen=True)
class Cabinet:
    """Where a cabinet stands, and how far its drawer is out.

    Attributes:
        front: x of the front, m.
        y: of the centre, m.
        opening: of the drawer, m; 0 is closed, `TRAVEL` fully open.
    """

    front: float
    y: float
    opening: float = 0.0

    @property
    def handle(self) -> np.ndarray:
        """Where the tool grasps the handle, float64 [3]."""
        return np.array([self.front + self.opening + _HANDLE_X, self.y, _HANDLE_HEIGHT])

    def at(self, opening: float) -> Cabinet:
        """Returns the cabinet with its drawer at another opening, m."""
        return replace(self, opening=opening)

    @property
    def middle(self) -> np.ndarray:
        """Middle of the part of the drawer that is out of the cabinet, (x, y)."""
        return np.array([self.front + 0.5 * self.opening + 0.002, self.y])

    def contains(self, point: np.ndarray) -> bool:
        """Whether a point [3] lies in the drawer, between floor and walls' rim plus 3 cm."""
        x, y, z = point - (self.front + self.opening, self.y, 0.0)
        inside = -_DEPTH < x < 0.0 and abs(y) < _INNER
        return bool(inside and z < _WALL_TOP + 0.03)


def _box(
    parent: ET.Element,
    lower: tuple[float, float, float],
    upper: tuple[float, float, float],
    colour: str,
) -> None:
    centre = [(a + b) / 2 for a, b in zip(lower, upper)]
    half = [(b - a) / 2 for a, b in zip(lower, upper)]
    ET.SubElement(
        parent,
        'geom',
        type='box',
        pos=' '.join(f'{value:.7g}' for value in centre),
        size=' '.join(f'{value:.7g}' for value in half),
        rgba=colour,
        mass='0',
        friction='1.2 0.02 0.001',
        condim='4',
        **TABLE_BITS,
    )


def add_cabinet(world: ET.Element, position: tuple[float, float]) -> None:
    """Adds the cabinet with its front at x, y; `DRAWER_JOINT` is the opening in m."""
    body = ET.SubElement(
        world, 'body', name=CABINET_BODY, pos=f'{position[0]:g} {position[1]:g} 0'
    )
    y, inner = HALF_WIDTH, HALF_WIDTH - _WALL
    for side in (-1, 1):
        low, high = sorted((side * y, side * inner))
        _box(body, (-_DEPTH - _WALL, low, 0.0), (0.0, high, _TOP - 0.008), _WOOD)
    _box(body, (-_DEPTH - _WALL, -y, 0.0), (-_DEPTH, y, _TOP - 0.008), _WOOD)
    _box(body, (-_DEPTH - _WALL, -y, _TOP - 0.008), (0.004, y, _TOP), _WOOD)
    drawer = ET.SubElement(body, 'body', name='drawer')
    ET.SubElement(
        drawer,
        'joint',
        name=DRAWER_JOINT,
        type='slide',
        axis='1 0 0',
        range=f'0 {TRAVEL:g}',
        limited='true',
        damping='4',
        frictionloss='0.8',
        armature='0.05',
    )
    ET.SubElement(drawer, 'inertial', pos='-0.06 0 0.02', mass='0.3', diaginertia='4e-4 4e-4 6e-4')
    depth, wide = _DEPTH - 0.006, _INNER + _WALL
    _box(drawer, (-depth, -wide, 0.002), (0.0, wide, FLOOR), _INSIDE)
    for side in (-1, 1):
        low, high = sorted((side * wide, side * _INNER))
        _box(drawer, (-depth, low, FLOOR), (0.0, high, _WALL_TOP), _INSIDE)
    _box(drawer, (-depth, -wide, FLOOR), (-depth + _WALL, wide, _WALL_TOP), _INSIDE)
    _box(drawer, (0.0, -y + 0.002, 0.002), (_PANEL, y - 0.002, 0.044), _DARK_WOOD)
    half = HANDLE_HALF_WIDTH
    _box(drawer, (_PANEL, -0.006, 0.024), (_HANDLE_X, 0.006, 0.034), _HANDLE_COLOUR)
    _box(
        drawer,
        (_HANDLE_X - 0.009, -half, 0.010),
        (_HANDLE_X + 0.009, half, 0.058),
        _HANDLE_COLOUR,
    )
