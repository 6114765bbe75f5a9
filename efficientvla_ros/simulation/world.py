"""One scene in MuJoCo: model, data, and where in them everything is."""

from __future__ import annotations

import numpy as np

from efficientvla_ros.simulation.arm import JOINT_NAMES, MIRROR_JOINT, TCP_FRAME
from efficientvla_ros.simulation.backend import RenderingError, mujoco
from efficientvla_ros.simulation.cabinet import CABINET_BODY, DRAWER_JOINT, Cabinet
from efficientvla_ros.simulation.camera import CAMERA_NAME
from efficientvla_ros.simulation.objects import OBJECT_MODELS, PLATE, PLATE_HEIGHT
from efficientvla_ros.simulation.scene import (
    CABINET_PARKING,
    FURNISHED,
    PARKING,
    SCENE_OBJECTS,
    body_name,
    scene_mjcf,
)
from efficientvla_ros.simulation.variation import Look

Place = tuple[float, float]

_HIDDEN_GROUP = 5  # a group of geometries that MuJoCo does not draw


class World:
    """Model and data of a scene with its addresses; MuJoCo's arrays are used in place."""

    def __init__(self, scene: str, width: int, height: int) -> None:
        """Builds a scene of `scene.SCENE_OBJECTS` for images of at most this size."""
        self.furnished = scene == FURNISHED
        self.names = SCENE_OBJECTS[scene]
        self.model = mujoco.MjModel.from_xml_string(scene_mjcf(width, height, scene))
        self.data = mujoco.MjData(self.model)
        self._size = width, height
        model = self.model
        joints = [model.joint(name) for name in JOINT_NAMES]
        self.positions_at = np.array([joint.qposadr[0] for joint in joints])
        self.velocities_at = np.array([joint.dofadr[0] for joint in joints])
        self.mirror_at = int(model.joint(MIRROR_JOINT).qposadr[0])
        self.actuators = np.array([model.actuator(name).id for name in JOINT_NAMES])
        self.tcp = model.site(TCP_FRAME).id
        self.camera = model.camera(CAMERA_NAME).id
        self.bodies = {name: model.body(body_name(name)).id for name in self.names}
        self.free_at = {name: int(model.joint(body_name(name)).qposadr[0]) for name in self.names}
        self.free_velocities_at = {
            name: int(model.joint(body_name(name)).dofadr[0]) for name in self.names
        }
        self._table = model.geom('table').id
        self._mat = self._table + 1  # added right after the table
        self._nominal = {
            name: np.array(getattr(model, name))
            for name in ('light_diffuse', 'light_ambient', 'light_dir', 'geom_rgba',
                         'geom_contype', 'geom_conaffinity', 'geom_group')
        }  # fmt: skip
        self._headlight = np.array(model.vis.headlight.ambient)
        self._renderer: mujoco.Renderer | None = None
        if self.furnished:
            self.cabinet = model.body(CABINET_BODY).id
            drawer = model.joint(DRAWER_JOINT)
            self.drawer_at, self.drawer_velocity_at = int(drawer.qposadr[0]), int(drawer.dofadr[0])

    def place_objects(self, places: dict[str, Place], yaws: dict[str, float]) -> None:
        """Puts objects and plate on the table, and the others where nobody sees them."""
        for index, name in enumerate(self.names):
            x, y = places.get(name, (PARKING[0], PARKING[1] + 0.3 * index))
            height = PLATE_HEIGHT / 2 if name == PLATE else OBJECT_MODELS[name].rest_height
            yaw = yaws.get(name, 0.0)
            address = self.free_at[name]
            self.data.qpos[address : address + 7] = (
                x, y, height, np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2),
            )  # fmt: skip
            if self.furnished:
                self._park(name, name not in places)

    def _park(self, name: str, parked: bool) -> None:
        """Lets a body float, unseen and without contacts: both cost time in every step."""
        model, body = self.model, self.bodies[name]
        self._switch(np.flatnonzero(model.geom_bodyid == body), parked)
        model.body_gravcomp[body] = float(parked)

    def _switch(self, geoms: np.ndarray, off: bool) -> None:
        for field, value in (('contype', 0), ('conaffinity', 0), ('group', _HIDDEN_GROUP)):
            nominal = self._nominal[f'geom_{field}'][geoms]
            getattr(self.model, f'geom_{field}')[geoms] = value if off else nominal

    def place_cabinet(self, cabinet: Cabinet | None) -> None:
        """Puts the cabinet where it stands, or out of sight."""
        if not self.furnished:
            return
        place = CABINET_PARKING if cabinet is None else (cabinet.front, cabinet.y)
        self.model.body_pos[self.cabinet][:2] = place
        self.data.qpos[self.drawer_at] = 0.0 if cabinet is None else cabinet.opening
        roots = self.model.body_rootid[self.model.geom_bodyid]
        self._switch(np.flatnonzero(roots == self.cabinet), cabinet is None)

    def set_look(self, look: Look) -> None:
        """Sets light and colours."""
        nominal = self._nominal
        self.model.light_dir[0] = nominal['light_dir'][0]
        if look.lamp is not None:
            self.model.light_dir[0] = np.array(look.lamp) / np.linalg.norm(look.lamp)
        for geom, colour in ((self._table, look.table), (self._mat, look.mat)):
            self.model.geom_rgba[geom] = nominal['geom_rgba'][geom]
            if colour is not None:
                self.model.geom_rgba[geom][:3] = colour

    def set_lighting(self, intensity: float) -> None:
        """Scales all lights; 1 is nominal."""
        self.model.light_diffuse[:] = self._nominal['light_diffuse'] * intensity
        self.model.light_ambient[:] = self._nominal['light_ambient'] * intensity
        self.model.vis.headlight.ambient[:] = self._headlight * intensity

    def tilt(self, name: str) -> float:
        """Angle between an object's axis and the vertical, rad."""
        upright = self.data.xmat[self.bodies[name]][8]
        return float(np.arccos(np.clip(upright, -1.0, 1.0)))

    @property
    def renderer(self) -> mujoco.Renderer:
        """The renderer, made when it is first asked for."""
        if self._renderer is None:
            self._renderer = self._make_renderer()
        return self._renderer

    def _make_renderer(self) -> mujoco.Renderer:
        width, height = self._size
        try:
            renderer = mujoco.Renderer(self.model, height, width)
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
