"""Which calibration profile an engine gets, and which layers it then loads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from efficientvla_ros.acceleration.config import AccelerationError
from efficientvla_ros.acceleration.plan import NO_PROFILE, build_plan
from efficientvla_ros.acceleration.profile import (
    PROFILE_FILE,
    CalibrationProfile,
    ProfileError,
    load_profile,
)
from efficientvla_ros.models.config import VLMConfig
from efficientvla_ros.models.errors import CheckpointError
from efficientvla_ros.models.prismatic import PrismaticVLM
from efficientvla_ros.models.sources import find_source
from efficientvla_ros.runtime.runners import Acceleration, settings_for
from efficientvla_ros.types import InputError

Found = tuple[CalibrationProfile | None, str]
"""A profile, or None and why there is none."""


def find_profile(
    source: Path | VLMConfig,
    given: str | Path | CalibrationProfile | None,
    random_weights: bool,
) -> Found:
    """The profile that was asked for, else the one beside the weights.

    One that was not asked for and cannot be read is no error: calibration is what replaces it.

    Raises:
        InputError: the profile that was asked for cannot be read.
    """
    if isinstance(given, CalibrationProfile):
        return given, ''
    try:
        if given is not None:
            return load_profile(Path(given).expanduser()), ''
    except ProfileError as error:
        raise InputError(str(error)) from error
    if random_weights or isinstance(source, VLMConfig):
        return None, 'random weights have no calibration profile unless one is given'
    try:
        path = find_source(source).folder / PROFILE_FILE
        return (load_profile(path), '') if path.is_file() else (None, NO_PROFILE)
    except (ProfileError, CheckpointError) as error:
        # Loading the model says what is wrong with a checkpoint.
        return None, str(error)


def fitting_profile(
    model: PrismaticVLM, profile: CalibrationProfile | None, reason: str, asked_for: bool
) -> Found:
    """Keeps a profile only if it is of `model`.

    Raises:
        InputError: it is not, but was asked for.
    """
    if profile is None:
        return None, reason
    try:
        profile.check_model(model)
    except ProfileError as error:
        if asked_for:
            raise InputError(str(error)) from error
        return None, str(error)
    return profile, ''


def planned_layers(
    acceleration: Acceleration, profile: CalibrationProfile | None
) -> Callable[[VLMConfig], tuple[int, ...]]:
    """Returns a function from a model's sizes to the decoder layers that the plan runs.

    It raises InputError where the settings do not fit the model or the profile is of a model of
    another depth.
    """

    def layers(config: VLMConfig) -> tuple[int, ...]:
        if profile is not None and profile.layers != config.llm.layers:
            raise InputError(
                f'the calibration profile is of {profile.layers} layers, '
                f'expected the {config.llm.layers} of model {config.name}'
            )
        try:
            return build_plan(config, settings_for(acceleration, config), profile).layers
        except AccelerationError as error:
            raise InputError(str(error)) from error

    return layers
