"""The objects of the scene: what they look like, how large they are, what they are called."""

from __future__ import annotations

from dataclasses import dataclass

Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Part:
    """Something that is only seen: a cylinder along z or a sphere at a height above the centre.

    Attributes:
        offset: x, y and z of its centre in the object, m.
        size: radius, and half the length of a cylinder, m.
        colour: red, green, blue in 0..1.
    """

    offset: tuple[float, float, float]
    size: tuple[float, ...]
    colour: Colour


@dataclass(frozen=True)
class ObjectModel:
    """An object that can be picked: upright cylinder, cube, or sphere where height is 0.

    Attributes:
        radius: of cylinder and sphere, half the side of a cube, m.
        height: of cylinder and cube, m.
        colour: red, green, blue in 0..1.
        mass: kg.
        box: whether it is a cube.
        parts: what is seen besides the body.
    """

    radius: float
    height: float
    colour: Colour
    mass: float = 0.06
    box: bool = False
    parts: tuple[Part, ...] = ()

    @property
    def rest_height(self) -> float:
        """Height of the centre above the table when the object stands, m."""
        return self.height / 2 if self.height else self.radius


_LID: Colour = (0.80, 0.80, 0.82)


def _can(colour: Colour) -> ObjectModel:
    lids = tuple(Part((0.0, 0.0, z), (0.85 * 0.026, 0.001), _LID) for z in (-0.0375, 0.0375))
    return ObjectModel(0.026, 0.075, colour, parts=lids)


PICK_MODELS = {
    'red can': _can((0.86, 0.07, 0.07)),
    'green can': _can((0.08, 0.58, 0.12)),
    'blue can': _can((0.10, 0.16, 0.82)),
    'orange': ObjectModel(0.029, 0.0, (1.0, 0.50, 0.02)),
}
"""Objects of the task `pick`."""

OBJECT_MODELS = {
    **PICK_MODELS,
    'apple': ObjectModel(
        0.030,
        0.0,
        (0.66, 0.88, 0.10),
        parts=(
            Part((0.0, 0.0, 0.033), (0.003, 0.008), (0.30, 0.17, 0.06)),
            Part((0.008, 0.0, 0.033), (0.006,), (0.10, 0.42, 0.08)),
        ),
    ),
    'bottle': ObjectModel(
        0.024,
        0.070,
        (0.96, 0.96, 0.98),
        parts=(
            Part((0.0, 0.0, 0.041), (0.011, 0.006), (0.96, 0.96, 0.98)),
            Part((0.0, 0.0, 0.052), (0.014, 0.007), (0.00, 0.42, 0.45)),
            Part((0.0, 0.0, 0.0), (0.0245, 0.012), (0.00, 0.42, 0.45)),
        ),
    ),
    'cup': ObjectModel(
        0.030,
        0.052,
        (0.48, 0.10, 0.62),
        parts=(
            Part((0.0, 0.0, 0.0262), (0.030, 0.0006), (0.80, 0.62, 0.90)),
            Part((0.0, 0.0, 0.0268), (0.024, 0.0006), (0.16, 0.02, 0.22)),
        ),
    ),
    'cube': ObjectModel(0.022, 0.044, (0.98, 0.86, 0.08), box=True),
}
"""Every object that can be picked by the name that instructions use."""

PLATE, DRAWER = 'plate', 'drawer'
PLATE_RADIUS, PLATE_HEIGHT = 0.062, 0.008
"""Outer radius and thickness of the plate, m."""

KEYPOINTS = (*OBJECT_MODELS, PLATE, DRAWER)
"""What a picture can show, in the order of recordings; the drawer's point is its handle."""
