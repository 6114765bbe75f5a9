"""A simulated robot whose camera and joint states go through a peer that can spoil them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace

from rclpy.context import Context
from rclpy.qos import QoSProfile
from ros_harness import POLICY, NodeProcess, Robot
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image, JointState
from sim_harness import SIMULATOR
from trajectory_checker import TrajectoryChecker
from trajectory_msgs.msg import JointTrajectory

from efficientvla_ros.msg import PolicyStatus
from efficientvla_ros.ros.parameters.tabletop_arm import TABLETOP_ARM
from efficientvla_ros.simulation.arm import arm_urdf

SIMULATED = (
    '-r', 'camera/image_raw:=simulated/image_raw', '-r', 'joint_states:=simulated/joint_states',
    '-p', 'camera.width:=224', '-p', 'camera.height:=224', '-p', 'seed:=7', '-p', 'pause:=0.5',
)  # fmt: skip


_OLDEST_STATE = 2.0
"""Age in s of the oldest joint state that a command is made from, on a crowded processor."""


def make_checker() -> TrajectoryChecker:
    return TrajectoryChecker(
        arm_urdf(),
        TABLETOP_ARM['safety.workspace_min'],
        TABLETOP_ARM['safety.workspace_max'],
        TABLETOP_ARM['safety.max_joint_velocity'],
    )


class FaultyRobot(Robot):
    """Passes on what the simulator senses, spoilt as the test wants it.

    Attributes:
        spoil_image: makes of a camera image what the policy hears; None swallows it.
        spoil_joints: likewise for joint states.
        checker: has looked at every trajectory published.
        measured: joint states of the simulator.
    """

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.image = self.joint_positions = None  # those of the simulator are passed on
        self.checker = make_checker()
        self.heal()
        deep = QoSProfile(depth=500)
        self.node.create_subscription(JointTrajectory, 'joint_trajectory', self._check, deep)
        self.measured = self.hear(JointState, 'simulated/joint_states')
        self.node.create_subscription(Image, 'simulated/image_raw', self._on_image, 1)
        self.node.create_subscription(JointState, 'simulated/joint_states', self._on_joints, 10)
        self.newest_image: Image | None = None

    def heal(self) -> None:
        self.spoil_image: Callable[[Image], Image | None] = lambda image: image
        self.spoil_joints: Callable[[JointState], JointState | None] = lambda state: state

    def _on_image(self, image: Image) -> None:
        self.newest_image = image
        spoilt = self.spoil_image(image)
        if spoilt is not None:
            self._image_publisher.publish(spoilt)

    def _check(self, command: JointTrajectory) -> None:
        # The simulated arm lags behind fast joints and gives way to the table: a tool can be
        # outside the workspace although it was told to stay inside. It may stay as far outside as
        # it was when the command was made, which is an inference ago and more.
        states = self.measured.of_the_last(_OLDEST_STATE)
        starts = [dict(zip(state.name, state.position, strict=True)) for state in states]
        self.checker.message(command, starts)

    def _on_joints(self, state: JointState) -> None:
        spoilt = self.spoil_joints(state)
        if spoilt is not None:
            self._joint_publisher.publish(spoilt)

    def flood(self, publish: Callable[[int], None], rate: float, seconds: float) -> int:
        """Publishes at a rate from this thread; returns how often that was possible."""
        begin = time.monotonic()
        count = 0
        while (passed := time.monotonic() - begin) < seconds:
            if count < passed * rate:
                publish(count)
                count += 1
            else:
                time.sleep(0.2 / rate)
        return count

    def wait_until_at_rest(self, velocity: float = 0.02) -> None:
        """Waits until no joint of the simulated arm moves any more."""
        self.measured.wait(
            lambda m: max(abs(v) for v in m.velocity[:6]) < velocity, self.measured.count
        )

    def reasons(self, since: int) -> list[str]:
        """Hold reasons in the status messages after the first `since` ones."""
        return [status.hold_reason for status in self.status.since(since)]

    def wait_for_reason(self, *reasons: str, since: int) -> PolicyStatus:
        """Waits for a status that names one of the reasons."""
        return self.status.wait(lambda s: s.hold_reason in reasons, since)


@contextlib.contextmanager
def robot_under_test(domain: int, context: Context, model: object) -> Iterator[SimpleNamespace]:
    """Simulator, policy node and the peer between them; everything published is checked."""
    simulator = NodeProcess(SIMULATOR, domain, *SIMULATED)
    policy = NodeProcess(POLICY, domain, '-p', f'model.path:={model}', '-p', 'autostart:=true')
    robot = FaultyRobot(context)
    test = SimpleNamespace(simulator=simulator, policy=policy, robot=robot)
    try:
        robot.status.wait(lambda s: s.state == PolicyStatus.RUNNING, timeout=90.0)
        yield test
        assert robot.checker.commands > 0
        assert not robot.checker.faults, robot.checker.faults[:5]
        assert 'Traceback' not in test.policy.output, test.policy.output
    finally:
        robot.close()
        test.policy.end()
        simulator.end()


class SimulatedTime(Robot):
    """A robot that lives by a clock of its own and publishes it.

    Attributes:
        rate: seconds of its clock in a second of ours; 0 stands still.
    """

    def __init__(self, context: Context, namespace: str, start_ns: int) -> None:
        self._ns, self.rate = start_ns, 0.0
        super().__init__(context, namespace)
        for subscription in list(self.node.subscriptions):
            if subscription.topic_name.endswith('/joint_trajectory'):
                self.node.destroy_subscription(subscription)  # no controller yet
        self._clock_publisher = self.node.create_publisher(Clock, '/clock', 10)
        self.node.create_timer(0.01, self._tick)

    def start_controller(self) -> None:
        """Hears commands from now on, and checks them."""
        self.checker = make_checker()
        self.node.create_subscription(
            JointTrajectory, 'joint_trajectory', self.checker.message, QoSProfile(depth=500)
        )

    def now(self):
        seconds, nanoseconds = divmod(self._ns, 1_000_000_000)
        stamp = Clock().clock
        stamp.sec, stamp.nanosec = seconds, nanoseconds
        return stamp

    def jump(self, seconds: float) -> None:
        self._ns += round(seconds * 1e9)

    def _tick(self) -> None:
        if self.rate:
            self._ns += round(0.01 * self.rate * 1e9)
            self._clock_publisher.publish(Clock(clock=self.now()))
