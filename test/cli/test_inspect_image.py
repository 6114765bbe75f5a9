"""`efficientvla inspect --image`: numbers and a picture of the visual tokens that stay."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / 'camera.png'
    picture = np.random.default_rng(0).integers(0, 256, (112, 112, 3), dtype=np.uint8)
    cv2.imwrite(str(path), picture)
    return path


def test_picture_and_counts(inspect, photo, tmp_path):
    out = tmp_path / 'tokens.png'
    result = inspect('--image', photo, '--instruction', 'pick the red can', '--out', out)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == [
        'tabletop-small, "pick the red can": 14 of 64 visual tokens are kept '
        '(1 key, 6 task, 7 diversity)',
        f'picture: {out}',
    ]
    assert cv2.imread(str(out)).shape[1] >= 112


def test_counts_replace_those_of_the_preset(inspect, photo, tmp_path):
    result = inspect(
        '--image', photo, '--instruction', 'pick the red can', '--out', tmp_path / 'x.png',
        '--preset', 'random', '--tokens', 9, '--json', '-',
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert report['patches'] == 64
    assert len(report['kept']) == 9 == sum(report['counts'].values())


@pytest.mark.parametrize(
    ('name', 'instruction', 'message'),
    [
        ('missing.png', 'pick the red can', 'missing.png: cannot be read'),
        ('camera.png', 'fly to the moon', 'fly'),
    ],
)
def test_unusable_input_is_one_line(inspect, photo, tmp_path, name, instruction, message):
    result = inspect(
        '--image', photo.with_name(name), '--instruction', instruction, '--out', tmp_path / 'x.png'
    )
    assert result.returncode == 2
    assert result.stderr.startswith('error: ') and message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
