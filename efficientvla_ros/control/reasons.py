"""Why the arm holds and what was changed in a command, by name."""

from __future__ import annotations

from enum import Enum


class HoldReason(str, Enum):
    """Why no command goes to the arm; the value is what users see in `~/status`."""

    NONE = ''
    INACTIVE = 'inactive'
    STARTING = 'starting'
    STOPPED = 'stopped'
    DRY_RUN = 'dry_run'
    NO_CLOCK = 'no_clock'
    CLOCK_STOPPED = 'clock_stopped'
    CLOCK_JUMPED = 'clock_jumped'
    NO_ROBOT_DESCRIPTION = 'no_robot_description'
    BAD_ROBOT_DESCRIPTION = 'bad_robot_description'
    NO_IMAGE = 'no_image'
    BAD_IMAGE = 'bad_image'
    IMAGE_TOO_OLD = 'image_too_old'
    CAMERA_SKEW = 'camera_skew'
    NO_INSTRUCTION = 'no_instruction'
    BAD_INSTRUCTION = 'bad_instruction'
    INSTRUCTION_CHANGING = 'instruction_changing'
    NO_JOINT_STATE = 'no_joint_state'
    JOINT_STATE_TOO_OLD = 'joint_state_too_old'
    OUTSIDE_LIMITS = 'outside_limits'
    NO_CONTROLLER = 'no_controller'
    INFERENCE_FAILED = 'inference_failed'
    INFERENCE_LATE = 'inference_late'
    BAD_CHUNK = 'bad_chunk'
    NON_FINITE = 'non_finite'
    CHUNK_EXPIRED = 'chunk_expired'
    UNREACHABLE = 'unreachable'
    COMMAND_REJECTED = 'command_rejected'
    TOO_MANY_FAILURES = 'too_many_failures'


class Intervention(str, Enum):
    """What was changed in a command before it went to the arm."""

    STEP_DROPPED = 'step_dropped'
    STEP_TRANSLATION = 'step_translation_capped'
    STEP_ROTATION = 'step_rotation_capped'
    WORKSPACE = 'workspace_clamped'
    JOINT_LIMIT = 'joint_limit'
    JOINT_VELOCITY = 'joint_velocity_limited'
    JOINT_ACCELERATION = 'joint_acceleration_limited'
    TRACKING_LOST = 'tracking_lost'
    OUT_OF_REACH = 'out_of_reach'
