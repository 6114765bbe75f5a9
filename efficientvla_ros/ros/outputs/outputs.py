"""What the node sends to the robot: commands of arm and gripper, and the plan itself."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from geometry_msgs.msg import PoseStamped, TwistStamped
from rclpy.duration import Duration
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node
from rclpy.publisher import Publisher
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from efficientvla_ros.control.gripper import GripperSchedule
from efficientvla_ros.msg import ActionChunk as ActionChunkMsg
from efficientvla_ros.ros import qos
from efficientvla_ros.ros.conversions import action_chunk, columns
from efficientvla_ros.ros.outputs import gripper_output
from efficientvla_ros.ros.outputs.arm_output import ArmLinks, ArmOutput
from efficientvla_ros.ros.outputs.goal_output import GoalOutput
from efficientvla_ros.ros.outputs.gripper_output import GripperOutput
from efficientvla_ros.ros.outputs.optional_interfaces import control_action
from efficientvla_ros.ros.outputs.position_output import PositionOutput
from efficientvla_ros.ros.outputs.ticker import Ticker
from efficientvla_ros.ros.outputs.tool_output import PoseOutput, TwistOutput
from efficientvla_ros.ros.outputs.trajectory_output import TrajectoryOutput
from efficientvla_ros.ros.parameters.table import Settings
from efficientvla_ros.types import ActionChunk, JointCommand

_TOPICS = {
    'joint_trajectory': 'joint_trajectory',
    'follow_joint_trajectory': 'follow_joint_trajectory',
    'forward_position': 'commands',
    'twist': 'delta_twist_cmds',
    'pose': 'target_frame',
}
_MESSAGES = {
    'joint_trajectory': JointTrajectory,
    'forward_position': Float64MultiArray,
    'twist': TwistStamped,
    'pose': PoseStamped,
}
_STREAMS = ('forward_position', 'twist', 'pose')
_ARM_ACTIONS = {'follow_joint_trajectory': 'FollowJointTrajectory'}
_GRIPPER_ACTIONS = {
    'gripper_command': 'GripperCommand',
    'parallel_gripper_command': 'ParallelGripperCommand',
}
_EVENT_PERIOD_S = 0.02  # for what is due once in a while: gripper changes, goals that got lost
_REPEAT_AFTER_S = 10.0


class Outputs:
    """Commands and plans on their way out, set up on any node.

    Attributes:
        counters: how often a command could not be carried out as it was, by the name of the
            fault.
    """

    def __init__(
        self,
        node: Node,
        settings: Settings,
        links: ArmLinks | None = None,
        clock: Callable[[], int] | None = None,
    ) -> None:
        """Advertises; `settings` says how arm and gripper are commanded.

        Args:
            node: the node.
            settings: parameters of the node.
            links: to the rest of the node.
            clock: current time, ns; the node's clock if None.

        Raises:
            InputError: an interface needs a package that is not installed.
        """
        self._node = node
        self._settings = settings
        self._links = links or ArmLinks()
        self._clock = clock or (lambda: node.get_clock().now().nanoseconds)
        self._frame = settings['control.base_frame']
        self._arm_joints = tuple(settings['control.joints'])
        self._lock = threading.RLock()
        self._said: dict[str, float] = {}
        self._closed = False
        self._publishers: list[Publisher] = []
        self._hearers: list[tuple[str, Callable[[], bool]]] = []
        self.counters: Counter[str] = Counter()
        # First, because these may be missing; nothing is advertised then.
        arm_action = _action('command.interface', settings, _ARM_ACTIONS)
        gripper_action = _action('gripper.interface', settings, _GRIPPER_ACTIONS)
        self._schedule = GripperSchedule(settings['gripper.min_dwell'])
        self._gripper = self._gripper_output(gripper_action)
        self._arm = self._arm_output(arm_action)
        self._chunk = self._advertise(ActionChunkMsg, '~/action_chunk')
        self._streams = settings['command.interface'] in _STREAMS
        period = 1.0 / settings['command.rate'] if self._streams else _EVENT_PERIOD_S
        self._ticker = Ticker(period, self._tick, self._tick_failed)

    def _arm_output(self, action: type | None) -> ArmOutput:
        settings, links, fault = self._settings, self._links, self._fault
        interface = settings['command.interface']
        name = settings['command.topic'] or _TOPICS[interface]
        if interface == 'follow_joint_trajectory':
            goals = GoalOutput(
                self._node, action, name, self._frame, links, fault, lambda: self._settings
            )
            self._hearers.append((name, goals.ready))
            return goals
        publisher = self._advertise_command(_MESSAGES[interface], name)
        if interface == 'forward_position':
            return PositionOutput(publisher, links, fault)
        if interface == 'twist':
            return TwistOutput(publisher, links, fault, settings)
        if interface == 'pose':
            return PoseOutput(publisher, links, fault, settings)
        return TrajectoryOutput(publisher, self._frame)

    def _gripper_output(self, action: type | None) -> GripperOutput | None:
        interface = self._settings['gripper.interface']
        name = self._settings['gripper.topic'] or 'gripper_command'
        if interface == 'trajectory':
            publisher = self._advertise_command(JointTrajectory, name)
            return gripper_output.GripperTrajectory(publisher, self._frame)
        if interface == 'position':
            publisher = self._advertise_command(Float64MultiArray, name)
            target = gripper_output.GripperPosition(publisher)
        elif interface in _GRIPPER_ACTIONS:
            fill = {
                'gripper_command': gripper_output.fill_gripper_command,
                'parallel_gripper_command': gripper_output.fill_parallel_gripper,
            }[interface]
            target = gripper_output.GripperAction(
                self._node,
                action,
                name,
                lambda command, value: fill(command, value, self._settings),
                self._fault,
            )
            self._hearers.append((name, target.ready))
        else:
            return None
        return gripper_output.GripperOnChange(self._schedule, target)

    def _advertise_command(self, kind: type, topic: str) -> Publisher:
        publisher = self._advertise(kind, topic)
        heard = publisher.get_subscription_count
        self._hearers.append((publisher.topic_name, lambda: heard() > 0))
        return publisher

    def _advertise(self, kind: type, topic: str) -> Publisher:
        publisher = self._node.create_publisher(
            kind, topic, qos.newest(), qos_overriding_options=qos.overridable()
        )
        self._publishers.append(publisher)
        return publisher

    @property
    def busy(self) -> bool:
        """Whether the arm is following a plan that a new one must not replace."""
        return self._arm.busy

    def start(self) -> None:
        """Takes commands; what was sent before says nothing about the robot any more."""
        with self._lock:
            self._closed = False
            self.forget()

    def absent(self) -> str:
        """Says in one line which command nobody hears, '' when all are heard."""
        silent = [name for name, heard in self._hearers if not heard()]
        return f'no controller on {", ".join(silent)}' if silent else ''

    def send(self, command: JointCommand) -> None:
        """Sends a command to arm and gripper."""
        with self._lock:
            now_ns = self._clock()
            command = self._with_scheduled_gripper(command, now_ns)
            arm, gripper = self._parts(command)
            self._arm.send(arm, now_ns)
            if gripper is not None:
                self._gripper.send(gripper)
        self._ticker.wake()

    def _with_scheduled_gripper(self, command: JointCommand, now_ns: int) -> JointCommand:
        """The command with what the gripper is really told; it keeps its grip when braking."""
        if len(command.names) == len(self._arm_joints):
            return command
        values = command.positions[:, -1]
        kept = self._schedule.keep(now_ns) if command.brakes else None
        if kept is None:
            times_ns = command.stamp_ns + np.round(command.times * 1e9).astype(np.int64)
            values = self._schedule.plan(times_ns, values, now_ns)
        positions = command.positions.copy()
        positions[:, -1] = values if kept is None else kept
        return replace(command, positions=positions)

    def _parts(self, command: JointCommand) -> tuple[JointCommand, JointCommand | None]:
        """What the arm gets, and what the gripper gets if it does not ride along."""
        if self._gripper is None:
            return command, None
        return columns(command, self._arm_joints), columns(command, command.names[-1:])

    def publish_chunk(self, chunk: ActionChunk) -> None:
        """Publishes a plan on `~/action_chunk`."""
        self._chunk.publish(action_chunk(chunk, self._frame))

    def settings_changed(self, settings: Settings) -> None:
        """Takes over the parameters that may change while the arm moves."""
        with self._lock:
            self._settings = settings
            self._schedule.min_dwell = settings['gripper.min_dwell']
            if isinstance(self._arm, TwistOutput):
                self._arm.max_linear = settings['command.max_linear_velocity']
                self._arm.max_angular = settings['command.max_angular_velocity']

    def forget(self) -> None:
        """Ends streams and goals without a motion; the robot may be anywhere after this."""
        with self._lock:
            self._arm.forget()
            self._schedule.clear()
            if self._gripper is not None:
                self._gripper.forget()
        self._ticker.wake()

    def stop(self) -> None:
        """Waits until the last command is carried out where that is done here; then silence."""
        with self._lock:
            now_ns = self._clock()
            self._closed = True
            self._schedule.keep(now_ns)
            lasts = self._arm.close(now_ns)
        self._ticker.wake()
        # A simulated clock may be slow; one that stands still would never get there.
        if not self._ticker.rests(4.0 * lasts + 0.5):
            with self._lock:
                self._arm.forget()
            self._ticker.rests(0.5)

    def destroy(self) -> None:
        """Withdraws everything once the last command has arrived."""
        self._ticker.stop()
        for publisher in self._publishers:
            with contextlib.suppress(rclpy_implementation.RCLError):  # not every middleware can
                publisher.wait_for_all_acked(Duration(seconds=0.5))
            self._node.destroy_publisher(publisher)
        self._arm.destroy()
        if self._gripper is not None:
            self._gripper.destroy()

    def diagnostics(self) -> dict[str, object]:
        """Returns counters and, of a stream, how punctual it is; by name for `/diagnostics`."""
        values: dict[str, object] = dict(self.counters)
        if self._streams:
            middle, high = self._ticker.late.quantiles(0.5, 0.99)
            values['command stream late p50 [ms]'] = f'{1e3 * middle:.2f}'
            values['command stream late p99 [ms]'] = f'{1e3 * high:.2f}'
            values['command stream samples missed'] = self._ticker.missed
        return values

    def _tick(self) -> bool:
        with self._lock:
            now_ns = self._clock()
            more = self._arm.tick(now_ns)
            if self._gripper is not None and self._gripper.tick(now_ns):
                more = more or not self._closed
        return more

    def _tick_failed(self, error: Exception) -> None:
        text = ' '.join(str(error).split())[:200]
        self._fault('output_failed', f'the command could not be sent: {text}')

    def _fault(self, kind: str, line: str) -> None:
        """Counts a fault; says it in one line, the same kind once in a while."""
        self.counters[kind] += 1
        now = time.monotonic()
        if line and now - self._said.get(kind, -1e9) > _REPEAT_AFTER_S:
            self._said[kind] = now
            self._links.report(line)


def _action(parameter: str, settings: Settings, types: dict[str, str]) -> type | None:
    """The action type that an interface needs; None for one that needs none."""
    value = settings[parameter]
    return control_action(types[value], parameter, value) if value in types else None
