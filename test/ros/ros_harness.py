"""Real nodes in processes of their own, and a peer that talks to them over DDS.

Everything waits for events with generous time limits; nothing depends on sleeping long enough.
"""

from __future__ import annotations

import array
import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import rclpy
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import DescribeParameters, GetParameters, SetParameters
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import String
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from efficientvla_ros.cli.demo_processes import free_domain
from efficientvla_ros.msg import ActionChunk, PolicyStatus
from efficientvla_ros.ros.parameters.tabletop_arm import TABLETOP_ARM
from efficientvla_ros.simulation.arm import HOME_POSITIONS, JOINT_NAMES, arm_urdf

POLICY = 'efficientvla_ros.ros.policy_node'
ARM_ARGUMENTS = [
    argument
    for name, value in TABLETOP_ARM.items()
    for argument in ('-p', f'{name}:={str(value).lower()}')
]

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 30.0
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
TRANSITIONS = {
    'configure': Transition.TRANSITION_CONFIGURE,
    'activate': Transition.TRANSITION_ACTIVATE,
    'deactivate': Transition.TRANSITION_DEACTIVATE,
    'cleanup': Transition.TRANSITION_CLEANUP,
}


def private_domain() -> int:
    """A ROS domain that no other program on this machine uses now."""
    # Programs that tests start import this module as well, and have no use for the other one.
    from domains import worker_domains

    return free_domain(worker_domains())


