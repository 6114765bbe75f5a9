"""Parameters `logging.*`; free of ROS."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from efficientvla_ros.ros.parameters.table import Changes, Spec, Value
from efficientvla_ros.types import InputError

SPECS: tuple[Spec, ...] = (
    Spec(
        'logging.rerun',
        '',
        'Where images, plans, joints and status are logged for the Rerun viewer: spawn starts a '
        'viewer, a path that ends in .rrd is a file, host:port is a viewer that runs already. '
        'Needs the package rerun-sdk; empty logs nothing.',
        changes=Changes.CONFIGURE,
    ),
)

_ADDRESS = re.compile(r'[\w.\-]+:\d{1,5}|\[[0-9a-fA-F:]+\]:\d{1,5}')


def rerun_address(target: str) -> str | None:
    """The URL of a viewer that runs already; None where `logging.rerun` names none."""
    if _ADDRESS.fullmatch(target):
        return f'rerun+http://{target}/proxy'
    return target if urlsplit(target).scheme.startswith('rerun') else None


def check_together(values: Mapping[str, Value]) -> None:
    """Checks what the type alone cannot tell."""
    target = values['logging.rerun']
    if target in ('', 'spawn') or target.endswith('.rrd') or rerun_address(target):
        return
    raise InputError(
        f'parameter logging.rerun: got "{target}", expected spawn, a path that ends in .rrd, or '
        'host:port'
    )
