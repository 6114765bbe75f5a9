"""The simulated table top: physics, camera and the arm's actuators behind one small class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from efficientvla_ros.simulation.arm import JOINT_NAMES, MIRROR_JOINT, TCP_FRAME
from efficientvla_ros.simulation.backend import RenderingError, mujoco
from efficientvla_ros.simulation.camera import (
    CAMERA_NAME,
    CameraOffset,
    camera_matrix,
    camera_pose,
    project,
)
from efficientvla_ros.simulation.scene import (
    OBJECT_MODELS,
    PARKING,
    TIMESTEP,
    body_name,
    optical_to_mujoco,
    scene_mjcf,
)
from efficientvla_ros.simulation.tasks import Episode
from efficientvla_ros.types import InputError

MAX_IMAGE_SIDE = 4096


class TabletopSim:
    """Owns MuJoCo's model, data and renderer.

    Everything must be called from one thread: the OpenGL context belongs to the thread that
    rendered first. Call `close()` at the end.
    """

    timestep = TIMESTEP

    def __init__(self, camera_width: int = 224, camera_height: int = 224) -> None:
        """Builds the scene.

        Raises:
            InputError: an image side is not within 16 .. `MAX_IMAGE_SIDE` pixels.
        """
        for name, side in (('camera_width', camera_width), ('camera_height', camera_height)):
            if not 16 <= side <= MAX_IMAGE_SIDE:
                raise InputError(f'{name} is {side}, expected 16 .. {MAX_IMAGE_SIDE} pixels')
        self.width, self.height = int(camera_width), int(camera_height)
        self.model = mujoco.MjModel.from_xml_string(scene_mjcf(self.width, self.height))
        self.data = mujoco.MjData(self.model)
        joints = [self.model.joint(name) for name in JOINT_NAMES]
        self._positions_at = np.array([joint.qposadr[0] for joint in joints])
        self._velocities_at = np.array([joint.dofadr[0] for joint in joints])
        self._mirror_at = int(self.model.joint(MIRROR_JOINT).qposadr[0])
        self._actuators = np.array([self.model.actuator(name).id for name in JOINT_NAMES])
        self._tcp = self.model.site(TCP_FRAME).id
        self._bodies = {name: self.model.body(body_name(name)).id for name in OBJECT_MODELS}
        self._camera = self.model.camera(CAMERA_NAME).id
        self._light = np.array(self.model.light_diffuse), np.array(self.model.light_ambient)
        self._headlight = np.array(self.model.vis.headlight.ambient)
        self._pose = camera_pose()
        self._renderer: mujoco.Renderer | None = None
        self._stale = True

    def reset(self, episode: Episode) -> None:
        """Puts arm, objects and camera where the episode starts; time becomes 0."""
        mujoco.mj_resetData(self.model, self.data)
        start = np.asarray(episode.start_positions, dtype=np.float64)
        self.data.qpos[self._positions_at] = start
        self.data.qpos[self._mirror_at] = start[-1]
        for index, (name, model) in enumerate(OBJECT_MODELS.items()):
            x, y = episode.object_positions.get(name, (PARKING[0], PARKING[1] + 0.3 * index))
            yaw = episode.object_yaws.get(name, 0.0)
            address = self.model.joint(body_name(name)).qposadr[0]
            self.data.qpos[address : address + 7] = (
                x,
                y,
                model.rest_height,
                np.cos(yaw / 2),
                0.0,
                0.0,
                np.sin(yaw / 2),
            )
        self.set_camera(episode.camera)
        self.set_lighting(1.0)
        self.set_targets(start)
        mujoco.mj_forward(self.model, self.data)
        self._stale = True

    def set_targets(self, positions: Sequence[float]) -> None:
        """Sets the actuators' joint targets [7] (`JOINT_NAMES`), rad and m."""
        self.data.ctrl[self._actuators] = positions

    def step(self, count: int = 1) -> None:
        """Advances physics by `count` steps of `timestep` seconds."""
        mujoco.mj_step(self.model, self.data, count)
        self._stale = True

    def _refresh(self) -> None:
        # Poses lag one step behind the joint positions after mj_step.
        if self._stale:
            mujoco.mj_kinematics(self.model, self.data)
            mujoco.mj_comPos(self.model, self.data)
            mujoco.mj_camlight(self.model, self.data)
            self._stale = False

    @property
    def time(self) -> float:
        """Simulated time since the reset, s."""
        return float(self.data.time)

    def joint_positions(self) -> np.ndarray:
        """Returns measured joint positions float64 [7], rad and m."""
        return self.data.qpos[self._positions_at].copy()

    def joint_velocities(self) -> np.ndarray:
        """Returns measured joint velocities float64 [7], rad/s and m/s."""
        return self.data.qvel[self._velocities_at].copy()

    def tcp_pose(self) -> np.ndarray:
        """Returns the tool pose float64 [4, 4] in the base frame."""
        self._refresh()
        pose = np.eye(4)
        pose[:3, :3] = self.data.site_xmat[self._tcp].reshape(3, 3)
        pose[:3, 3] = self.data.site_xpos[self._tcp]
        return pose

    def arm_touches(self) -> bool:
        """Whether any part of the arm touches the table or an object."""
        self._refresh()
        arm = self.model.body_rootid[self.model.joint(JOINT_NAMES[0]).bodyid[0]]
        for contact in self.data.contact[: self.data.ncon]:
            roots = self.model.body_rootid[self.model.geom_bodyid[contact.geom]]
            if (roots == arm).sum() == 1:
                return True
        return False

    def object_positions(self) -> dict[str, np.ndarray]:
        """Returns object name -> centre float64 [3] in the base frame, m; parked ones too."""
        self._refresh()
        return {name: self.data.xpos[body].copy() for name, body in self._bodies.items()}

    def set_camera(self, offset: CameraOffset) -> None:
        """Displaces the camera from its nominal pose (not from where it is now)."""
        self._pose = camera_pose(offset)
        quaternion = np.empty(4)
        mujoco.mju_mat2Quat(quaternion, optical_to_mujoco(self._pose[:3, :3]).ravel())
        self.model.cam_pos[self._camera] = self._pose[:3, 3]
        self.model.cam_quat[self._camera] = quaternion
        self._stale = True

    def set_lighting(self, intensity: float) -> None:
        """Scales all lights; 1 is nominal."""
        self.model.light_diffuse[:] = self._light[0] * intensity
        self.model.light_ambient[:] = self._light[1] * intensity
        self.model.vis.headlight.ambient[:] = self._headlight * intensity

    def camera_pose(self) -> np.ndarray:
        """Returns the pose [4, 4] of the camera's optical frame in the base frame."""
        return self._pose.copy()

    def camera_matrix(self) -> np.ndarray:
        """Returns the camera's intrinsic matrix [3, 3], pixels."""
        return camera_matrix(self.width, self.height)

    def project(self, points: np.ndarray) -> np.ndarray:
        """Projects points [..., 3] in the base frame to pixels [..., 2] of the camera image."""
        return project(points, self._pose, self.camera_matrix())

    def render(self) -> np.ndarray:
        """Returns the camera image uint8 [height, width, 3], RGB.

        Raises:
            RenderingError: no off-screen OpenGL context could be made.
        """
        if self._renderer is None:
            self._renderer = self._make_renderer()
        self._refresh()
        self._renderer.update_scene(self.data, camera=self._camera)
        return self._renderer.render()

    def _make_renderer(self) -> mujoco.Renderer:
        try:
            renderer = mujoco.Renderer(self.model, self.height, self.width)
        except Exception as error:  # each OpenGL back end raises its own kind
            raise RenderingError(str(error).splitlines()[0]) from error
        renderer.scene.flags[int(mujoco.mjtRndFlag.mjRND_SHADOW)] = 0
        renderer.scene.flags[int(mujoco.mjtRndFlag.mjRND_REFLECTION)] = 0
        return renderer

    def close(self) -> None:
        """Frees the OpenGL context; a second call does nothing."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    def __enter__(self) -> TabletopSim:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
