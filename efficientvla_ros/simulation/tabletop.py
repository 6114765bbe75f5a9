"""The simulated table top: physics, camera and the arm's actuators behind one small class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from efficientvla_ros.simulation.arm import FINGER_OPEN, JOINT_NAMES
from efficientvla_ros.simulation.backend import mujoco
from efficientvla_ros.simulation.cabinet import HANDLE_HALF_WIDTH
from efficientvla_ros.simulation.camera import (
    CameraOffset,
    camera_matrix,
    camera_pose,
    project,
)
from efficientvla_ros.simulation.disturbance import MovedThings
from efficientvla_ros.simulation.moves import grasp_height
from efficientvla_ros.simulation.objects import DRAWER, KEYPOINTS, OBJECT_MODELS, PLATE
from efficientvla_ros.simulation.scene import BARE, TIMESTEP, optical_to_mujoco
from efficientvla_ros.simulation.table_state import TableState
from efficientvla_ros.simulation.tasks import Episode
from efficientvla_ros.simulation.world import World
from efficientvla_ros.types import InputError

MAX_IMAGE_SIDE = 4096


class TabletopSim:
    """Owns MuJoCo's models, data and renderers: one set for each scene that was asked for.

    Everything must be called from one thread: the OpenGL context belongs to the thread that
    rendered first. Call `close()` at the end.
    """

    timestep = TIMESTEP

    def __init__(self, camera_width: int = 224, camera_height: int = 224) -> None:
        """Builds the scene of `pick`; others are built when an episode needs them.

        Raises:
            InputError: an image side is not within 16 .. `MAX_IMAGE_SIDE` pixels.
        """
        for name, side in (('camera_width', camera_width), ('camera_height', camera_height)):
            if not 16 <= side <= MAX_IMAGE_SIDE:
                raise InputError(f'{name} is {side}, expected 16 .. {MAX_IMAGE_SIDE} pixels')
        self.width, self.height = int(camera_width), int(camera_height)
        self._worlds: dict[str, World] = {}
        self._pose = camera_pose()
        self._enter(BARE)
        self._episode: Episode | None = None
        self._moved: MovedThings | None = None

    def _enter(self, scene: str) -> None:
        if scene not in self._worlds:
            self._worlds[scene] = World(scene, self.width, self.height)
        self._world = self._worlds[scene]
        self._stale = True

    @property
    def model(self) -> mujoco.MjModel:
        """MuJoCo's model of the current scene."""
        return self._world.model

    @property
    def data(self) -> mujoco.MjData:
        """MuJoCo's data of the current scene."""
        return self._world.data

    def reset(self, episode: Episode) -> None:
        """Puts arm, objects and camera where the episode starts; time becomes 0."""
        self._enter(episode.scene)
        world, self._episode = self._world, episode
        mujoco.mj_resetData(self.model, self.data)
        start = np.asarray(episode.start_positions, dtype=np.float64)
        self._set_arm(start)
        world.place_objects(dict(episode.object_positions), dict(episode.object_yaws))
        world.place_cabinet(episode.cabinet)
        if episode.held:
            self._put_between_fingers(episode.held, start)
        self._moved = MovedThings(world, episode.motions) if episode.motions else None
        self.set_camera(episode.camera)
        world.set_look(episode.look)
        world.set_lighting(episode.look.light)
        self.set_targets(start)
        mujoco.mj_forward(self.model, self.data)
        self._stale = True

    def _set_arm(self, positions: np.ndarray) -> None:
        self.data.qpos[self._world.positions_at] = positions
        self.data.qpos[self._world.mirror_at] = positions[-1]

    def _put_between_fingers(self, name: str, start: np.ndarray) -> None:
        world = self._world
        width = HANDLE_HALF_WIDTH if name == DRAWER else OBJECT_MODELS[name].radius
        # The fingers touch the object; that their target is further in holds it.
        self._set_arm(np.array([*start[:-1], max(start[-1], width)]))
        if name == DRAWER:
            return
        model = OBJECT_MODELS[name]
        mujoco.mj_kinematics(self.model, self.data)
        rest = np.array([0.0, 0.0, model.rest_height])
        below = grasp_height(rest) - model.rest_height
        address = world.free_at[name]
        place = self.data.site_xpos[world.tcp] - (0.0, 0.0, below)
        self.data.qpos[address : address + 7] = (*place, 1.0, 0.0, 0.0, 0.0)

    def set_targets(self, positions: Sequence[float]) -> None:
        """Sets the actuators' joint targets [7] (`JOINT_NAMES`), rad and m."""
        self.data.ctrl[self._world.actuators] = positions

    def step(self, count: int = 1) -> None:
        """Advances physics by `count` steps of `timestep` seconds."""
        self._stale = True
        if self._moved is None:
            mujoco.mj_step(self.model, self.data, count)
            return
        for _ in range(count):
            self._moved.update(self.data.time)
            mujoco.mj_step(self.model, self.data)

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
        return self.data.qpos[self._world.positions_at].copy()

    def joint_velocities(self) -> np.ndarray:
        """Returns measured joint velocities float64 [7], rad/s and m/s."""
        return self.data.qvel[self._world.velocities_at].copy()

    def tcp_pose(self) -> np.ndarray:
        """Returns the tool pose float64 [4, 4] in the base frame."""
        self._refresh()
        pose = np.eye(4)
        pose[:3, :3] = self.data.site_xmat[self._world.tcp].reshape(3, 3)
        pose[:3, 3] = self.data.site_xpos[self._world.tcp]
        return pose

    def arm_touches(self) -> bool:
        """Whether the arm, or what it holds at the start, touches anything else."""
        self._refresh()
        model = self.model
        own = {int(model.body_rootid[model.joint(JOINT_NAMES[0]).bodyid[0]])}
        held = '' if self._episode is None else self._episode.held
        if held:
            own.add(self._world.cabinet if held == DRAWER else self._world.bodies[held])
        for contact in self.data.contact[: self.data.ncon]:
            roots = model.body_rootid[model.geom_bodyid[contact.geom]]
            if sum(int(root) in own for root in roots) == 1:
                return True
        return False

    def object_positions(self) -> dict[str, np.ndarray]:
        """Returns object name -> centre float64 [3] in the base frame, m; parked ones too."""
        self._refresh()
        return {name: self.data.xpos[body].copy() for name, body in self._world.bodies.items()}

    def table_state(self) -> TableState:
        """Returns the ground truth about the running episode's table."""
        positions, episode, world = self.object_positions(), self._episode, self._world
        names = episode.objects
        cabinet = episode.cabinet
        if cabinet is not None:
            cabinet = cabinet.at(float(self.data.qpos[world.drawer_at]))
        return TableState(
            tcp=self.tcp_pose()[:3, 3],
            opening=min(float(self.joint_positions()[-1]), FINGER_OPEN),
            objects={name: positions[name] for name in names},
            plate=positions[PLATE] if PLATE in episode.object_positions else None,
            cabinet=cabinet,
            tilts={
                name: world.tilt(name)
                for name in names
                if OBJECT_MODELS[name].height  # a sphere cannot topple
            },
            drawer_shift=self._moved.drawer_shift if self._moved else 0.0,
        )

    def keypoints(self, state: TableState) -> np.ndarray:
        """Returns where the picture shows each of `objects.KEYPOINTS`, float64 [K, 2].

        x and y are fractions of width and height; NaN for what is absent.
        """
        points = np.full((len(KEYPOINTS), 3), np.nan)
        for index, name in enumerate(KEYPOINTS):
            if name in state.objects:
                points[index] = state.objects[name]
        if state.plate is not None:
            points[KEYPOINTS.index(PLATE)] = state.plate
        if state.cabinet is not None:
            points[-1] = state.cabinet.handle
        return self.project(points) / (self.width, self.height)

    def set_camera(self, offset: CameraOffset) -> None:
        """Displaces the camera from its nominal pose (not from where it is now)."""
        self._pose = camera_pose(offset)
        quaternion = np.empty(4)
        mujoco.mju_mat2Quat(quaternion, optical_to_mujoco(self._pose[:3, :3]).ravel())
        self.model.cam_pos[self._world.camera] = self._pose[:3, 3]
        self.model.cam_quat[self._world.camera] = quaternion
        self._stale = True

    def set_lighting(self, intensity: float) -> None:
        """Scales all lights; 1 is nominal."""
        self._world.set_lighting(intensity)

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
        renderer = self._world.renderer
        self._refresh()
        renderer.update_scene(self.data, camera=self._world.camera)
        return renderer.render()

    def close(self) -> None:
        """Frees the OpenGL contexts; a second call does nothing."""
        for world in self._worlds.values():
            world.close()

    def __enter__(self) -> TabletopSim:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
