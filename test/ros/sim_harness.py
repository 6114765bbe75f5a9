"""Peers of the simulator node: one that watches and commands, and the expert over topics."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence

import numpy as np
import rclpy
from builtin_interfaces.msg import Time
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.qos import QoSProfile, ReliabilityPolicy
from ros_harness import LATCHED, PATIENCE, Heard
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import String
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from efficientvla_ros.control.kinematics import ArmKinematics
from efficientvla_ros.control.pipeline import ChunkController
from efficientvla_ros.msg import EpisodeResult
from efficientvla_ros.simulation.arm import (
    ARM_JOINTS,
    HOME_POSITIONS,
    JOINT_NAMES,
    TCP_FRAME,
    arm_urdf,
)
from efficientvla_ros.simulation.expert import TableState, plan
from efficientvla_ros.simulation.scene import OBJECT_MODELS
from efficientvla_ros.simulation.tasks import Episode, parse_instruction
from efficientvla_ros.types import ActionChunk, JointCommand

SIMULATOR = 'efficientvla_ros.ros.tabletop_sim_node'
_NS = 1_000_000_000


def nanoseconds(stamp: Time) -> int:
    return stamp.sec * _NS + stamp.nanosec


class SimPeer:
    """Camera watcher, arm commander and user of one simulator node, in the test's process."""

    def __init__(self, context: Context, namespace: str = '') -> None:
        self.node = rclpy.create_node('peer', namespace=namespace, context=context)
        self._condition = threading.Condition()
        camera = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
        self.images = self._hear(Image, 'camera/image_raw', camera)
        self.camera_infos = self._hear(CameraInfo, 'camera/camera_info', camera)
        self.joints = self._hear(JointState, 'joint_states')
        self.descriptions = self._hear(String, 'robot_description', LATCHED)
        self.instructions = self._hear(String, 'instruction', LATCHED)
        self.results = self._hear(EpisodeResult, 'episode_result')
        self.clocks = self._hear(Clock, '/clock')
        self._commands = self.node.create_publisher(JointTrajectory, 'joint_trajectory', 1)
        self._say = self.node.create_publisher(String, 'instruction', 1)
        self._say_latched = self.node.create_publisher(String, 'instruction', LATCHED)
        self._reset = self.node.create_client(Trigger, 'tabletop_sim_node/reset')
        self._executor = SingleThreadedExecutor(context=context)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def _hear(self, kind: type, topic: str, qos=10) -> Heard:
        heard = Heard(self._condition)
        self.node.create_subscription(kind, topic, heard, qos)
        return heard

    def _spin(self) -> None:
        with contextlib.suppress(ExternalShutdownException):
            self._executor.spin()

    def close(self) -> None:
        self._executor.shutdown()
        self._thread.join(PATIENCE)
        self.node.destroy_node()

    def wait_until_connected(self) -> None:
        """Waits until the simulator is seen and hears this peer."""
        assert self._reset.wait_for_service(PATIENCE), 'no simulator'
        self.joints.wait(since=self.joints.count)
        rate = self.node.create_rate(50)
        for _ in range(int(50 * PATIENCE)):
            # The latched instruction has a subscription of this node as well.
            counts = [p.get_subscription_count() for p in (self._commands, self._say)]
            if min(counts) >= 1 and self._say_latched.get_subscription_count() >= 2:
                break
            rate.sleep()
        else:
            raise AssertionError('the simulator did not subscribe')
        self.node.destroy_rate(rate)

    def reset(self) -> Trigger.Response:
        """Starts the next episode."""
        assert self._reset.wait_for_service(PATIENCE), 'no simulator'
        done = threading.Event()
        future = self._reset.call_async(Trigger.Request())
        future.add_done_callback(lambda _: done.set())
        assert done.wait(PATIENCE), '~/reset did not answer'
        return future.result()

    def instruct(self, text: str, latched: bool = False) -> None:
        (self._say_latched if latched else self._say).publish(String(data=text))

    def positions(self, fresh: bool = True) -> np.ndarray:
        """Joint positions [7] measured from now on."""
        message = self.joints.wait(since=self.joints.count if fresh else 0)
        return np.array(message.position)

    def send(self, message: JointTrajectory) -> None:
        self._commands.publish(message)

    def send_command(self, command: JointCommand) -> None:
        message = trajectory(
            command.names, command.times, command.positions, velocities=command.velocities
        )
        seconds, rest = divmod(command.stamp_ns, _NS)
        message.header.stamp = Time(sec=seconds, nanosec=rest)
        self.send(message)

    def wait_for_positions(self, target: np.ndarray, tolerance: float = 0.02) -> JointState:
        """Waits until the arm is at the target [7]."""
        return self.joints.wait(
            lambda m: np.abs(np.array(m.position) - target).max() < tolerance,
            since=self.joints.count,
        )


