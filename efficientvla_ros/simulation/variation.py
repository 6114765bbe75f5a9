"""Settings of an episode: the look of the training, varied looks, and objects that are moved."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from efficientvla_ros.simulation.camera import CameraOffset
from efficientvla_ros.types import InputError

MATCHING, VARIANTS, DYNAMIC = 'matching', 'variants', 'dynamic'
SETTINGS = (MATCHING, VARIANTS, DYNAMIC)
"""`matching`: the look of the training. `variants`: light, colours and camera changed, more
distractors. `dynamic`: an object or the drawer is moved while the arm acts."""

Colour = tuple[float, float, float]

_PAN_TILT, _ROLL, _SHIFT = math.radians(2.0), math.radians(2.0), 0.02
_LIGHT = (0.7, 1.25)
_TABLES = ((0.70, 0.64, 0.56), (0.45, 0.50, 0.56), (0.56, 0.42, 0.30), (0.36, 0.42, 0.36),
           (0.80, 0.78, 0.74), (0.42, 0.36, 0.42))  # fmt: skip
_MATS = ((0.87, 0.87, 0.85), (0.72, 0.76, 0.80), (0.86, 0.80, 0.68), (0.74, 0.82, 0.74),
         (0.66, 0.64, 0.64), (0.84, 0.76, 0.78))  # fmt: skip


@dataclass(frozen=True)
class Look:
    """Light and colours of an episode.

    Attributes:
        light: intensity of all lights; 1 is nominal.
        lamp: direction in which the lamp shines (x, y, z), None for the nominal one.
        table, mat: colours around and under the objects, None for the nominal ones.
    """

    light: float = 1.0
    lamp: tuple[float, float, float] | None = None
    table: Colour | None = None
    mat: Colour | None = None


@dataclass(frozen=True)
class Motion:
    """Something that is moved while the arm acts.

    Attributes:
        name: an object, 'plate' or 'drawer'.
        start: when it begins, s after the start of the episode; later while the hand is near.
        duration: s.
        displacement: x and y in the base frame, m; of the drawer only x, its opening.
    """

    name: str
    start: float
    duration: float
    displacement: tuple[float, float]


def check_setting(setting: str) -> None:
    """Raises InputError where there is no such setting."""
    if setting not in SETTINGS:
        raise InputError(f'unknown setting "{setting}", expected one of: {", ".join(SETTINGS)}')


def draw_look(rng: np.random.Generator) -> tuple[Look, CameraOffset]:
    """Draws light, colours and camera of the setting `variants`."""
    lamp = (float(rng.uniform(-0.9, 0.3)), float(rng.uniform(-0.7, 0.7)), -1.0)
    # The first colours are those of the training.
    table = _TABLES[int(rng.integers(1, len(_TABLES)))]
    mat = _MATS[int(rng.integers(1, len(_MATS)))]
    look = Look(float(rng.uniform(*_LIGHT)), lamp, _jitter(table, rng), _jitter(mat, rng))
    pan, tilt = (float(value) for value in rng.uniform(-_PAN_TILT, _PAN_TILT, 2))
    shift = rng.uniform(-_SHIFT, _SHIFT, 3)
    roll = float(rng.uniform(-_ROLL, _ROLL))
    return look, CameraOffset(pan, tilt, roll, tuple(shift.tolist()))


def _jitter(colour: Colour, rng: np.random.Generator) -> Colour:
    values = np.clip(np.array(colour) + rng.uniform(-0.04, 0.04, 3), 0.0, 1.0)
    return tuple(values.tolist())