class NodeProcess:
    """A node started as users start it; what it prints is kept.

    A policy node gets the limits of the simulated arm, and commands it: no dry run.
    """

    def __init__(self, module: str, domain: int, *ros_arguments: str) -> None:
        environment = dict(
            os.environ,
            ROS_DOMAIN_ID=str(domain),
            ROS_AUTOMATIC_DISCOVERY_RANGE='LOCALHOST',
            ROS_LOCALHOST_ONLY='1' if os.environ.get('ROS_DISTRO') == 'humble' else '0',
            PYTHONUNBUFFERED='1',
            OMP_NUM_THREADS='1',
            PYTHONPATH=os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')]),
        )
        if module == POLICY:
            ros_arguments = (*ARM_ARGUMENTS, *ros_arguments)
        arguments = ['--ros-args', *ros_arguments] if ros_arguments else []
        self._process = subprocess.Popen(
            [sys.executable, '-m', module, *arguments],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._lines: list[str] = []
        self._condition = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self._process.stdout:
            with self._condition:
                self._lines.append(line.rstrip('\n'))
                self._condition.notify_all()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def output(self) -> str:
        with self._condition:
            return '\n'.join(self._lines)

    def mark(self) -> int:
        """A position in the output; searches can start from it."""
        with self._condition:
            return len(self._lines)

    def lines(self, pattern: str, since: int = 0) -> list[str]:
        with self._condition:
            return [line for line in self._lines[since:] if re.search(pattern, line)]

    def wait_for_line(self, pattern: str, since: int = 0, timeout: float = PATIENCE) -> str:
        deadline = time.monotonic() + timeout
        with self._condition:
            while True:
                found = [line for line in self._lines[since:] if re.search(pattern, line)]
                if found:
                    return found[0]
                left = deadline - time.monotonic()
                if left <= 0.0:
                    output = '\n'.join(self._lines)
                    raise AssertionError(f'no line matches {pattern!r} in:\n{output}')
                self._condition.wait(left)

    def wait(self, timeout: float = PATIENCE) -> int:
        """Waits for the end of the process; returns its exit code."""
        code = self._process.wait(timeout)
        self._reader.join(timeout)
        return code

    def kill(self) -> None:
        """Ends the process without a chance to say goodbye."""
        self._process.kill()
        self.wait()

    def end(self, number: int = signal.SIGINT) -> int:
        """Ends the process in order, by force if it does not; returns the exit code."""
        if self._process.poll() is None:
            self._process.send_signal(number)
            try:
                self._process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self._process.kill()
        return self.wait()


_HOLD_POINTS = 24


def is_hold(command: JointTrajectory) -> bool:
    """Whether a command brakes: at once, or where it may not, within half a second."""
    return len(command.points) <= _HOLD_POINTS and not any(command.points[-1].velocities)


class Heard:
    """Messages of one topic, the newest ones kept."""

    def __init__(self, condition: threading.Condition) -> None:
        self._condition = condition
        self._messages: deque = deque(maxlen=5000)
        self.count = 0

    def __call__(self, message) -> None:
        with self._condition:
            self.count += 1
            self._messages.append((self.count, time.monotonic(), message))
            self._condition.notify_all()

    def since(self, count: int) -> list:
        """Messages after the first `count` ones."""
        with self._condition:
            return [message for number, _, message in self._messages if number > count]

    def of_the_last(self, seconds: float) -> list:
        """Messages that came in the last so many seconds."""
        begin = time.monotonic() - seconds
        with self._condition:
            return [message for _, came, message in self._messages if came > begin]

    @property
    def newest(self):
        with self._condition:
            return self._messages[-1][2] if self._messages else None

    def wait(self, predicate=lambda message: True, since: int = 0, timeout: float = PATIENCE):
        """Returns the first message after `since` that fulfils the predicate."""
        deadline = time.monotonic() + timeout
        with self._condition:
            while True:
                for number, _, message in self._messages:
                    if number > since and predicate(message):
                        return message
                left = deadline - time.monotonic()
                if left <= 0.0:
                    shown = self._messages[-1][2] if self._messages else 'nothing'
                    raise AssertionError(f'waited {timeout} s in vain; newest message: {shown}')
                self._condition.wait(left)


def rgb_image(height: int = 120, width: int = 160, seed: int = 0) -> Image:
    """A picture with content; not stamped."""
    rows = np.linspace(0, 255, height * width * 3).astype(np.uint8)
    rows = np.roll(rows, seed)
    return image_message(rows.reshape(height, width, 3), 'rgb8')


def image_message(pixels: np.ndarray, encoding: str, padding: int = 0) -> Image:
    """An image with `padding` bytes at the end of every row."""
    height, width = pixels.shape[:2]
    rows = np.ascontiguousarray(pixels).view(np.uint8).reshape(height, -1)
    rows = np.pad(rows, ((0, 0), (0, padding)))
    message = Image(height=height, width=width, encoding=encoding, step=rows.shape[1])
    message.data = array.array('B', rows.tobytes())
    return message


class Robot:
    """Camera, arm and user of one policy node, as a node in the test's process."""

    def __init__(self, context: Context, namespace: str = '', node: str = 'policy_node') -> None:
        self.node = rclpy.create_node('robot', namespace=namespace, context=context)
        self.policy = node
        self._condition = threading.Condition()
        self.commands = self.hear(JointTrajectory, 'joint_trajectory')
        self.chunks = self.hear(ActionChunk, f'{node}/action_chunk')
        self.status = self.hear(PolicyStatus, f'{node}/status', LATCHED)
        self.diagnostics = self.hear(DiagnosticArray, '/diagnostics')
        self._image_publisher = self.node.create_publisher(Image, 'camera/image_raw', 1)
        self._jpeg_publisher = self.node.create_publisher(
            CompressedImage, 'camera/image_raw/compressed', 1
        )
        self._joint_publisher = self.node.create_publisher(JointState, 'joint_states', 10)
        self._urdf_publisher = self.node.create_publisher(String, 'robot_description', LATCHED)
        self._instruction_publisher = self.node.create_publisher(String, 'instruction', LATCHED)
        self._volatile_publisher = self.node.create_publisher(String, 'instruction', 1)
        self.image: Image | CompressedImage | None = rgb_image()
        self.stamping = True
        self.joint_names = list(JOINT_NAMES)
        self.joint_positions: list[float] | None = list(HOME_POSITIONS)
        self.node.create_timer(1 / 15, self._publish_image)
        self.node.create_timer(1 / 50, self._publish_joints)
        self._executor = SingleThreadedExecutor(context=context)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def hear(self, kind: type, topic: str, qos=10) -> Heard:
        heard = Heard(self._condition)
        self.node.create_subscription(kind, topic, heard, qos)
        return heard

    def _spin(self) -> None:
        with contextlib.suppress(rclpy.executors.ExternalShutdownException):
            self._executor.spin()

    def close(self) -> None:
        self._executor.shutdown()
        self._thread.join(PATIENCE)
        self.node.destroy_node()

    def now(self) -> Time:
        return self.node.get_clock().now().to_msg()

    def _publish_image(self) -> None:
        image = self.image
        if image is None:
            return
        if self.stamping:
            image.header.stamp = self.now()
        jpeg = isinstance(image, CompressedImage)
        (self._jpeg_publisher if jpeg else self._image_publisher).publish(image)

    def _publish_joints(self) -> None:
        if self.joint_positions is None:
            return
        message = JointState(name=self.joint_names, position=self.joint_positions)
        message.header.stamp = self.now()
        self._joint_publisher.publish(message)

    def describe(self, urdf: str | None = None) -> None:
        self._urdf_publisher.publish(String(data=arm_urdf() if urdf is None else urdf))

    def instruct(self, text: str, volatile: bool = False) -> None:
        publisher = self._volatile_publisher if volatile else self._instruction_publisher
        publisher.publish(String(data=text))

    def call(self, kind: type, name: str, request, timeout: float = PATIENCE):
        """Calls a service and waits for the answer."""
        client = self.node.create_client(kind, name)
        try:
            assert client.wait_for_service(timeout), f'no service {name}'
            done = threading.Event()
            future = client.call_async(request)
            future.add_done_callback(lambda _: done.set())
            assert done.wait(timeout), f'service {name} did not answer within {timeout} s'
            return future.result()
        finally:
            self.node.destroy_client(client)

    def change(self, transition: str, timeout: float = 60.0) -> bool:
        request = ChangeState.Request(transition=Transition(id=TRANSITIONS[transition]))
        return self.call(ChangeState, f'{self.policy}/change_state', request, timeout).success

    def lifecycle_state(self) -> str:
        answer = self.call(GetState, f'{self.policy}/get_state', GetState.Request())
        return answer.current_state.label

    def trigger(self, name: str):
        return self.call(Trigger, f'{self.policy}/{name}', Trigger.Request())

    def set_parameters(self, **values: object) -> list:
        """Sets parameters (`__` for the dot) and returns the results."""
        parameters = [
            Parameter(name.replace('__', '.'), value=value).to_parameter_msg()
            for name, value in values.items()
        ]
        request = SetParameters.Request(parameters=parameters)
        return self.call(SetParameters, f'{self.policy}/set_parameters', request).results

    def get_parameters(self, *names: str):
        request = GetParameters.Request(names=list(names))
        return self.call(GetParameters, f'{self.policy}/get_parameters', request).values

    def describe_parameters(self, *names: str):
        request = DescribeParameters.Request(names=list(names))
        answer = self.call(DescribeParameters, f'{self.policy}/describe_parameters', request)
        return answer.descriptors

    def wait_for_state(self, state: int, reason: str | None = None, since: int = 0):
        """Waits for a status with a state, and a hold reason if given."""
        return self.status.wait(
            lambda s: s.state == state and reason in (None, s.hold_reason), since
        )

    def restore(self, instruction: str = 'pick red can') -> None:
        """Gives the policy everything that it needs and waits until it runs."""
        self.image, self.stamping = rgb_image(), True
        self.joint_names, self.joint_positions = list(JOINT_NAMES), list(HOME_POSITIONS)
        self.describe()
        self.instruct(instruction)
        self.wait_until_running(self.status.count)

    def wait_until_held(self, reason: str, since: int):
        return self.wait_for_state(PolicyStatus.HOLDING, reason, since)

    def wait_until_running(self, since: int = 0):
        return self.wait_for_state(PolicyStatus.RUNNING, since=since)


@contextlib.contextmanager
def active_policy(
    domain: int, context: Context, model: Path
) -> Iterator[tuple[NodeProcess, Robot]]:
    """A policy node with a model folder, configured and active, and its peer; ends cleanly."""
    process = NodeProcess(POLICY, domain, '-p', f'model.path:={model}', '-p', 'autostart:=true')
    robot = Robot(context)
    robot.describe()
    robot.instruct('pick red can')
    try:
        process.wait_for_line('model .* is ready', timeout=60.0)
        robot.wait_until_running()
        yield process, robot
    finally:
        robot.close()
        code = process.end()
    assert code == 0, process.output
    assert 'Traceback' not in process.output, process.output
