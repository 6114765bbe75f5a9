"""Frames to calibrate with from a rosbag2 recording; needs no ROS 2."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from efficientvla_ros.cli.rosbag_reader import COMPRESSED, IMAGE, STRING, open_bag, reading
from efficientvla_ros.evaluation.calibration_frames import Frame
from efficientvla_ros.types import InputError

if TYPE_CHECKING:
    from rosbags.highlevel import AnyReader
    from rosbags.interfaces import Connection


def rosbag_frames(
    folder: Path,
    count: int,
    *,
    image_topic: str | None = None,
    instruction_topic: str | None = None,
    instruction: str | None = None,
) -> list[Frame]:
    """Frames of a recording, evenly spaced among those that have an instruction.

    The instruction of a frame is the last one recorded before it; each change of it begins an
    episode.

    Args:
        folder: rosbag2 folder, of any storage plugin that `rosbags` reads.
        count: how many are wanted; all are returned where there are fewer.
        image_topic: topic with the images; None takes the only one.
        instruction_topic: topic with the instructions; None takes the only one.
        instruction: used for all frames instead of a topic.

    Raises:
        InputError: the folder is no readable recording, a topic is missing or not clear, an
            image cannot be decoded, or `rosbags` is not installed.
    """
    with open_bag(folder) as reader, reading(folder):
        source = _topic(reader, folder, (IMAGE, COMPRESSED), 'image', image_topic)
        if instruction is None:
            texts = _instructions(reader, folder, instruction_topic)
        else:
            texts = [(0, instruction)]
        return list(_frames(reader, folder, source, texts, count))


def _topic(
    reader: AnyReader, folder: Path, types: tuple[str, ...], what: str, wanted: str | None
) -> list[Connection]:
    """The connections of one topic."""
    found: dict[str, list[Connection]] = {}
    for connection in reader.connections:
        if connection.msgtype in types:
            found.setdefault(connection.topic, []).append(connection)
    shown = ', '.join(sorted(found)) or 'none'
    kinds = ' or '.join(types)
    if wanted is not None and wanted not in found:
        raise InputError(f'{folder} has no topic {wanted!r} of {kinds}, expected one of: {shown}')
    if wanted is None and len(found) != 1:
        raise InputError(
            f'{folder} has {len(found)} topics of {kinds} ({shown}), '
            f'expected one: name it with --{what}-topic'
        )
    return found[wanted] if wanted is not None else next(iter(found.values()))


def _instructions(reader: AnyReader, folder: Path, topic: str | None) -> list[tuple[int, str]]:
    """Time and text of every change of the instruction."""
    connections = _topic(reader, folder, (STRING,), 'instruction', topic)
    changes: list[tuple[int, str]] = []
    for connection, stamp, data in reader.messages(connections):
        text = reader.deserialize(data, connection.msgtype).data.strip()
        if text and (not changes or changes[-1][1] != text):
            changes.append((stamp, text))
    return changes


def _frames(
    reader: AnyReader,
    folder: Path,
    connections: list[Connection],
    texts: list[tuple[int, str]],
    count: int,
) -> Iterator[Frame]:
    changes = [stamp for stamp, _ in texts]
    first = changes[0] if changes else None
    stamps = [stamp for _, stamp, _ in reader.messages(connections)]
    usable = [place for place, stamp in enumerate(stamps) if first is not None and stamp >= first]
    if not usable:
        raise InputError(
            f'{folder} has {len(stamps)} images and {len(texts)} instructions, expected images '
            'after an instruction: give one with --instruction'
        )
    count = min(count, len(usable))
    wanted = {usable[int((n + 0.5) * len(usable) / count)] for n in range(count)}
    for place, (connection, stamp, data) in enumerate(reader.messages(connections)):
        if place in wanted:
            episode = bisect_right(changes, stamp) - 1
            message = reader.deserialize(data, connection.msgtype)
            yield Frame(_decode(message, connection), texts[episode][1], episode)


def _decode(message: Any, connection: Connection) -> np.ndarray:
    from efficientvla_ros.ros.cameras.images import decode

    return np.array(decode(message, connection.topic))  # not a view of the message
