"""One image in, the kept tokens out: as numbers, and as a PNG with a legend."""

import json
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from efficientvla_ros.evaluation.token_inspection import (
    inspect_image,
    inspect_tokens,
    read_image,
    write_png,
)
from efficientvla_ros.evaluation.token_picture import ROLE_COLOURS
from efficientvla_ros.types import InputError

KEPT, ROLES = np.array([3, 17, 40, 63]), np.array([0, 1, 2, 2], np.uint8)


class StandIn:
    """An engine that keeps four tokens of 64, and tells roles only when asked."""

    camera_names = ('front',)
    model_name = 'stand-in'
    config = SimpleNamespace(num_patches=64)
    report_tokens = False

    def __init__(self, kept=KEPT):
        self.kept = kept
        self.seen = None

    def infer(self, observation):
        self.seen = observation
        roles = ROLES if self.report_tokens else None
        return None, SimpleNamespace(kept_tokens=self.kept, token_roles=roles)


def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (112, 112, 3), dtype=np.uint8)


def test_numbers_and_picture_of_what_is_kept():
    engine = StandIn()
    found = inspect_tokens(engine, image(), 'pick red can')
    assert engine.seen.instruction == 'pick red can' and 'front' in engine.seen.images
    assert engine.report_tokens is False  # as it was
    report = json.loads(json.dumps(found.to_json()))
    assert report['counts'] == {'key': 1, 'task': 1, 'diversity': 2}
    assert report['kept'] == KEPT.tolist() and report['patches'] == 64
    assert report['roles'] == ['key', 'task', 'diversity', 'diversity']
    assert found.picture.shape[0] > found.picture.shape[1] == 448  # enlarged, with a legend
    assert (found.picture[0, 3 * 56] == ROLE_COLOURS[0]).all()


def test_a_plan_that_keeps_all_tokens_has_nothing_to_show():
    engine = StandIn(kept=None)
    with pytest.raises(InputError, match='stand-in keeps all 64 visual tokens, expected'):
        inspect_tokens(engine, image(), 'pick red can')
    assert engine.report_tokens is False


def test_pictures_are_read_and_written_in_rgb(tmp_path):
    path = tmp_path / 'out.png'
    write_png(path, image())
    assert (read_image(path) == image()).all()
    assert (cv2.imread(str(path))[:, :, ::-1] == image()).all()


def test_files_that_cannot_be_used_are_named(tmp_path):
    with pytest.raises(InputError, match=r'none\.png: cannot be read \(No such file'):
        read_image(tmp_path / 'none.png')
    for name, content in (('text.png', b'no picture'), ('empty.png', b'')):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=f'{name}: no picture'):
            read_image(tmp_path / name)
    with pytest.raises(InputError, match='cannot be written'):
        write_png(tmp_path / 'no folder' / 'out.png', image())


@pytest.fixture
def camera_file(tmp_path):
    write_png(tmp_path / 'camera.png', image())
    return tmp_path / 'camera.png'


@pytest.mark.parametrize(
    ('preset', 'counts'),
    [
        ('tokens', {'key': 1, 'task': 6, 'diversity': 7}),
        ('fastv', {'task': 14}),
        ('random', {'unranked': 14}),
    ],
)
def test_the_embedded_policy_keeps_the_published_share(camera_file, tmp_path, preset, counts):
    out = tmp_path / 'tokens.png'
    found = inspect_image(camera_file, 'pick red can', out, preset=preset)
    assert found.to_json()['counts'] == counts
    assert (np.diff(found.kept) > 0).all()
    assert (read_image(out) == found.picture).all()


def test_a_dense_preset_and_a_missing_folder_are_refused(camera_file, tmp_path):
    with pytest.raises(InputError, match='tabletop-small keeps all 64 visual tokens'):
        inspect_image(camera_file, 'pick red can', tmp_path / 'a.png', preset='dense')
    with pytest.raises(InputError, match='does not exist'):
        inspect_image(camera_file, 'pick red can', tmp_path / 'none' / 'a.png')
    assert not (tmp_path / 'a.png').exists()
