"""One image through a policy: which visual tokens it keeps, as numbers and as a picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from efficientvla_ros.acceleration.token_roles import ROLE_NAMES
from efficientvla_ros.evaluation.token_picture import add_legend, role_counts, token_picture
from efficientvla_ros.types import InputError, Observation

if TYPE_CHECKING:
    from efficientvla_ros.acceleration.config import AccelerationConfig
    from efficientvla_ros.runtime.engine import Engine

_MIN_SIDE = 448


@dataclass(frozen=True)
class TokenInspection:
    """What a policy keeps of one image.

    Attributes:
        model: name of the policy.
        instruction: what it was asked to do.
        patches: visual tokens in all.
        kept: indices of the kept ones, ascending, [K].
        roles: why each is kept, numbers of `token_roles`, [K].
        picture: uint8 [H, W, 3], RGB, with a legend.
    """

    model: str
    instruction: str
    patches: int
    kept: np.ndarray
    roles: np.ndarray
    picture: np.ndarray

    def to_json(self) -> dict[str, Any]:
        """Everything but the picture."""
        counts = {ROLE_NAMES[role]: count for role, count in role_counts(self.roles).items()}
        return {
            'model': self.model,
            'instruction': self.instruction,
            'patches': self.patches,
            'counts': counts,
            'kept': self.kept.tolist(),
            'roles': [ROLE_NAMES[role] for role in self.roles.tolist()],
        }


def inspect_image(
    image_file: str | Path,
    instruction: str,
    out: str | Path,
    *,
    model: str = 'tabletop-small',
    preset: AccelerationConfig | str = 'efficientvla',
    **options: Any,
) -> TokenInspection:
    """Loads a policy, runs it once and writes the picture as PNG.

    Args:
        image_file: PNG, JPEG, ... of the camera.
        instruction: what the policy is asked to do.
        out: file to write; replaced if it exists.
        model: as for `load_engine`.
        preset: settings that drop visual tokens, or the name of a preset.
        options: further options of `load_engine`.

    Raises:
        InputError: a file cannot be read or written, the policy cannot be loaded, or the preset
            keeps all tokens.
    """
    from efficientvla_ros.runtime.engine import load_engine

    image = read_image(Path(image_file))
    out = Path(out)
    if not out.parent.is_dir():
        raise InputError(f'{out}: folder {out.parent} does not exist')
    engine = load_engine(model, acceleration=preset, **options)
    found = inspect_tokens(engine, image, instruction)
    write_png(out, found.picture)
    return found


def inspect_tokens(engine: Engine, image: np.ndarray, instruction: str) -> TokenInspection:
    """Runs a policy once on an image, uint8 [H, W, 3], RGB.

    Raises:
        InputError: image or instruction cannot be used, or it keeps all tokens.
    """
    before, engine.report_tokens = engine.report_tokens, True
    try:
        observation = Observation({engine.camera_names[0]: image}, instruction, stamp_ns=0)
        _, report = engine.infer(observation)
    finally:
        engine.report_tokens = before
    patches = engine.config.num_patches
    if report.kept_tokens is None:
        raise InputError(
            f'model {engine.model_name} keeps all {patches} visual tokens, '
            'expected a plan that drops some'
        )
    picture = token_picture(
        image, report.kept_tokens, report.token_roles, patches, min_side=_MIN_SIDE
    )
    return TokenInspection(
        engine.model_name,
        instruction,
        patches,
        report.kept_tokens,
        report.token_roles,
        add_legend(picture, report.token_roles, patches),
    )


def read_image(path: Path) -> np.ndarray:
    """Reads a picture as uint8 [H, W, 3], RGB.

    Raises:
        InputError: the file cannot be read or holds no picture.
    """
    try:
        data = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as error:
        raise InputError(f'{path}: cannot be read ({error.strerror})') from error
    image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if image is None:
        raise InputError(f'{path}: no picture that OpenCV can decode, expected PNG or JPEG')
    return np.ascontiguousarray(image[:, :, ::-1])


def write_png(path: Path, picture: np.ndarray) -> None:
    """Writes uint8 [H, W, 3], RGB.

    Raises:
        InputError: the file cannot be written.
    """
    _, data = cv2.imencode('.png', picture[:, :, ::-1])
    try:
        path.write_bytes(data.tobytes())
    except OSError as error:
        raise InputError(f'{path}: cannot be written ({error.strerror})') from error
