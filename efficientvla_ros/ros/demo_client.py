"""What the demo sees and says on ROS topics: a node that a plain program steps by hand."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import rclpy
from rcl_interfaces.msg import SetParametersResult
from rcl_interfaces.srv import SetParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.logging import LoggingSeverity
from rclpy.parameter import Parameter
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Image
from std_msgs.msg import String
from std_srvs.srv import Trigger

from efficientvla_ros.evaluation.demo_summary import StageLatency
from efficientvla_ros.msg import EpisodeResult, PolicyStatus
from efficientvla_ros.ros import qos
from efficientvla_ros.ros.commander import State
from efficientvla_ros.ros.plan_changer import STAYS
from efficientvla_ros.ros.transport import make_room_for_images


@dataclass(frozen=True)
class PolicyView:
    """The policy node's newest status.

    Attributes:
        state: 'unconfigured', 'idle', 'running', 'holding', 'stopped' or 'error'.
        hold_reason: why the arm is held, '' while running.
        last_error: the newest error, '' for none.
        commands: trajectories sent so far.
        stages: stages of one inference in order.
        latency_p50: median of camera stamp to published command, s.
        latency_p95: its 95th percentile, s.
        rate: inferences per second.
        callback_p95: 95th percentile of the duration of callbacks, s.
        callback_max: longest callback, s.
        memory: resident memory, bytes.
        preset: acceleration preset in force.
        plans: inferences finished since activation.
        plan_p50: median duration of one inference since the preset is in force, s; 0 for none.
    """

    state: str
    hold_reason: str
    last_error: str
    commands: int
    stages: tuple[StageLatency, ...]
    latency_p50: float
    latency_p95: float
    rate: float
    callback_p95: float
    callback_max: float
    memory: int
    preset: str
    plans: int
    plan_p50: float

    @property
    def active(self) -> bool:
        """The policy commands the arm as soon as it has what it needs."""
        return self.state in ('running', 'holding')

    @property
    def failed_to_start(self) -> bool:
        """It does not become active by itself any more: `last_error` says why."""
        return self.state == 'error' or bool(self.last_error and not self.active)

    @classmethod
    def from_message(cls, message: PolicyStatus) -> PolicyView:
        """Reads a status message."""
        return cls(
            state=State(message.state).label,
            hold_reason=message.hold_reason,
            last_error=message.last_error,
            commands=message.commands_published,
            stages=tuple(
                StageLatency(*stage)
                for stage in zip(message.stage_names, message.stage_p50, message.stage_p95)
            ),
            latency_p50=message.latency_p50,
            latency_p95=message.latency_p95,
            rate=message.rate,
            callback_p95=message.callback_p95,
            callback_max=message.callback_max,
            memory=message.memory,
            preset=message.preset,
            plans=message.ticks,
            plan_p50=message.inference_p50,
        )


def preset_outcome(wanted: str, result: SetParametersResult, policy: PolicyView) -> str | None:
    """'' once a preset is in force, a line that says why it will not be, None while it is made.

    Args:
        wanted: name of the preset.
        result: what the policy's parameter service answered.
        policy: its newest status.
    """
    if not result.successful:
        return f'the policy refused preset {wanted}: {result.reason}'
    # The new plan is made while inference goes on by the old one: the status says when.
    if policy.preset == wanted:
        return ''
    if policy.last_error.startswith(STAYS):
        return f'the policy cannot use preset {wanted}: {policy.last_error}'
    return None


class DemoClient:
    """Watches simulator and policy; starts episodes, changes instructions and presets.

    Not a thread: nothing arrives except in `spin`.

    Attributes:
        policy: the policy's newest status, None before the first.
        results: ends of episodes that were not taken yet, oldest first.
        instruction: the newest instruction on the topic.
        image_stamp_ns: stamp of the newest image, ns; 0 before the first.
        image_time: when it arrived (monotonic), s.
    """

    def __init__(self, on_image: Callable[[np.ndarray, int], None], domain_id: int) -> None:
        """Joins the ROS graph.

        Args:
            on_image: called for every image with uint8 [height, width, 3] RGB (valid during the
                call) and its stamp in ns.
            domain_id: ROS domain.
        """
        make_room_for_images()
        self._on_image = on_image
        self._context = rclpy.Context()
        rclpy.init(
            context=self._context,
            domain_id=domain_id,
            signal_handler_options=SignalHandlerOptions.NO,
        )
        self._node = rclpy.create_node('efficientvla_demo', context=self._context)
        # Latched and plain publishers share `instruction`; that some of them do not match some
        # subscriptions is meant, and no warning for the terminal.
        self._node.get_logger().set_level(LoggingSeverity.ERROR)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self.policy: PolicyView | None = None
        self.results: deque[EpisodeResult] = deque()
        self.instruction = ''
        self.image_stamp_ns = 0
        self.image_time = time.monotonic()
        subscribe = self._node.create_subscription
        subscribe(Image, 'camera/image_raw', self._on_image_message, qos.newest_image())
        subscribe(PolicyStatus, 'policy_node/status', self._on_status, qos.latched())
        subscribe(EpisodeResult, 'episode_result', self._on_result, qos.queued())
        subscribe(String, 'instruction', self._on_instruction, qos.latched())
        self._say = self._node.create_publisher(String, 'instruction', qos.newest())
        self._reset = self._node.create_client(Trigger, 'tabletop_sim_node/reset')
        self._set = self._node.create_client(SetParameters, 'policy_node/set_parameters')

    def _on_image_message(self, message: Image) -> None:
        self.image_time = time.monotonic()
        self.image_stamp_ns = message.header.stamp.sec * 1_000_000_000
        self.image_stamp_ns += message.header.stamp.nanosec
        image = np.frombuffer(message.data, np.uint8).reshape(message.height, message.width, 3)
        self._on_image(image, self.image_stamp_ns)

    def _on_status(self, message: PolicyStatus) -> None:
        self.policy = PolicyView.from_message(message)

    def _on_result(self, message: EpisodeResult) -> None:
        self.results.append(message)

    def _on_instruction(self, message: String) -> None:
        self.instruction = message.data

    def spin(self, seconds: float) -> None:
        """Handles what arrives within that time."""
        end = time.monotonic() + seconds
        while (remaining := end - time.monotonic()) > 0.0:
            self._executor.spin_once(timeout_sec=remaining)

    @property
    def simulator_present(self) -> bool:
        """The simulator's services were discovered."""
        return self._reset.service_is_ready()

    @property
    def parameters_present(self) -> bool:
        """The service that changes the policy's parameters was discovered."""
        return self._set.service_is_ready()

    def ask_for_episode(self) -> None:
        """Asks the simulator for its next episode; `spin` until `episode_answer` is not None."""
        self.results.clear()
        self._request = self._reset.call_async(Trigger.Request())

    def episode_answer(self) -> str | None:
        """'' once the episode has started, a line that says why not, None while waiting."""
        if not self._request.done():
            return None
        response = self._request.result()
        return '' if response.success else f'the simulator said: {response.message}'

    def ask_for_preset(self, name: str) -> None:
        """Asks the policy, heard before, for a preset; `spin` until `preset_answer` answers."""
        preset = Parameter('acceleration.preset', value=name).to_parameter_msg()
        self._wanted = name
        self._change = self._set.call_async(SetParameters.Request(parameters=[preset]))

    def preset_answer(self) -> str | None:
        """'' once the preset is in force, a line that says why not, None while waiting."""
        if not self._change.done():
            return None
        (result,) = self._change.result().results
        return preset_outcome(self._wanted, result, self.policy)

    def instruct(self, text: str) -> None:
        """Publishes an instruction for simulator and policy."""
        self._say.publish(String(data=text))

    def close(self) -> None:
        """Leaves the ROS graph; closing twice is harmless."""
        if not self._context.ok():
            return
        self._executor.shutdown()
        self._node.destroy_node()
        self._context.shutdown()
