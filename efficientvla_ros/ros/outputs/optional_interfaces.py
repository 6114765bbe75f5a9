"""Action types of packages that not every robot has, imported only where they are asked for."""

from __future__ import annotations

import importlib
import os

from efficientvla_ros.types import InputError


def control_action(name: str, parameter: str, value: str) -> type:
    """Returns an action type of control_msgs.

    Args:
        name: of the type, e.g. `GripperCommand`.
        parameter: the parameter that asks for it, for the message.
        value: what it is set to.

    Raises:
        InputError: control_msgs is not installed, or this release of it lacks the type.
    """
    asked = f'parameter {parameter}: got "{value}", which needs control_msgs/action/{name}'
    try:
        module = importlib.import_module('control_msgs.action')
    except ImportError as error:
        distro = os.environ.get('ROS_DISTRO') or '<distro>'
        raise InputError(
            f'{asked}: the package control_msgs cannot be imported ({_one_line(error)}); install '
            f'ros-{distro}-control-msgs, or source the workspace that has it'
        ) from None
    kind = getattr(module, name, None)
    if kind is None:
        raise InputError(
            f'{asked}: the control_msgs installed here is too old to have it; install a newer '
            f'one or choose another {parameter}'
        )
    return kind


def _one_line(error: BaseException) -> str:
    return ' '.join(str(error).split())[:200]
