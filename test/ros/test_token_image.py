"""`~/debug/tokens` shows the newest picture, off the caller's thread, to those who subscribe."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

pytest.importorskip('rclpy')
pytest.importorskip('efficientvla_ros.msg')

from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from ros_harness import PATIENCE
from sensor_msgs.msg import Image

from efficientvla_ros.acceleration.token_roles import KEY, TASK
from efficientvla_ros.evaluation import token_picture as drawing
from efficientvla_ros.ros.cameras.images import decode_image
from efficientvla_ros.ros.token_image import TokenImage, TokenView

pytestmark = pytest.mark.ros

STAMP = 12_345_678_901


def view(kept=(0, 5), roles=(KEY, TASK), value=200, stamp_ns=STAMP) -> TokenView:
    image = np.full((48, 64, 3), value, np.uint8)
    return TokenView(image, np.array(kept), np.array(roles), 16, stamp_ns, 'camera_optical')


@pytest.fixture
def node(ros_context):
    node = Node('policy_node', context=ros_context)
    yield node
    node.destroy_node()


@pytest.fixture
def topic(node):
    topic = TokenImage(node)
    yield topic
    topic.destroy()


class Viewer:
    """Subscribes in a node of its own."""

    def __init__(self, context) -> None:
        self.messages: list[Image] = []
        self._node = Node('viewer', context=context)
        self._subscription = self._node.create_subscription(
            Image, 'policy_node/debug/tokens', self.messages.append, 10
        )
        self._executor = SingleThreadedExecutor(context=context)
        self._executor.add_node(self._node)

    def spin_until(self, condition) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, 'waited in vain'
            self._executor.spin_once(timeout_sec=0.05)

    def leave(self) -> None:
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
            self._subscription = None

    def close(self) -> None:
        self.leave()
        self._executor.shutdown()
        self._node.destroy_node()


@pytest.fixture
def viewer(ros_context):
    viewer = Viewer(ros_context)
    yield viewer
    viewer.close()


def test_it_is_wanted_only_while_somebody_subscribes(topic, viewer):
    viewer.spin_until(lambda: topic.wanted)
    viewer.leave()
    viewer.spin_until(lambda: not topic.wanted)


def test_a_viewer_gets_the_drawn_picture_with_stamp_and_frame_of_the_camera(topic, viewer):
    viewer.spin_until(lambda: topic.wanted)
    offered = view()
    topic.offer(offered)
    viewer.spin_until(lambda: viewer.messages)
    message = viewer.messages[0]
    assert (message.header.stamp.sec, message.header.stamp.nanosec) == (12, 345_678_901)
    assert message.header.frame_id == 'camera_optical'
    drawn = drawing.token_picture(offered.image, offered.kept, offered.roles, 16)
    assert (decode_image(message, 'tokens') == drawn).all()


def test_the_caller_never_waits_and_only_the_newest_picture_is_drawn(topic, viewer, monkeypatch):
    viewer.spin_until(lambda: topic.wanted)
    drawing_now, go_on = threading.Event(), threading.Event()
    draw = drawing.token_picture

    def slow(*arguments):
        drawing_now.set()
        assert go_on.wait(PATIENCE)
        return draw(*arguments)

    monkeypatch.setattr(drawing, 'token_picture', slow)
    topic.offer(view(stamp_ns=1))
    assert drawing_now.wait(PATIENCE)
    for stamp in range(2, 6):  # returns though a picture is being drawn
        topic.offer(view(stamp_ns=stamp))
    go_on.set()
    viewer.spin_until(lambda: len(viewer.messages) == 2)
    assert [message.header.stamp.nanosec for message in viewer.messages] == [1, 5]


def test_a_picture_that_cannot_be_drawn_does_not_end_the_topic(topic, viewer):
    viewer.spin_until(lambda: topic.wanted)
    topic.offer(view(kept=(99,), roles=(KEY,)))
    topic.offer(view(kept=(99,), roles=(KEY,)))
    topic.offer(view())
    viewer.spin_until(lambda: viewer.messages)
    assert viewer.messages[0].header.frame_id == 'camera_optical'


def test_after_destroy_nothing_is_taken(node):
    topic = TokenImage(node)
    topic.offer(view())
    topic.destroy()
    topic.offer(view())
    assert not any(thread.name == 'token_image' for thread in threading.enumerate())
