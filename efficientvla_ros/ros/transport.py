"""Room for camera images in the middleware."""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from pathlib import Path

_VARIABLE = 'FASTDDS_DEFAULT_PROFILES_FILE'
_OLD_VARIABLE = 'FASTRTPS_DEFAULT_PROFILES_FILE'
_OLD_DISTRIBUTIONS = ('humble', 'iron', 'jazzy')
_PROFILES = Path(__file__).with_name('fastdds.xml')


def make_room_for_images(environment: MutableMapping[str, str] = os.environ) -> None:
    """Gives Fast DDS a shared-memory segment that holds more than one camera image.

    Call it before `rclpy.init`. Settings that the user made are left alone; other middlewares do
    not read these variables.
    """
    if _VARIABLE in environment or _OLD_VARIABLE in environment:
        return
    old = environment.get('ROS_DISTRO') in _OLD_DISTRIBUTIONS
    environment[_OLD_VARIABLE if old else _VARIABLE] = str(_PROFILES)
