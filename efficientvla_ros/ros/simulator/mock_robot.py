"""A robot without physics: a camera that shows stored pictures, an arm that does what it is told.

For measurements of the node alone, and for trying out a parameter file without a robot. It costs
next to nothing, unlike the simulator. Of the stored pictures it shows the one in which the arm is
most nearly where it is now, so that plans lead it to and fro above the objects for hours.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import String
from trajectory_msgs.msg import JointTrajectory

from efficientvla_ros.ros import qos
from efficientvla_ros.ros.conversions import image_message, stamp_from_ns
from efficientvla_ros.ros.message_fields import stamp_to_ns
from efficientvla_ros.ros.parameters.mock_robot import TABLE
from efficientvla_ros.ros.parameters.store import ParameterStore
from efficientvla_ros.ros.simulator.simulation_messages import (
    joint_state_message,
    trajectory_arrays,
)
from efficientvla_ros.simulation.arm import (
    ARM_JOINTS,
    HOME_POSITIONS,
    JOINT_NAMES,
    TCP_FRAME,
    arm_urdf,
)
from efficientvla_ros.simulation.trajectory_controller import JointTrajectoryController

SCENE_SEED = 1_000_000
PLACES = (0.2, 0.26, 0.32, 0.38), (-0.13, -0.045, 0.045, 0.13), (0.05, 0.12, 0.2)
"""Places of the tool in the pictures, m in the base frame: each x with each y and z."""


class MockRobot(Node):
    """Camera, joint states and trajectory controller of the simulated arm, without a simulation.

    Attributes:
        brief: as `process.ClosableNode`.
        images_published: so far.
        rejected: trajectories that the controller refused.
    """

    def __init__(self) -> None:
        """Renders the pictures, then starts publishing.

        Raises:
            InputError: a parameter cannot be used, or nothing can be rendered here.
        """
        super().__init__('mock_robot_node')
        settings = ParameterStore(self, TABLE).settings
        size = settings['camera.height'], settings['camera.width']
        self._arm_in_pictures, images = stored_pictures(*size)
        self.brief = True
        self.images_published = self.rejected = 0
        self._messages = [image_message(image, 0, 'camera') for image in images]
        self._controller = JointTrajectoryController(JOINT_NAMES)
        self._controller.reset(np.array(HOME_POSITIONS), self._now())
        self._image = self.create_publisher(Image, 'camera/image_raw', qos.newest())
        self._joints = self.create_publisher(JointState, 'joint_states', qos.queued())
        self._latched = []
        for topic, text in (
            ('robot_description', arm_urdf()),
            ('instruction', settings['instruction']),
        ):
            self._latched.append(self.create_publisher(String, topic, qos.latched()))
            self._latched[-1].publish(String(data=text))
        self.create_subscription(
            JointTrajectory, 'joint_trajectory', self._on_trajectory, qos.newest()
        )
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(1.0 / settings['camera.rate'], self._publish_image, clock=steady)
        self.create_timer(1.0 / settings['joints.rate'], self._publish_joints, clock=steady)
        self.get_logger().info('ready')

    def close(self) -> bool:
        """Nothing has to be brought to rest."""
        return True

    def _now(self) -> int:
        return self.get_clock().now().nanoseconds

    def _publish_image(self) -> None:
        now = self._now()
        arm = self._controller.sample(now)[0][: self._arm_in_pictures.shape[1]]
        message = self._messages[np.abs(self._arm_in_pictures - arm).sum(axis=1).argmin()]
        message.header.stamp = stamp_from_ns(now)
        self._image.publish(message)
        self.images_published += 1

    def _publish_joints(self) -> None:
        now = self._now()
        positions, velocities = self._controller.sample(now)
        self._joints.publish(
            joint_state_message(JOINT_NAMES, positions, velocities, now, 'base_link')
        )

    def _on_trajectory(self, message: JointTrajectory) -> None:
        times, positions, velocities = trajectory_arrays(message)
        stamp = stamp_to_ns(message.header.stamp)
        accepted, reason = self._controller.accept(
            message.joint_names, stamp, times, positions, velocities, self._now()
        )
        if not accepted:
            self.rejected += 1
            self.get_logger().warning(f'joint_trajectory rejected: {reason}')


def stored_pictures(height: int, width: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """Pictures of one scene with the arm above and among the objects.

    Returns:
        Arm joints [pictures, joints] in rad, and the pictures, uint8 [height, width, 3] each.
    """
    from efficientvla_ros.control.kinematics import ArmKinematics
    from efficientvla_ros.simulation.environment import TabletopEnvironment
    from efficientvla_ros.simulation.tasks import sample_episode

    kinematics = ArmKinematics(arm_urdf(), ARM_JOINTS, TCP_FRAME)
    home, arm, pictures = np.array(HOME_POSITIONS[:-1]), [], []
    pose = kinematics.fk(home)
    with TabletopEnvironment(width, height, 'pick') as environment:
        episode = sample_episode('pick', SCENE_SEED)
        for place in product(*PLACES):
            pose[:3, 3] = place
            solution = kinematics.ik(pose, home)
            positions = (*solution.q.tolist(), HOME_POSITIONS[-1])
            observation = environment.reset(replace(episode, start_positions=positions))
            if solution.converged and not environment.sim.arm_touches():
                arm.append(solution.q)
                pictures.extend(map(np.ascontiguousarray, observation.images.values()))
    return np.array(arm), pictures
