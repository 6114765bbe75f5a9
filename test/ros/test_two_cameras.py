"""Two cameras of another process, heard on a bare node: synchronised, viewed and previewed."""

from __future__ import annotations

import os
import re
import threading
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('cv2')

from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import ReliabilityPolicy
from ros_harness import PATIENCE, Heard, NodeProcess
from sensor_msgs.msg import Image

from efficientvla_ros.control.reasons import HoldReason
from efficientvla_ros.ros.cameras.images import decode
from efficientvla_ros.ros.ingest import Listeners
from efficientvla_ros.ros.inputs import Inputs
from efficientvla_ros.ros.observation import ObservationBuilder
from efficientvla_ros.ros.parameters.policy import TABLE
from efficientvla_ros.ros.preview import Previews
from efficientvla_ros.ros.timing import Window

pytestmark = pytest.mark.ros

BASE = TABLE.settings({'cameras.names': ['front', 'wrist'], 'cameras.compressed': [False, True]})
OVERRIDE = 'qos_overrides./front/image_raw.subscription.'


@pytest.fixture(scope='module')
def cameras(ros_domain):
    here = os.environ.get('PYTHONPATH', '')
    os.environ['PYTHONPATH'] = os.pathsep.join([str(Path(__file__).parent), here])
    try:
        process = NodeProcess('camera_publisher', ros_domain)
    finally:
        os.environ['PYTHONPATH'] = here
    yield process
    process.end()
    assert 'Traceback' not in process.output, process.output


class Listener:
    """`Inputs` on a node that is nothing else."""

    def __init__(self, context) -> None:
        self.condition = threading.Condition()
        self.settings = BASE
        self.node = Node(
            'bare',
            context=context,
            parameter_overrides=[
                Parameter(OVERRIDE + 'reliability', value='reliable'),
                Parameter(OVERRIDE + 'depth', value=3),
            ],
        )
        self.durations = Window()
        self.previews = Previews(self.node, lambda: self.settings)
        listeners = Listeners(self._notify, lambda: None, lambda: None)
        self.inputs = Inputs(self.node, BASE, listeners, self.durations, self.previews)
        self._executor = SingleThreadedExecutor(context=context)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._executor.spin, daemon=True)
        self._thread.start()

    def _notify(self) -> None:
        with self.condition:
            self.condition.notify_all()

    def select(self, settings):
        """The next images or problem; waits for them."""
        deadline = time.monotonic() + PATIENCE
        with self.condition:
            while (found := self.inputs.select(settings)) is None:
                assert time.monotonic() < deadline, 'no images came'
                self.condition.wait(0.5)
        self.inputs.used()
        return found

    def close(self) -> None:
        self._executor.shutdown()
        self._thread.join(PATIENCE)
        self.inputs.destroy()
        self.previews.destroy()
        self.node.destroy_node()


@pytest.fixture(scope='module')
def listener(ros_context, cameras):
    listener = Listener(ros_context)
    yield listener
    listener.close()


@pytest.fixture(autouse=True)
def untouched_settings(listener):
    listener.settings = BASE
    yield


def observations(listener, count: int, **values):
    settings = BASE.replaced({f'cameras.{name}': value for name, value in values.items()})
    found = []
    deadline = time.monotonic() + PATIENCE
    while len(found) < count:
        assert time.monotonic() < deadline, 'no images that fit together came'
        frames = listener.select(settings)
        if not isinstance(frames[0], HoldReason):
            found.append(frames)
    return found


def test_as_of_takes_nothing_from_the_future_of_the_first_camera(listener):
    for front, wrist in observations(listener, 15, sync='as_of'):
        assert (front.camera, wrist.camera) == ('front', 'wrist')
        assert wrist.stamp_ns <= front.stamp_ns
        assert front.stamp_ns - wrist.stamp_ns <= 0.2e9


def test_hold_waits_for_a_camera_at_half_the_rate(listener):
    pairs = observations(listener, 10, sync='hold')
    numbers = [[frame.number for frame in pair] for pair in pairs]
    new = [(a[0] < b[0], a[1] < b[1]) for a, b in pairwise(numbers)]
    assert all(first for first, _ in new)
    assert sum(second for _, second in new) >= 7  # a busy machine loses one now and then