def trajectory(
    names: Sequence[str],
    times: Sequence[float],
    positions: Sequence[Sequence[float]],
    velocities: Sequence[Sequence[float]] | None = None,
    stamp: Time | None = None,
) -> JointTrajectory:
    """A trajectory message; without a stamp it starts when it arrives."""
    message = JointTrajectory(joint_names=list(names))
    message.header.stamp = stamp or Time()
    for index, (time, row) in enumerate(zip(times, positions)):
        point = JointTrajectoryPoint(positions=[float(x) for x in row])
        if velocities is not None:
            point.velocities = [float(x) for x in velocities[index]]
        nanoseconds = round(time * _NS)
        point.time_from_start.sec, point.time_from_start.nanosec = divmod(nanoseconds, _NS)
        message.points.append(point)
    return message


_ANYWHERE = np.array(HOME_POSITIONS) + 0.1


def _ragged() -> JointTrajectory:
    message = trajectory(JOINT_NAMES, [0.5, 1.0], [_ANYWHERE, _ANYWHERE])
    message.points[1].positions = message.points[1].positions[:3]
    return message


GARBAGE = {
    'unknown joints': (trajectory([*JOINT_NAMES[:6], 'tail'], [1.0], [_ANYWHERE]), 'tail'),
    'missing joints': (trajectory(JOINT_NAMES[:6], [1.0], [_ANYWHERE[:6]]), 'gripper'),
    'a joint twice': (trajectory([*JOINT_NAMES, 'waist'], [1.0], [[*_ANYWHERE, 0.0]]), 'twice'),
    'not finite': (trajectory(JOINT_NAMES, [1.0], [_ANYWHERE * np.nan]), 'not finite'),
    'times not increasing': (
        trajectory(JOINT_NAMES, [1.0, 1.0], [_ANYWHERE, _ANYWHERE]),
        'strictly increasing',
    ),
    'points of different sizes': (_ragged(), 'expected all alike'),
    'no positions': (trajectory(JOINT_NAMES, [1.0], [[]]), 'shape'),
    'moving at the end': (
        trajectory(JOINT_NAMES, [1.0], [_ANYWHERE], velocities=[np.ones(7)]),
        'not zero',
    ),
}
"""Kind of a useless trajectory -> the message, and a piece of the reason for its rejection."""


class TopicExpert:
    """Solves an episode over topics alone: it knows where the objects stood at the start.

    Every 0.2 s of the joint states' stamps it plans for the newest instruction and commands.
    """

    def __init__(self, peer: SimPeer, episode: Episode) -> None:
        self._peer = peer
        self._episode = episode
        kinematics = ArmKinematics(arm_urdf(), ARM_JOINTS, TCP_FRAME)
        self._kinematics = kinematics
        self._controller = ChunkController(kinematics, gripper_joint='gripper')
        self._objects = {
            name: np.array([*episode.object_positions[name], OBJECT_MODELS[name].rest_height])
            for name in episode.objects
        }
        self._held: tuple[str, np.ndarray] | None = None

    def run(self, target: str | None = None) -> EpisodeResult:
        """Goes for `target`, or what the instruction names, until the episode has ended."""
        peer = self._peer
        due = 0
        while True:
            joints = peer.joints.wait(lambda m, due=due: nanoseconds(m.header.stamp) >= due)
            joints = peer.joints.newest
            due = nanoseconds(joints.header.stamp) + _NS // 5
            # The result of the episode before this one may arrive after the start of this one.
            ended = [m for m in peer.results.since(0) if m.seed == self._episode.seed]
            if ended:
                return ended[-1]
            self._act(np.array(joints.position), nanoseconds(joints.header.stamp), target)

    def _act(self, positions: np.ndarray, stamp_ns: int, target: str | None) -> None:
        target = target or parse_instruction(self._peer.instructions.newest.data)
        state = self._state(positions)
        actions = plan(state, target, horizon=8)
        chunk = ActionChunk(actions, 0.2, stamp_ns, 'test', 0)
        command = self._controller.command(chunk, positions[:6], stamp_ns).command
        if command is not None:
            self._peer.send_command(command)

    def _state(self, positions: np.ndarray) -> TableState:
        tcp = self._kinematics.fk(positions[:6])[:3, 3]
        state = TableState(tcp, float(positions[6]), self._objects)
        if self._held is not None:
            name, offset = self._held
            self._objects[name] = tcp + offset
            if not state.grips(name):
                self._held = None
        else:
            for name in self._objects:
                if state.grips(name):
                    self._held = name, self._objects[name] - tcp
        return state
