"""Which topics of a recording the policy node would have heard, by its own names and types."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from efficientvla_ros.cli.rosbag_reader import COMPRESSED, IMAGE, STRING
from efficientvla_ros.ros.parameters.policy import compressed_flags
from efficientvla_ros.ros.parameters.table import Settings
from efficientvla_ros.ros.topics import (
    INSTRUCTION,
    JOINT_STATES,
    ROBOT_DESCRIPTION,
    image_topic,
)
from efficientvla_ros.types import InputError

if TYPE_CHECKING:
    from rosbags.highlevel import AnyReader
    from rosbags.interfaces import Connection

JOINT_STATE, CLOCK = 'sensor_msgs/msg/JointState', 'rosgraph_msgs/msg/Clock'
ACTION_CHUNK = 'efficientvla_ros/msg/ActionChunk'
IMAGES, CLOCK_ROLE = 'image', 'clock'


@dataclass(frozen=True)
class Wanted:
    """An input of the node.

    Attributes:
        role: `IMAGES`, or the name of the topic that the node has for it.
        topic: absolute name in the recording.
        kind: type of its messages.
        needed: whether nothing can be planned without it.
        camera: name of the camera, of an image.
    """

    role: str
    topic: str
    kind: str
    needed: bool
    camera: str = ''


class Names:
    """Resolves relative names as a node in a namespace with remappings does."""

    def __init__(self, namespace: str, remaps: Iterable[str]) -> None:
        """Remaps are given as `from:=to`.

        Raises:
            InputError: one of them is not.
        """
        self._namespace = namespace.strip('/')
        self._remaps = {}
        for text in remaps:
            source, separator, target = text.partition(':=')
            if not separator or not source or not target:
                raise InputError(f'--remap {text!r}: expected from:=to')
            self._remaps[self._absolute(source)] = self._absolute(target)

    def __call__(self, name: str) -> str:
        """Returns the absolute name of a topic."""
        absolute = self._absolute(name)
        return self._remaps.get(absolute, absolute)

    def _absolute(self, name: str) -> str:
        if name.startswith('/'):
            return name
        return '/' + '/'.join(part for part in (self._namespace, name) if part)


def wanted_topics(
    settings: Settings, names: Names, *, has_instruction: bool, use_sim_time: bool
) -> list[Wanted]:
    """Returns the inputs of a node with these parameters."""
    wanted = [
        Wanted(IMAGES, names(image_topic(camera, packed)), kind, True, camera)
        for camera, packed in zip(settings['cameras.names'], compressed_flags(settings))
        for kind in (COMPRESSED if packed else IMAGE,)
    ]
    wanted.append(Wanted(JOINT_STATES, names(JOINT_STATES), JOINT_STATE, False))
    wanted.append(Wanted(ROBOT_DESCRIPTION, names(ROBOT_DESCRIPTION), STRING, False))
    if not has_instruction:
        wanted.append(Wanted(INSTRUCTION, names(INSTRUCTION), STRING, True))
    if use_sim_time:
        wanted.append(Wanted(CLOCK_ROLE, names('/clock'), CLOCK, True))
    return wanted


def find_topics(
    reader: AnyReader, folder: Path, wanted: Iterable[Wanted]
) -> tuple[dict[str, Wanted], list[Connection], list[str]]:
    """Finds the inputs in a recording.

    Returns:
        Topic -> input; the connections to read; a line for each input that is missing and not
        needed.

    Raises:
        InputError: one that is needed is missing, or one has another type; the line lists what
            there is.
    """
    there: dict[str, set[str]] = {}
    for connection in reader.connections:
        there.setdefault(connection.topic, set()).add(connection.msgtype)
    found, notes = {}, []
    for item in wanted:
        kinds = there.get(item.topic)
        if kinds is None:
            if item.needed:
                raise InputError(_missing(folder, item, there))
            notes.append(f'{folder} has no topic {item.topic} ({item.kind})')
        elif kinds != {item.kind}:
            raise InputError(
                f'{folder}: topic {item.topic} is of {", ".join(sorted(kinds))}, expected '
                f'{item.kind}'
            )
        else:
            found[item.topic] = item
    connections = [entry for entry in reader.connections if entry.topic in found]
    return found, connections, notes


def _missing(folder: Path, item: Wanted, there: dict[str, set[str]]) -> str:
    shown = ', '.join(f'{topic} ({"/".join(sorted(kinds))})' for topic, kinds in there.items())
    hint = ''
    other = item.topic.removesuffix('/compressed')
    other = other if other != item.topic else f'{item.topic}/compressed'
    if item.role == IMAGES and other in there:
        hint = f'; -p cameras.compressed:=[{"true" if item.kind == IMAGE else "false"}] hears that'
    elif item.role == INSTRUCTION:
        hint = '; give one with --instruction'
    return (
        f'{folder} has no topic {item.topic} ({item.kind}), it has: {shown or "none"}{hint} '
        '(--remap and --namespace change names)'
    )
