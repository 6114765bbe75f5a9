"""The simulated arm on its table top as a ROS node: camera, joints, controller, episodes.

One thread owns physics, renderer and all callbacks: it runs a slot of simulation when one is due
and handles messages while it waits for the next one.
"""

from __future__ import annotations

import time

from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import String
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from efficientvla_ros.msg import EpisodeResult
from efficientvla_ros.ros import qos
from efficientvla_ros.ros.conversions import image_message, stamp_from_ns
from efficientvla_ros.ros.message_fields import stamp_to_ns
from efficientvla_ros.ros.parameters.store import ParameterStore
from efficientvla_ros.ros.parameters.tabletop_sim import TABLE
from efficientvla_ros.ros.simulator.live_tabletop import SLOT_NS, EpisodeEnd, LiveTabletop
from efficientvla_ros.ros.simulator.pacer import Pacer
from efficientvla_ros.ros.simulator.simulation_messages import (
    camera_info_message,
    episode_result_message,
    joint_state_message,
    trajectory_arrays,
)
from efficientvla_ros.simulation.arm import JOINT_NAMES, arm_urdf
from efficientvla_ros.simulation.tabletop import TabletopSim

MAX_BACKLOG = 0.25
"""Real time that is caught up after a delay, s; what exceeds it is given up."""

_CLOCK_TOLERANCE_NS = 500_000_000
_SIMULATED_START_NS = 1_000_000_000  # a stamp of 0 would mean "now"
_WARN_EVERY = 2.0
_NS = 1_000_000_000


