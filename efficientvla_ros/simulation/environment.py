"""Episodes on the simulated table top, in process: observe, act, outcome."""

from __future__ import annotations

from efficientvla_ros.simulation.arm import JOINT_NAMES
from efficientvla_ros.simulation.camera import CAMERA_NAME
from efficientvla_ros.simulation.execution import STEP_NS, advance
from efficientvla_ros.simulation.success import SuccessMonitor
from efficientvla_ros.simulation.table_state import TableState
from efficientvla_ros.simulation.tabletop import TabletopSim
from efficientvla_ros.simulation.tasks import (
    CONTROL_PERIOD,
    MATCHING,
    Episode,
    Goal,
    sample_episode,
)
from efficientvla_ros.simulation.trajectory_controller import JointTrajectoryController
from efficientvla_ros.types import InputError, JointCommand, JointState, Observation

PERIOD_NS = round(CONTROL_PERIOD * 1e9)
START_NS = 1_000_000_000
"""Time of the clock at the start of an episode, ns: a stamp of 0 would mean "now"."""


class TabletopEnvironment:
    """One episode after the other, with simulated time and the arm's trajectory controller.

    Attributes:
        sim: the simulation, for rendering and ground truth.
        controller: the arm's trajectory controller.
        episode: the running episode.
        now_ns: simulated time, ns; `START_NS` at the start of an episode.
        rejected: why the last command was rejected, '' when it was not.
    """

    def __init__(
        self,
        camera_width: int = 224,
        camera_height: int = 224,
        task: str = 'pick',
        setting: str = MATCHING,
    ) -> None:
        """Builds the scene; an image side in pixels may be 16 .. 4096.

        Task and setting are those of episodes that are given as a seed alone; an `Episode` may
        be of any.

        Raises:
            InputError: no such task or setting, or a side out of range.
        """
        self.task, self.setting = task, setting
        self.sim = TabletopSim(camera_width, camera_height)
        self.controller = JointTrajectoryController(JOINT_NAMES)
        self.rejected = ''
        self.start(sample_episode(task, 0, setting=setting))

    def start(self, episode: Episode) -> None:
        """Starts an episode without looking at it."""
        self.episode = episode
        self.sim.reset(episode)
        self.now_ns = START_NS
        self._next_look_ns = START_NS + PERIOD_NS
        self.controller.reset(episode.start_positions, self.now_ns)
        self._monitor = SuccessMonitor(episode)
        self.rejected = ''

    def reset(self, episode: int | Episode) -> Observation:
        """Starts an episode, given as a seed or in full, and looks at it."""
        if not isinstance(episode, Episode):
            episode = sample_episode(self.task, episode, setting=self.setting)
        self.start(episode)
        return self.observe()

    def observe(self) -> Observation:
        """Returns what camera and joint sensors see now."""
        return Observation(
            images={CAMERA_NAME: self.sim.render()},
            instruction=self.instruction,
            stamp_ns=self.now_ns,
            joint_state=self.joint_state(),
        )

    def joint_state(self) -> JointState:
        """Returns the measured state of the joints `arm.JOINT_NAMES`."""
        return JointState(
            JOINT_NAMES, self.sim.joint_positions(), self.now_ns, self.sim.joint_velocities()
        )

    def act(
        self, command: JointCommand | None, latency: float = 0.0, periods: float = 1.0
    ) -> bool:
        """Sends a command and advances by control periods, or until the episode ends.

        Args:
            command: joint waypoints; None lets the arm go on with what it was doing.
            latency: seconds that pass before the command arrives.
            periods: how many control periods to advance, also fractions.

        Returns:
            Whether the episode goes on.

        Raises:
            InputError: the latency is negative or longer than the advance.
        """
        duration = periods * CONTROL_PERIOD
        if not 0.0 <= latency <= duration:
            raise InputError(f'latency is {latency} s, expected 0 .. {duration:g} s')
        end_ns = self.now_ns + round(duration * 1e9 / STEP_NS) * STEP_NS
        if command is not None:
            self._run_until(self.now_ns + round(latency * 1e9 / STEP_NS) * STEP_NS)
            self._send(command)
        self._run_until(end_ns)
        return self.outcome is None

    def _run_until(self, end_ns: int) -> None:
        """Runs physics; the success predicate looks once per control period on the way."""
        while self.now_ns < end_ns and self.outcome is None:
            stop_ns = min(end_ns, self._next_look_ns)
            self.now_ns = advance(self.sim, self.controller, self.now_ns, stop_ns - self.now_ns)
            if self.now_ns >= self._next_look_ns:
                self._next_look_ns += PERIOD_NS
                self._monitor.update(self.sim.object_positions(), self.sim.table_state())

    def _send(self, command: JointCommand) -> None:
        _, self.rejected = self.controller.accept(
            command.names,
            command.stamp_ns,
            command.times,
            command.positions,
            command.velocities,
            self.now_ns,
        )

    def set_target(self, target: str) -> None:
        """Changes the instruction in mid-episode to another object on the table.

        Raises:
            InputError: the object is not on the table, or the task has no other target.
        """
        self._monitor.set_target(target)

    def set_goal(self, goal: Goal) -> None:
        """Changes the instruction in mid-episode to another goal, also of another task.

        Raises:
            InputError: the scene does not have what the goal names.
        """
        self._monitor.set_goal(goal)

    @property
    def goal(self) -> Goal:
        """What the instruction asks for now."""
        return self._monitor.goal

    @property
    def target(self) -> str:
        """The object that the instruction is about now, 'drawer' for the drawer."""
        return self._monitor.target

    @property
    def instruction(self) -> str:
        """The instruction of the running episode."""
        return self.goal.instruction(self.episode.template)

    @property
    def outcome(self) -> str | None:
        """How the episode ended (see `tasks`), None while it runs."""
        return self._monitor.outcome

    @property
    def lifted_object(self) -> str | None:
        """The object whose lift ended the episode."""
        return self._monitor.lifted_object

    @property
    def steps(self) -> int:
        """Control periods since the start of the episode."""
        return self._monitor.steps

    def table_state(self) -> TableState:
        """Returns the ground truth that the expert plans from."""
        return self.sim.table_state()

    def close(self) -> None:
        """Frees the renderer."""
        self.sim.close()

    def __enter__(self) -> TabletopEnvironment:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
