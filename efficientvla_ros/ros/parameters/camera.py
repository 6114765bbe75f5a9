"""Parameters `cameras.*`; free of ROS."""

from __future__ import annotations

from collections.abc import Mapping

from efficientvla_ros.ros.cameras.camera_sync import LATEST, POLICIES
from efficientvla_ros.ros.cameras.camera_view import ROTATIONS, WHOLE
from efficientvla_ros.ros.parameters.table import Changes, Spec, Value, check_names
from efficientvla_ros.types import InputError

HEADER, RECEIVE = 'header', 'receive'

# One parameter a block reads better than one argument a line.
# fmt: off
SPECS: tuple[Spec, ...] = (
    Spec(
        'cameras.names', ['camera'],
        'Cameras in the order of the model; each one is heard on `<name>/image_raw`. '
        'The stamp of the first one is the stamp of the observation.',
        changes=Changes.NEVER,
    ),
    Spec(
        'cameras.compressed', [False],
        'Hear `<name>/image_raw/compressed` (CompressedImage) instead; one value for each '
        'camera, or one for all.',
        changes=Changes.NEVER,
    ),
    Spec(
        'cameras.stamp', [HEADER],
        'Time of an image: the stamp in its header, or when the node received it; one value for '
        'each camera, or one for all.',
        choices=(HEADER, RECEIVE), changes=Changes.NEVER,
    ),
    Spec(
        'cameras.sync', LATEST,
        'Which images of several cameras make one observation. latest: the newest of each. hold: '
        'the newest of each, once every camera has a new one since the last observation; a camera '
        'that gave none while the first one gave three keeps its last. as_of: the newest of the '
        'first camera, and of the others the last one that is not younger.',
        choices=POLICIES,
    ),
    Spec(
        'cameras.max_skew', 0.2,
        'Largest difference between the stamps of the first camera and of another one in an '
        'observation; beyond it the arm is held. 0 allows any.',
        unit='s', low=0.0, high=60.0,
    ),
    Spec(
        'cameras.history', 8,
        'Images that are kept of every camera but the first with as_of; the oldest goes.',
        low=1, high=64,
    ),
    Spec(
        'cameras.fresh', 0.005,
        'A tick that is due waits for the next image of the first camera where the newest one '
        'arrived longer ago than this, so that a plan is made from what is there now; 0 takes the '
        'newest at once.',
        unit='s', low=0.0, high=10.0,
    ),
    Spec(
        'cameras.crop', list(WHOLE),
        'Part of the picture that the model sees: x and y of its upper left corner, width and '
        'height as fractions of the picture, so that they hold for any resolution; four values '
        'for each camera, or four for all.',
        low=0.0, high=1.0,
    ),
    Spec(
        'cameras.rotation', [0],
        'Clockwise rotation of the picture, after the crop: 0, 90, 180 or 270; one value for each '
        'camera, or one for all.',
        unit='degrees', low=0, high=270,
    ),
)
# fmt: on


def check_together(values: Mapping[str, Value]) -> None:
    """Checks what one parameter alone cannot tell."""
    check_names(values, 'cameras.names')
    for name, size in (
        ('cameras.compressed', 1),
        ('cameras.stamp', 1),
        ('cameras.crop', 4),
        ('cameras.rotation', 1),
    ):
        _check_count(values, name, size)
    for turn in values['cameras.rotation']:
        if turn not in ROTATIONS:
            raise InputError(
                f'parameter cameras.rotation: got {turn}, expected one of '
                f'{", ".join(map(str, ROTATIONS))} degrees'
            )
    numbers = values['cameras.crop']
    for start in range(0, len(numbers), 4):
        _check_crop(numbers[start : start + 4])


def uses_receive_time(values: Mapping[str, Value]) -> dict[str, bool]:
    """For every camera: whether the time of an image is when it was received."""
    names, kinds = values['cameras.names'], values['cameras.stamp']
    kinds = kinds if len(kinds) == len(names) else list(kinds) * len(names)
    return {name: kind == RECEIVE for name, kind in zip(names, kinds, strict=True)}


def _check_count(values: Mapping[str, Value], name: str, size: int) -> None:
    cameras, found = len(values['cameras.names']), len(values[name])
    if found not in (size, size * cameras):
        each = 'one' if size == 1 else str(size)
        raise InputError(
            f'parameter {name}: got {found} values, expected {size} or {size * cameras}, '
            f'{each} for each name in cameras.names'
        )


def _check_crop(crop: list[float]) -> None:
    x, y, width, height = crop
    if width <= 0.0 or height <= 0.0 or x + width > 1.0 + 1e-9 or y + height > 1.0 + 1e-9:
        raise InputError(
            f'parameter cameras.crop: got {crop}, expected x, y, width, height with a width and '
            'height above 0 and x + width, y + height of at most 1'
        )
