"""What a live node planned over DDS and what replay plans from a recording are equal, bit by bit.

The test is camera, arm and recorder: it gives the node one image at a time and waits for its plan.
"""

from __future__ import annotations

import array
import json
import sys
from dataclasses import dataclass

import numpy as np
import pytest
from ros_harness import ROOT, image_message
from sensor_msgs.msg import Image, JointState

pytest.importorskip('rosbags')
from bag_writer import (
    IMAGE,
    JOINT_STATE,
    STORE,
    STRING,
    header,
    joints,
    picture,
    text,
    write_bag,
)
from rosbags.typesys import get_types_from_msg

from efficientvla_ros.cli import main as cli
from efficientvla_ros.cli.replay_topics import ACTION_CHUNK
from efficientvla_ros.ros.conversions import stamp_from_ns
from efficientvla_ros.ros.message_fields import stamp_to_ns
from efficientvla_ros.simulation.arm import HOME_POSITIONS, JOINT_NAMES, arm_urdf

pytestmark = pytest.mark.ros

MS = 1_000_000
FRAMES, CHANGE = 8, 5
PARAMETERS = {
    'acceleration.preset': 'efficientvla',
    'acceleration.tokens.hysteresis': 0.3,  # a tick depends on the ticks before it
    'cameras.crop': [0.1, 0.0, 0.8, 1.0],
    'cameras.rotation': [180],
    'safety.max_image_age': 60.0,
    'safety.max_joint_state_age': 60.0,
    'control.rate': 50.0,
    'cameras.fresh': 0.0,  # images come one at a time here: none is waited for
}
RELIABLE = {
    f'qos_overrides./{topic}.subscription.reliability': 'reliable'
    for topic in ('camera/image_raw', 'joint_states')
}


@dataclass
class Camera:
    """Publishes to the node and writes down what it published."""

    robot: object
    start_ns: int

    def __post_init__(self):
        node = self.robot.node
        self.images = node.create_publisher(Image, 'camera/image_raw', 10)
        self.arm = node.create_publisher(JointState, 'joint_states', 50)
        self.rows = []
        self.rng = np.random.default_rng(11)

    def stamp(self, frame: int) -> int:
        return self.start_ns + 30 * MS * frame

    def write(self, topic: str, kind: str, message) -> None:
        now = self.robot.node.get_clock().now().nanoseconds
        self.rows.append((now, topic, kind, message))

    def move(self, frame: int) -> None:
        """Joint states around the image of a frame."""
        for offset in (-10 * MS, 10 * MS):
            stamp = self.stamp(frame) + offset
            positions = np.array(HOME_POSITIONS) + 1e-3 * (stamp - self.start_ns) / (30 * MS)
            self.write('/joint_states', JOINT_STATE, joints(JOINT_NAMES, positions, stamp))
            live = JointState(name=list(JOINT_NAMES), position=array.array('d', positions))
            live.header.stamp = stamp_from_ns(stamp)
            self.arm.publish(live)

    def shoot(self, frame: int) -> None:
        pixels = self.rng.integers(0, 256, (120, 160, 3), dtype=np.uint8)
        self.write('/camera/image_raw', IMAGE, picture(pixels, self.stamp(frame)))
        live = image_message(pixels, 'rgb8')
        live.header.stamp = stamp_from_ns(self.stamp(frame))
        self.images.publish(live)

    def instruct(self, words: str) -> None:
        self.write('/instruction', STRING, text(words))
        self.robot.instruct(words)


def recorded_chunk(message):
    """A live plan as `ros2 bag record` would have written it."""
    types = STORE.types
    origin = message.anchor.position
    turn = message.anchor.orientation
    anchor = types['geometry_msgs/msg/Pose'](
        position=types['geometry_msgs/msg/Point'](x=origin.x, y=origin.y, z=origin.z),
        orientation=types['geometry_msgs/msg/Quaternion'](x=turn.x, y=turn.y, z=turn.z, w=turn.w),
    )
    return types[ACTION_CHUNK](
        header=header(stamp_to_ns(message.header.stamp)),
        instruction=message.instruction,
        sequence=message.sequence,
        action_space=message.action_space,
        step_duration=message.step_duration,
        horizon=message.horizon,
        dimension=message.dimension,
        actions=np.array(message.actions),
        anchor=anchor,
        anchor_valid=message.anchor_valid,
    )


def live_run(robot) -> tuple[list, list]:
    """Returns the plans of the node, and the rows of a recording of what it heard."""
    camera = Camera(robot, robot.node.get_clock().now().nanoseconds)
    camera.write('/robot_description', STRING, text(arm_urdf()))
    robot.describe()
    camera.instruct('pick red can')
    camera.move(0)
    camera.move(1)
    # Once a second the node tells what it lacks: only the image, so it has heard the rest.
    robot.status.wait(lambda s: s.hold_reason == 'no_image', robot.status.count)
    plans = []

    def planned(frame: int, words: str) -> None:
        plans.append(
            robot.chunks.wait(
                lambda c: (
                    (stamp_to_ns(c.header.stamp), c.instruction) == (camera.stamp(frame), words)
                )
            )
        )

    for frame in range(FRAMES):
        camera.move(frame + 2)
        camera.shoot(frame)
        planned(frame, 'pick red can' if frame <= CHANGE else 'pick orange')
        if frame == CHANGE:  # plans again from the same image
            camera.instruct('pick orange')
            planned(frame, 'pick orange')
    return plans, camera.rows


def test_live_node_and_replay_plan_the_same_from_the_same_messages(
    start_policy, make_robot, tmp_path, monkeypatch
):
    given = {**PARAMETERS, **RELIABLE, 'autostart': True}
    words = [word for name, value in given.items() for word in ('-p', f'{name}:={_yaml(value)}')]
    process = start_policy(*words)
    robot = make_robot()
    robot.image = robot.joint_positions = None
    process.wait_for_line('model .* is ready', timeout=90.0)
    plans, rows = live_run(robot)

    definition = (ROOT / 'msg' / 'ActionChunk.msg').read_text()
    STORE.register(get_types_from_msg(definition, ACTION_CHUNK))
    now = rows[-1][0]
    rows += [
        (now, '/policy_node/action_chunk', ACTION_CHUNK, recorded_chunk(plan)) for plan in plans
    ]
    write_bag(tmp_path / 'bag', rows)
    report_file = tmp_path / 'replay.json'
    options = [w for name, value in PARAMETERS.items() for w in ('-p', f'{name}:={_yaml(value)}')]
    arguments = ['replay', str(tmp_path / 'bag'), *options, '--json', str(report_file)]
    monkeypatch.setattr(sys, 'argv', ['efficientvla', *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert not stop.value.code

    report = json.loads(report_file.read_text())
    frames = report['runs'][0]['frames']
    assert len(frames) == len(plans) == FRAMES + 1
    for live, row in zip(plans, frames, strict=True):
        assert stamp_to_ns(live.header.stamp) == row['stamp_ns']
        assert live.instruction == row['instruction']
        assert live.actions.tolist() == np.ravel(row['chunk']['actions']).tolist()
        assert live.anchor_valid
        position = np.array(row['chunk']['anchor'])[:3, 3]
        origin = live.anchor.position
        assert [origin.x, origin.y, origin.z] == position.tolist()
    assert report['recorded_chunks'] == {
        'recorded': FRAMES + 1,
        'compared': FRAMES + 1,
        'equal': FRAMES + 1,
        'largest_difference': 0.0,
    }


def _yaml(value) -> str:
    return json.dumps(value)