def test_too_much_skew_is_a_named_reason(listener):
    settings = BASE.replaced({'cameras.max_skew': 1e-6})
    reason, detail = listener.select(settings)
    assert reason is HoldReason.CAMERA_SKEW
    assert re.match(r'camera "wrist": image is 0\.\d+ s older than that of "front"', detail)
    assert '(cameras.max_skew)' in detail


def test_a_camera_that_changes_its_size_keeps_its_view(listener):
    values = {'crop': [0.0, 0.0, 0.5, 0.5], 'rotation': [90]}
    settings = BASE.replaced({f'cameras.{name}': value for name, value in values.items()})
    builder = ObservationBuilder(('primary', 'hand'), listener.inputs.joints)
    sizes = set()
    deadline = time.monotonic() + PATIENCE
    while len(sizes) < 2 and time.monotonic() < deadline:
        ((front, wrist),) = observations(listener, 1, **values)
        images = builder.build((front, wrist), 'pick', settings).images
        assert list(images) == ['primary', 'hand']
        sizes.add(images['primary'].shape[:2])
        assert images['hand'].shape[:2] == (16, 16)
        for image in images.values():
            assert (image[:, :, 1] == 255).all()  # the quarter that the crop leaves
        assert np.shares_memory(
            images['primary'], np.frombuffer(front.message.data, dtype=np.uint8)
        )
    assert sizes == {(16, 16), (32, 32)}


def test_receive_time_is_taken_where_a_camera_asks_for_it(ros_context, cameras):
    node = Node('other', context=ros_context)
    settings = BASE.replaced({'cameras.stamp': ['receive', 'header']})
    listeners = Listeners(lambda: None, lambda: None, lambda: None)
    inputs = Inputs(node, settings, listeners, Window())
    executor = SingleThreadedExecutor(context=ros_context)
    executor.add_node(node)
    try:
        deadline = time.monotonic() + PATIENCE
        while (found := inputs.select(settings)) is None:
            assert time.monotonic() < deadline
            executor.spin_once(timeout_sec=0.5)
        for frame, by_receipt in zip(found, (True, False), strict=True):
            stamp = frame.message.header.stamp
            header_ns = stamp.sec * 10**9 + stamp.nanosec
            assert (frame.stamp_ns > header_ns) if by_receipt else (frame.stamp_ns == header_ns)
    finally:
        executor.shutdown()
        inputs.destroy()
        node.destroy_node()


def test_quality_of_service_follows_its_parameters(listener):
    def reliability(topic: str):
        infos = listener.node.get_subscriptions_info_by_topic(topic)
        return {i.qos_profile.reliability for i in infos if i.node_name == 'bare'}

    assert reliability('/front/image_raw') == {ReliabilityPolicy.RELIABLE}
    assert reliability('/wrist/image_raw/compressed') == {ReliabilityPolicy.BEST_EFFORT}
    assert listener.node.get_parameter(OVERRIDE + 'depth').value == 3
    observations(listener, 2)


def test_the_preview_shows_what_the_model_sees_and_follows_a_live_crop(listener, ros_context):
    viewer = Node('viewer', context=ros_context)
    heard = Heard(threading.Condition())
    viewer.create_subscription(Image, 'bare/preview/front', heard, 10)
    executor = SingleThreadedExecutor(context=ros_context)
    executor.add_node(viewer)
    thread = threading.Thread(target=executor.spin, daemon=True)
    thread.start()
    try:
        listener.previews.size = 20
        message = heard.wait(lambda m: m.width == m.height == 20)
        assert message.header.frame_id == 'front_optical'
        assert message.header.stamp.sec > 0
        assert decode(message, 'preview')[2, 2, 1] > 200  # green, upper left
        assert decode(message, 'preview')[17, 17, 1] < 50
        listener.settings = BASE.replaced({'cameras.rotation': [180]})
        heard.wait(lambda m: decode(m, 'preview')[17, 17, 1] > 200, heard.count)
        listener.settings = BASE.replaced({'cameras.crop': [0.5, 0.5, 0.5, 0.5]})
        heard.wait(lambda m: (decode(m, 'preview')[:, :, 1] < 50).all(), heard.count)
    finally:
        executor.shutdown()
        thread.join(PATIENCE)
        viewer.destroy_node()


def test_callbacks_stay_short(listener):
    observations(listener, 5)
    middle, high = listener.durations.quantiles(0.5, 0.9)
    assert middle < 1e-3 and high < 5e-3