class TabletopSimNode(Node):
    """Publishes what the simulated robot senses, takes trajectories and instructions."""

    def __init__(self) -> None:
        """Builds the simulation and shows the first episode's scene.

        Raises:
            InputError: a parameter cannot be used, or nothing can be rendered here.
        """
        super().__init__('tabletop_sim_node')
        self._store = ParameterStore(self, TABLE)
        for line in self._store.unknown:
            self.get_logger().warning(line)
        settings = self._store.settings
        self._base_frame = settings['frames.base']
        self._camera_frame = settings['frames.camera']
        self._factor = settings['real_time_factor']
        self._simulated_clock = settings['publish_clock'] or self._factor != 1.0
        self._trajectory: JointTrajectory | None = None
        self._instructions: list[str] = []
        self._sim = TabletopSim(settings['camera.width'], settings['camera.height'])
        start_ns = _SIMULATED_START_NS if self._simulated_clock else time.time_ns()
        self._world = LiveTabletop(
            self._sim,
            settings['task'],
            settings['seed'],
            start_ns,
            settings['setting'],
            settings['repeat'],
        )
        self._start_at_ns = start_ns if settings['auto_start'] else None
        self._next_image_ns = start_ns
        self._images_skipped = 0
        self._sim.render()  # makes the OpenGL context now: a fault shows at start
        self._advertise()
        self._subscribe()
        self._description.publish(String(data=arm_urdf()))
        self.get_logger().info(
            f'ready: task {settings["task"]}, camera {self._sim.width} x {self._sim.height} at '
            f'{settings["camera.rate"]:g} Hz'
        )

    def _advertise(self) -> None:
        def publisher(kind, topic, profile):
            return self.create_publisher(
                kind, topic, profile, qos_overriding_options=qos.overridable()
            )

        self._image = publisher(Image, 'camera/image_raw', qos.newest())
        self._camera_info = publisher(CameraInfo, 'camera/camera_info', qos.newest())
        self._joint_state = publisher(JointState, 'joint_states', qos.queued())
        self._description = publisher(String, 'robot_description', qos.latched())
        self._instruction = publisher(String, 'instruction', qos.latched())
        self._result = publisher(EpisodeResult, 'episode_result', qos.queued())
        self._clock_topic = None
        if self._simulated_clock:
            self._clock_topic = publisher(Clock, '/clock', qos.newest())

    def _subscribe(self) -> None:
        self.create_subscription(
            JointTrajectory, 'joint_trajectory', self._keep_trajectory, qos.newest()
        )
        # Volatile: hears latched and plain publishers alike, but nothing from an earlier life.
        self.create_subscription(
            String, 'instruction', lambda m: self._instructions.append(m.data), qos.queued()
        )
        self.create_service(Trigger, '~/reset', self._on_reset)

    def _keep_trajectory(self, message: JointTrajectory) -> None:
        self._trajectory = message

    def _on_reset(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success = self._start_episode()
        if response.success:
            response.message = self._world.describe()
        else:
            response.message = f'all {self._world.index + 1} episodes are over'
        return response

    def run(self, executor: SingleThreadedExecutor, running) -> None:
        """Simulates in real time while `running()` says so."""
        if not self._simulated_clock:
            self._world.jump_to(time.time_ns())  # what the start took
        pacer = Pacer(SLOT_NS / _NS / self._factor, MAX_BACKLOG)
        while running():
            executor.spin_once(timeout_sec=max(0.0, pacer.remaining()))
            if pacer.remaining() > 0.0:
                continue
            self._slot(late=-pacer.remaining())
            self._keep_pace(pacer)

    def _keep_pace(self, pacer: Pacer) -> None:
        lost = pacer.advance()
        if lost and pacer.overruns == 1:
            self.get_logger().warning(
                f'the simulation cannot keep up: {lost:.2f} s of real time were given up, the arm '
                'stopped where it was (said once)'
            )
        if self._simulated_clock:
            return  # simulated time then simply runs slower
        behind = time.time_ns() - self._world.time_ns
        if lost or abs(behind) > _CLOCK_TOLERANCE_NS:  # a stall, or the system clock was set
            self._world.jump_to(time.time_ns())
            self._next_image_ns = self._world.time_ns

    def _slot(self, late: float) -> None:
        self._take_messages()
        end = self._world.advance()
        now_ns = self._world.time_ns
        if end is not None:
            self._finish(end)
        elif self._start_at_ns is not None and now_ns >= self._start_at_ns:
            self._start_episode()
        if self._clock_topic is not None:
            self._clock_topic.publish(Clock(clock=stamp_from_ns(now_ns)))
        self._publish_joints(now_ns)
        if now_ns >= self._next_image_ns:
            self._publish_image(now_ns, late)

    def _take_messages(self) -> None:
        instructions, self._instructions = self._instructions, []
        for text in instructions:
            before = self._world.instruction
            refusal = self._world.instruct(text)
            if refusal:
                self.get_logger().warning(refusal, throttle_duration_sec=_WARN_EVERY)
            elif self._world.instruction != before:
                self.get_logger().info(f'instruction changed to {text!r}')
                # Whoever joins late is to hear the one in force.
                self._instruction.publish(String(data=text))
        message, self._trajectory = self._trajectory, None
        if message is not None:
            self._command(message)

    def _command(self, message: JointTrajectory) -> None:
        stamp_ns = stamp_to_ns(message.header.stamp)
        if self._world.precedes_episode(stamp_ns):
            return  # planned from the scene before this one: normal right after a reset
        try:
            times, positions, velocities = trajectory_arrays(message)
            accepted, reason = self._world.command(
                message.joint_names, stamp_ns, times, positions, velocities
            )
        except (ValueError, OverflowError) as error:
            accepted, reason = False, str(error)
        if not accepted:
            self.get_logger().warning(
                f'joint_trajectory rejected: {reason}', throttle_duration_sec=_WARN_EVERY
            )

    def _start_episode(self) -> bool:
        limit = self._store.settings['episodes']
        self._start_at_ns = None
        if limit and self._world.index + 1 >= limit:
            return False
        cut_short = self._world.start_episode()
        self._instructions.clear()  # they were meant for the episode before
        if cut_short is not None:
            self._report(cut_short)
        self._instruction.publish(String(data=self._world.instruction))
        self.get_logger().info(self._world.describe())
        return True

    def _finish(self, end: EpisodeEnd) -> None:
        self._report(end)
        settings = self._store.settings
        if settings['auto_reset']:
            self._start_at_ns = self._world.time_ns + round(settings['pause'] * _NS)

    def _report(self, end: EpisodeEnd) -> None:
        self._result.publish(episode_result_message(end, self._world.time_ns, self._base_frame))
        self.get_logger().info(
            f'episode {end.index} ({end.instruction!r}): {end.outcome} after {end.duration:.1f} s'
        )

    def _publish_joints(self, now_ns: int) -> None:
        self._joint_state.publish(
            joint_state_message(
                JOINT_NAMES,
                self._sim.joint_positions(),
                self._sim.joint_velocities(),
                now_ns,
                self._base_frame,
            )
        )

    def _publish_image(self, now_ns: int, late: float) -> None:
        period_ns = round(_NS / self._store.settings['camera.rate'])
        self._next_image_ns = max(self._next_image_ns + period_ns, now_ns - period_ns)
        if late > period_ns / _NS / self._factor:
            self._images_skipped += 1  # catching up: an old picture helps nobody
            return
        self._image.publish(image_message(self._sim.render(), now_ns, self._camera_frame))
        self._camera_info.publish(
            camera_info_message(
                self._sim.camera_matrix(),
                self._sim.width,
                self._sim.height,
                now_ns,
                self._camera_frame,
            )
        )

    def close(self) -> None:
        """Frees the renderer and leaves the ROS graph."""
        self._sim.close()
        self.destroy_node()
