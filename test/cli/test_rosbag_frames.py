"""rosbag2 recordings give images with the instruction that held when they were taken."""

from __future__ import annotations

import builtins

import numpy as np
import pytest
from bag_writer import COMPRESSED, IMAGE, STRING, compressed, image, text, two_episodes, write_bag
from rosbags.rosbag2 import StoragePlugin

from efficientvla_ros.cli.rosbag_frames import rosbag_frames
from efficientvla_ros.types import InputError


def described(frames):
    return [(int(frame.image[0, 0, 0]), frame.instruction, frame.episode) for frame in frames]


@pytest.mark.parametrize('storage', list(StoragePlugin))
@pytest.mark.parametrize(('make', 'kind'), [(image, IMAGE), (compressed, COMPRESSED)])
def test_images_carry_the_instruction_that_held(tmp_path, storage, make, kind):
    write_bag(tmp_path / 'bag', two_episodes(make, kind), storage)
    frames = rosbag_frames(tmp_path / 'bag', 100)
    assert described(frames) == [
        (3, 'pick red can', 0),
        (4, 'pick red can', 0),
        (5, 'pick red can', 0),
        (6, 'pick red can', 0),
        (7, 'pick orange', 1),
        (8, 'pick orange', 1),
    ]
    assert frames[0].image.dtype == np.uint8
    assert frames[0].image.shape == (4, 6, 3)
    assert frames[0].image[1, 1].tolist() == [3, 1, 2]


def test_fewer_frames_are_spread_over_the_recording(tmp_path):
    write_bag(tmp_path / 'bag', two_episodes())
    assert [row[0] for row in described(rosbag_frames(tmp_path / 'bag', 3))] == [4, 6, 8]


def test_an_instruction_given_holds_for_all_images(tmp_path):
    write_bag(tmp_path / 'bag', two_episodes())
    frames = rosbag_frames(tmp_path / 'bag', 100, instruction='pick green can')
    assert described(frames) == [(n, 'pick green can', 0) for n in range(1, 9)]


def test_bgr_images_come_as_rgb(tmp_path):
    write_bag(tmp_path / 'bag', two_episodes(lambda n: image(n, 'bgr8')))
    assert rosbag_frames(tmp_path / 'bag', 1)[0].image[0, 0].tolist() == [6, 1, 2]


def test_a_topic_can_be_chosen_among_several(tmp_path):
    other = [(5 * n, '/wrist/image_raw', IMAGE, image(100 + n)) for n in range(1, 9)]
    write_bag(tmp_path / 'bag', sorted(two_episodes() + other, key=lambda row: row[0]))
    with pytest.raises(InputError, match=r'2 topics of .*: name it with --image-topic'):
        rosbag_frames(tmp_path / 'bag', 4)
    frames = rosbag_frames(tmp_path / 'bag', 4, image_topic='/wrist/image_raw')
    assert all(row[0] > 100 for row in described(frames))
    with pytest.raises(InputError, match=r"no topic '/head' of .*image_raw, /wrist/image_raw"):
        rosbag_frames(tmp_path / 'bag', 4, image_topic='/head')


def test_images_without_an_instruction_are_refused(tmp_path):
    rows = [row for row in two_episodes() if row[2] == IMAGE]
    write_bag(tmp_path / 'bag', rows)
    with pytest.raises(InputError, match=r'0 topics of std_msgs/msg/String \(none\)'):
        rosbag_frames(tmp_path / 'bag', 4)
    write_bag(tmp_path / 'late', [*rows, (99, '/instruction', STRING, text('pick red can'))])
    with pytest.raises(InputError, match='give one with --instruction'):
        rosbag_frames(tmp_path / 'late', 4)


def test_an_image_that_cannot_be_decoded_is_named(tmp_path):
    broken = image(1)
    broken.step = 5
    write_bag(tmp_path / 'bag', [(1, '/camera/image_raw', IMAGE, broken)])
    with pytest.raises(InputError, match='/camera/image_raw') as error:
        rosbag_frames(tmp_path / 'bag', 4, instruction='pick red can')
    assert '\n' not in str(error.value)


def test_a_damaged_recording_is_named_in_one_line(tmp_path):
    write_bag(tmp_path / 'bag', two_episodes())
    for file in (tmp_path / 'bag').glob('*.db3'):
        file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(InputError, match='cannot be read as a rosbag2 recording') as error:
        rosbag_frames(tmp_path / 'bag', 4)
    assert '\n' not in str(error.value)
    (tmp_path / 'bag' / 'metadata.yaml').write_text('a: [')
    with pytest.raises(InputError, match='cannot be read as a rosbag2 recording'):
        rosbag_frames(tmp_path / 'bag', 4)


def test_without_rosbags_the_user_is_told_what_to_install(tmp_path, monkeypatch):
    plain = builtins.__import__

    def without(name, *arguments, **options):
        if name.split('.')[0] == 'rosbags':
            raise ModuleNotFoundError(name)
        return plain(name, *arguments, **options)

    monkeypatch.setattr(builtins, '__import__', without)
    with pytest.raises(InputError, match='is a rosbag2 recording: pip install rosbags'):
        rosbag_frames(tmp_path, 4)
