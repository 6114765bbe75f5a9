"""A model with two cameras: the policy plans from images that fit together and names skew."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from efficientvla_ros.cli.replay_run import Replay
from efficientvla_ros.cli.replay_topics import IMAGES, Wanted
from efficientvla_ros.control.reasons import HoldReason
from efficientvla_ros.ros.parameters.policy import TABLE
from efficientvla_ros.types import ActionChunk, TickReport

MS = 1_000_000
NAMES = {'cameras.names': ['front', 'wrist']}


class TwoCameras:
    """Stands for an engine: there is no model with two cameras. Keeps what it was shown."""

    model_name = 'two'
    camera_names = ('primary', 'hand')

    def __init__(self) -> None:
        self.seen = []

    def check_instruction(self, instruction: str) -> None:
        pass

    def reset(self) -> None:
        pass

    def settle(self, timeout_s: float) -> bool:
        return True

    def infer(self, observation):
        self.seen.append(observation)
        chunk = ActionChunk(
            np.zeros((4, 7)), 0.2, observation.stamp_ns, observation.instruction, len(self.seen)
        )
        return chunk, TickReport({'vision': 0.01})


def shot(camera: str, stamp_ms: int, arrival_ms: int | None = None, size: int = 4):
    stamp = SimpleNamespace(sec=0, nanosec=stamp_ms * MS)
    image = SimpleNamespace(
        header=SimpleNamespace(stamp=stamp),
        height=size,
        width=size,
        encoding='rgb8',
        is_bigendian=0,
        step=3 * size,
        data=np.full(3 * size * size, stamp_ms % 256, np.uint8),
    )
    time_ns = (stamp_ms if arrival_ms is None else arrival_ms) * MS
    return Wanted(IMAGES, f'/{camera}/image_raw', '', True, camera), time_ns, image


def played(messages, **values):
    settings = TABLE.settings(NAMES | {f'cameras.{name}': v for name, v in values.items()})
    engine = TwoCameras()
    replay = Replay(engine, settings)
    replay.instruct('pick')
    return engine.seen, replay.run(messages)


def shown(seen) -> list[tuple[int, int]]:
    return [tuple(int(image[0, 0, 0]) for image in o.images.values()) for o in seen]


def test_images_come_by_the_names_of_the_model_with_the_stamp_of_the_first():
    seen, _ = played([shot('wrist', 10), shot('front', 20)])
    assert list(seen[0].images) == ['primary', 'hand']
    assert seen[0].stamp_ns == 20 * MS
    assert shown(seen) == [(20, 10)]


def test_as_of_does_not_take_what_came_early_from_the_future():
    messages = [shot('wrist', 10), shot('wrist', 40), shot('front', 20, arrival_ms=45)]
    assert shown(played(messages, sync='as_of')[0]) == [(20, 10)]
    assert shown(played(messages, sync='latest')[0]) == [(20, 40)]


def test_skew_holds_with_the_camera_and_ends_when_the_image_comes():
    early = [shot('wrist', 10), shot('front', 20), shot('front', 150)]
    _, ticks = played(early, max_skew=0.1)
    assert ticks[-1].reason is HoldReason.CAMERA_SKEW
    assert 'camera "wrist": image is 0.140 s older than that of "front"' in ticks[-1].detail
    seen, ticks = played([*early, shot('wrist', 140, arrival_ms=160)], max_skew=0.1)
    assert shown(seen) == [(20, 10), (150, 140)]
    assert len(ticks) == 2 and ticks[-1].chunk is not None


def test_hold_plans_once_for_each_set_of_new_images():
    messages = [shot('front', 0), shot('wrist', 1)]
    for stamp in (33, 66, 99):
        messages += [shot('front', stamp), shot('wrist', stamp + 5)]
    seen, _ = played(messages, sync='hold')
    assert shown(seen) == [(0, 1), (33, 38), (66, 71), (99, 104)]


@pytest.mark.parametrize('sync', ['latest', 'hold', 'as_of'])
def test_a_camera_that_changes_its_size_is_planned_from(sync):
    messages = [shot('wrist', 1), shot('front', 2), shot('wrist', 31, size=9), shot('front', 32)]
    seen, _ = played(messages, sync=sync, crop=[0.0, 0.0, 1.0, 0.5])
    assert [o.images['hand'].shape[:2] for o in seen] == [(2, 4), (4, 9)]


def test_an_empty_recording_has_no_frames():
    seen, ticks = played([])
    assert (seen, ticks) == ([], [])
