"""One tick: newest inputs to observation, chunk, command. Runs in the inference thread."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import numpy as np

from efficientvla_ros.control.joint_limits import narrowed, outside
from efficientvla_ros.control.reasons import HoldReason
from efficientvla_ros.ros.commander import Commander, State
from efficientvla_ros.ros.observation import ObservationBuilder
from efficientvla_ros.ros.parameters.control_settings import control_config
from efficientvla_ros.ros.parameters.safety import FROM_URDF, joint_limits
from efficientvla_ros.ros.parameters.table import Settings
from efficientvla_ros.types import (
    ActionChunk,
    InputError,
    TickReport,
)

if TYPE_CHECKING:
    from efficientvla_ros.control.pipeline import ChunkController
    from efficientvla_ros.ros.cameras.camera_sync import Frame
    from efficientvla_ros.ros.ingest import Ingest
    from efficientvla_ros.ros.reporting.status import Telemetry
    from efficientvla_ros.ros.token_image import TokenImage
    from efficientvla_ros.runtime.engine import Engine

_OUT_OF_DATE_IN_A_ROW = 3
_FAILURES = (HoldReason.NON_FINITE, HoldReason.BAD_CHUNK, HoldReason.INFERENCE_FAILED)


class _Hold(Exception):  # noqa: N818 - not an error: the way out of a tick that must hold
    """The arm must be held, with the reason and one line of detail."""

    def __init__(self, reason: HoldReason, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


class Publisher(Protocol):
    """Takes the plans.

    Attributes:
        busy: the arm is following a plan that a new one must not replace.
    """

    busy: bool

    def publish_chunk(self, chunk: ActionChunk) -> None:
        """Publishes a plan."""


class Policy:
    """Ties engine, inputs and commander together."""

    def __init__(
        self,
        engine: Engine,
        inputs: Ingest,
        commander: Commander,
        publisher: Publisher,
        telemetry: Telemetry,
        settings: Callable[[], Settings],
        clock: Callable[[], int],
        debug: Callable[[str], None],
        token_image: TokenImage | None = None,
        note: Callable[[str], None] = lambda line: None,
        absent: Callable[[], str] = lambda: '',
    ) -> None:
        """Sets up a policy.

        Args:
            engine: the model.
            inputs: what was heard.
            commander: sends commands.
            publisher: takes the plans.
            telemetry: takes durations and counts.
            settings: the settings in force; asked once a tick.
            clock: current time, ns of the node's clock.
            debug: takes tracebacks.
            token_image: shows the visual tokens to those who look; None shows nothing.
            note: takes lines about what the engine changed by itself.
            absent: says in one line which controller is not there, '' when all are.

        Raises:
            InputError: the model wants another number of cameras.
        """
        cameras = settings()['cameras.names']
        if len(cameras) != len(engine.camera_names):
            raise InputError(
                f'parameter cameras.names: got {len(cameras)} cameras {cameras}, model '
                f'{engine.model_name} expects {len(engine.camera_names)}: '
                f'{", ".join(engine.camera_names)}'
            )
        self._engine = engine
        self._inputs = inputs
        self._observations = ObservationBuilder(engine.camera_names, inputs.joints)
        self._commander = commander
        self._publisher = publisher
        self._telemetry = telemetry
        self._settings = settings
        self._clock = clock
        self._debug = debug
        self._token_image = token_image
        self._note = note
        self._absent = absent
        self.reset()
        self._description: str | None = None
        self._description_fault = ''
        self._configured: Settings | None = None
        self._checked: tuple[str, Settings] | None = None
        self._described_limits: tuple[np.ndarray, np.ndarray] | None = None

    def reset(self) -> None:
        """Forgets which image was used last, earlier ticks, and the failures in a row."""
        self._seen: tuple[int, str] | None = None
        self._starting_over = True
        self._failures = 0
        self._out_of_date = 0

    def tick(self) -> bool:
        """Plans once and commands the arm, or holds it; False when there is no new image."""
        settings = self._settings()
        epoch = self._commander.epoch
        if self._commander.latched or self._publisher.busy:
            return True
        try:
            return self._tick(settings, epoch)
        except _Hold as hold:
            self._held(hold.reason, hold.detail, epoch)
        return True

    def failed(self, error: Exception) -> None:
        """Holds the arm because a tick raised something that nobody foresaw."""
        self._debug(''.join(traceback.format_exception(error)))
        detail = f'{type(error).__name__}: {" ".join(str(error).split())[:200]}'
        self._telemetry.tick_failed(detail)
        self._held(HoldReason.INFERENCE_FAILED, detail, self._commander.epoch)

    def problem(self) -> tuple[HoldReason, str] | None:
        """What is missing or too old now; cheap enough for a watchdog."""
        settings, now = self._settings(), self._clock()
        return self._inputs.image_problem(settings, now) or self._inputs.joint_problem(
            settings, now
        )

    def _tick(self, settings: Settings, epoch: int) -> bool:
        problem = self._inputs.image_problem(settings, self._clock())
        if problem is not None:
            raise _Hold(*problem)
        instruction = self._inputs.instruction
        if instruction is None:
            return True  # forgotten between the two lines above: the next tick says so
        # A new instruction, and the first tick, take the images that there are.
        wait = self._seen is not None and self._seen[1] == instruction
        frames = self._inputs.select(settings, wait)
        if frames is None:
            return False  # a camera is waited for
        if isinstance(frames[0], HoldReason):
            raise _Hold(*frames)
        self._check_instruction(instruction, settings)
        seen = (frames[0].number, instruction)
        if seen == self._seen:
            return False
        self._seen = seen
        self._inputs.used()
        chunk = self._plan(frames, instruction, settings)
        self._command(chunk, settings, epoch)
        return True

    def _check_instruction(self, instruction: str, settings: Settings) -> None:
        if self._checked == (instruction, settings):
            return
        limit = settings['safety.max_instruction_length']
        if len(instruction) > limit:
            raise _Hold(
                HoldReason.BAD_INSTRUCTION,
                f'instruction has {len(instruction)} characters, expected at most {limit}',
            )
        try:
            self._engine.check_instruction(instruction)
        except InputError as error:
            raise _Hold(HoldReason.BAD_INSTRUCTION, str(error)) from None
        self._checked = (instruction, settings)

    def _plan(
        self, frames: tuple[Frame, ...], instruction: str, settings: Settings
    ) -> ActionChunk:
        try:
            observation = self._observations.build(frames, instruction, settings)
        except InputError as error:
            self._telemetry.image_rejected()
            raise _Hold(HoldReason.BAD_IMAGE, str(error)) from None
        if self._starting_over:
            self._starting_over = False
            self._engine.reset()
        shown = self._token_image is not None and self._token_image.wanted
        self._engine.report_tokens = shown
        self._telemetry.inference_started((self._clock() - observation.stamp_ns) * 1e-9)
        chunk, report = self._engine.infer(observation)
        self._telemetry.inference_done(report, observation, chunk)
        for line in report.notes:
            self._note(line)
        if shown:
            image = observation.images[self._engine.camera_names[0]]
            self._show_tokens(image, report, frames[0])
        return chunk

    def _show_tokens(self, image: np.ndarray, report: TickReport, frame: Frame) -> None:
        from efficientvla_ros.ros.token_image import TokenView

        patches = self._engine.config.num_patches
        kept = np.arange(patches) if report.kept_tokens is None else report.kept_tokens
        self._token_image.offer(
            TokenView(
                image=image,
                kept=kept,
                roles=report.token_roles,
                patches=patches,
                stamp_ns=frame.stamp_ns,
                frame_id=frame.message.header.frame_id,
            )
        )

    def _command(self, chunk: ActionChunk, settings: Settings, epoch: int) -> None:
        """Anchors and publishes the chunk; commands the arm where everything needed is known."""
        if not np.isfinite(chunk.actions).all():
            bad = int((~np.isfinite(chunk.actions)).sum())
            detail = f"{bad} of {chunk.actions.size} values of the model's output are not finite"
            self._telemetry.tick_failed(detail)
            raise _Hold(HoldReason.NON_FINITE, detail)
        controller = self._controller(settings)
        joints = self._inputs.arm_at(chunk.stamp_ns)
        if controller is not None and joints is not None:
            chunk = chunk.anchored(controller.kinematics.fk(joints))
        self._publisher.publish_chunk(chunk)
        problem = self._inputs.joint_problem(settings, self._clock())
        if problem is not None:
            raise _Hold(*problem)
        if controller is None:
            raise _Hold(*self._description_problem())
        if joints is None:
            raise _Hold(HoldReason.NO_JOINT_STATE, 'no joint state near the time of the image')
        kinematics = controller.kinematics
        fault = outside(kinematics.joint_names, joints, kinematics.lower, kinematics.upper)
        if fault:
            raise _Hold(HoldReason.OUTSIDE_LIMITS, fault)
        absent = '' if settings['safety.dry_run'] else self._absent()
        if absent:
            raise _Hold(HoldReason.NO_CONTROLLER, absent)
        self._execute(chunk, joints, epoch)

    def _execute(self, chunk: ActionChunk, joints: np.ndarray, epoch: int) -> None:
        result = self._commander.execute(chunk, joints, epoch)
        if result is None:
            self._count_out_of_date()
            return
        self._out_of_date = 0
        if result.command is None:
            self._telemetry.tick_failed(result.detail)
            self._count_failure(result.reason, result.detail)
            return
        self._failures = 0
        self._telemetry.commanded(result.command, chunk, self._clock())

    def _controller(self, settings: Settings) -> ChunkController | None:
        """The controller for the newest robot description and settings; None without an arm."""
        text = self._inputs.description
        if text is not None and text != self._description:
            self._description = text
            self._commander.attach(self._build_controller(text, settings))
        controller = self._commander.controller
        if controller is not None and self._configured is not settings:
            controller.config = control_config(settings)
            kinematics = controller.kinematics
            kinematics.lower, kinematics.upper = self._limits(settings)
            self._commander.hold_duration = settings['safety.hold_duration']
        self._configured = settings
        return controller

    def check(self, settings: Settings) -> None:
        """Raises InputError for joint limits that the robot description does not allow."""
        if self._commander.controller is not None:
            self._limits(settings)

    def _limits(self, settings: Settings) -> tuple[np.ndarray, np.ndarray]:
        joints = settings['control.joints']
        return narrowed(joints, self._described_limits, joint_limits(settings), FROM_URDF)

    def _build_controller(self, text: str, settings: Settings) -> ChunkController | None:
        # pinocchio is imported only where it is used: starting the node stays quick.
        from efficientvla_ros.control.kinematics import ArmKinematics
        from efficientvla_ros.control.pipeline import ChunkController

        self._description_fault = ''
        try:
            kinematics = ArmKinematics(
                text,
                settings['control.joints'],
                settings['control.tcp_frame'],
                settings['control.base_frame'],
            )
            self._described_limits = kinematics.lower, kinematics.upper
            kinematics.lower, kinematics.upper = self._limits(settings)
        except InputError as error:
            self._description_fault = str(error)
            return None
        rides = settings['gripper.interface'] != 'none'
        gripper = settings['gripper.joint'] if rides else None
        return ChunkController(kinematics, control_config(settings), gripper)

    def _description_problem(self) -> tuple[HoldReason, str]:
        if self._description is None:
            return HoldReason.NO_ROBOT_DESCRIPTION, 'nothing came on "robot_description" yet'
        return HoldReason.BAD_ROBOT_DESCRIPTION, self._description_fault

    def _held(self, reason: HoldReason, detail: str, epoch: int) -> None:
        if self._commander.hold(reason, detail, epoch):
            self._out_of_date = 0
        else:
            self._count_out_of_date()
        self._count_failure(reason, detail)

    def _count_out_of_date(self) -> None:
        """Holds the arm when one plan after the other is overtaken by a new instruction."""
        self._out_of_date += 1
        if self._out_of_date >= _OUT_OF_DATE_IN_A_ROW:
            detail = (
                f'{self._out_of_date} plans in a row were for an instruction that had changed '
                'before they were ready'
            )
            self._commander.hold(HoldReason.INSTRUCTION_CHANGING, detail)

    def _count_failure(self, reason: HoldReason, detail: str) -> None:
        if reason not in _FAILURES:
            return
        self._failures += 1
        limit = self._settings()['safety.max_failures']
        if self._failures >= limit:
            text = f'{self._failures} inferences in a row gave no usable plan, newest: {detail}'
            self._commander.latch(State.ERROR, HoldReason.TOO_MANY_FAILURES, text)
