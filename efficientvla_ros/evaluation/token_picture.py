"""The camera picture as the language model sees it: dropped patches dimmed, kept ones coloured."""

from __future__ import annotations

import math

import cv2
import numpy as np

from efficientvla_ros.acceleration.token_roles import ROLE_NAMES
from efficientvla_ros.types import InputError

ROLE_COLOURS = ((230, 85, 13), (58, 160, 235), (240, 220, 60), (200, 200, 200))
"""RGB of key, task, diversity and unranked tokens; told apart with any colour vision."""

_DIMMED = 0.28
_TINT = 0.15
_LEGEND_HEIGHT = 30
_BACKGROUND = (24, 26, 31)
_TEXT = (236, 236, 236)
_FONT = cv2.FONT_HERSHEY_DUPLEX


def token_picture(
    image: np.ndarray,
    kept: np.ndarray,
    roles: np.ndarray | None,
    patches: int,
    *,
    min_side: int = 0,
) -> np.ndarray:
    """Shows which patches of an image reach the language model.

    The network sees the whole image squeezed into a square, so the patches of an image that is
    not square are not square either.

    Args:
        image: uint8 [H, W, 3], RGB.
        kept: indices of the kept patches, row by row from the top left, [K].
        roles: why each is kept, numbers of `token_roles`, [K]; None draws all alike.
        patches: patches of the image, a square number.
        min_side: smaller images are enlarged by a whole factor until both sides have as many
            pixels; 0 leaves the size.

    Returns:
        uint8 [H, W, 3], RGB: dropped patches dark and grey, kept ones tinted and outlined.

    Raises:
        InputError: an array has another shape, or an index or a role does not exist.
    """
    side = math.isqrt(patches)
    kept, roles = _checked(image, kept, roles, patches if side * side == patches else 0)
    image = np.ascontiguousarray(image)
    factor = max(1, -(-min_side // min(image.shape[:2])))
    if factor > 1:
        image = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
    grey = cv2.convertScaleAbs(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), alpha=_DIMMED)
    picture = cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB)
    rows, columns = (np.arange(side + 1) * size // side for size in image.shape[:2])
    line = max(1, round(min(image.shape[:2]) / side / 14))
    for patch, role in zip(kept, roles):
        row, column = divmod(int(patch), side)
        area = (
            slice(rows[row], rows[row + 1]),
            slice(columns[column], columns[column + 1]),
        )
        picture[area] = _framed(image[area], np.array(ROLE_COLOURS[role]), line)
    return picture


def add_legend(picture: np.ndarray, roles: np.ndarray, patches: int) -> np.ndarray:
    """Puts a bar below a picture that names the colours and counts the tokens.

    Args:
        picture: what `token_picture` gives.
        roles: of the kept tokens, [K].
        patches: tokens in all.

    Returns:
        uint8 [H + bar, W, 3], RGB.
    """
    height, width = picture.shape[:2]
    canvas = np.empty((height + _LEGEND_HEIGHT, width, 3), np.uint8)
    canvas[:] = _BACKGROUND
    canvas[:height] = picture
    parts = [(ROLE_COLOURS[r], f'{n} {ROLE_NAMES[r]}') for r, n in role_counts(roles).items()]
    total = f'{len(roles)} of {patches}'
    scale = _fitting_scale([text for _, text in parts] + [total], width)
    x, y, dot = 8, height + _LEGEND_HEIGHT // 2, round(12 * scale / 0.45)
    for colour, text in parts:
        corner = (x + dot, y + dot // 2)
        cv2.rectangle(canvas, (x, y - dot // 2), corner, tuple(map(int, colour)), cv2.FILLED)
        x += dot + 5
        x += _write(canvas, text, x, y, scale) + 14
    _write(canvas, total, width - 8 - _length(total, scale), y, scale)
    return canvas


def role_counts(roles: np.ndarray) -> dict[int, int]:
    """How many tokens have each role, for the roles that occur."""
    numbers, counts = np.unique(np.asarray(roles), return_counts=True)
    return dict(zip(numbers.tolist(), counts.tolist()))


def _checked(
    image: np.ndarray, kept: np.ndarray, roles: np.ndarray | None, patches: int
) -> tuple[np.ndarray, np.ndarray]:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise InputError(
            f'token picture: image is {image.dtype} {image.shape}, '
            'expected uint8 (height, width, 3)'
        )
    if not patches:
        raise InputError('token picture: the number of patches is no square number')
    kept = np.asarray(kept)
    roles = np.full(kept.shape, len(ROLE_NAMES) - 1) if roles is None else np.asarray(roles)
    if kept.ndim != 1 or roles.shape != kept.shape:
        raise InputError(
            f'token picture: indices {kept.shape} and roles {roles.shape}, '
            'expected one role for each index'
        )
    for name, values, end in (('patch', kept, patches), ('role', roles, len(ROLE_NAMES))):
        wrong = values[(values < 0) | (values >= end)]
        if wrong.size:
            raise InputError(f'token picture: {name} {wrong[0]}, expected 0 to {end - 1}')
    return kept, roles


def _framed(patch: np.ndarray, colour: np.ndarray, line: int) -> np.ndarray:
    tinted = patch * (1.0 - _TINT) + colour * _TINT
    for edge in (slice(None, line), slice(-line, None)):
        tinted[edge] = colour
        tinted[:, edge] = colour
    return tinted.astype(np.uint8)


def _length(text: str, scale: float) -> int:
    return cv2.getTextSize(text, _FONT, scale, 1)[0][0]


def _fitting_scale(texts: list[str], width: int) -> float:
    """The largest letters, up to a readable size, with which all fit beside each other."""
    scale = 0.45
    while scale > 0.2 and sum(_length(t, scale) + 33 for t in texts) > width:
        scale -= 0.02
    return scale


def _write(canvas: np.ndarray, text: str, x: int, y: int, scale: float) -> int:
    baseline = y + round(9 * scale)
    cv2.putText(canvas, text, (x, baseline), _FONT, scale, _TEXT, 1, cv2.LINE_AA)
    return _length(text, scale)
