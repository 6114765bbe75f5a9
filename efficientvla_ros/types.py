"""What flows between the rooms: observations in, action chunks out.

NumPy only, so that `control`, `simulation` and `ros` can use it without importing torch.
Time stamps are integer nanoseconds of the node's clock; durations are float seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

ACTION_DIM = 7
"""dx, dy, dz [m], droll, dpitch, dyaw [rad], gripper (1 = open, 0 = closed)."""

EE_DELTA_BASE = 'ee_delta_base'
"""Action space: end-effector deltas in the robot's base frame, each on top of the step before.

The translation is added in the base frame. The rotation is a static-xyz Euler triple whose
matrix multiplies the orientation from the left.
"""


class InputError(ValueError):
    """Input that cannot be used: the message says what, where and what was expected."""


@dataclass(frozen=True)
class JointState:
    """Joint positions at one instant.

    Attributes:
        names: joint names.
        positions: float64 [joints], rad (revolute) or m (prismatic).
        stamp_ns: time of measurement, ns of the node's clock.
        velocities: float64 [joints], rad/s or m/s, or None where the source has none.
    """

    names: tuple[str, ...]
    positions: np.ndarray
    stamp_ns: int
    velocities: np.ndarray | None = None


@dataclass(frozen=True)
class Observation:
    """One synchronised look at the world.

    Attributes:
        images: camera name -> uint8 [height, width, 3], RGB.
        instruction: what the robot is asked to do.
        stamp_ns: time of the image, ns of the node's clock.
        joint_state: proprioception, or None for models that do not use it.
    """

    images: Mapping[str, np.ndarray]
    instruction: str
    stamp_ns: int
    joint_state: JointState | None = None


@dataclass(frozen=True)
class ActionChunk:
    """A short plan of equally spaced actions; action k is due at stamp + (k + 1) * step.

    Attributes:
        actions: float64 [horizon, 7], see `ACTION_DIM`; un-normalised.
        step_duration: seconds between two actions.
        stamp_ns: time of the *observation* the plan was made from, ns.
        instruction: the instruction the plan was made for.
        sequence: running number of the plan.
        action_space: how the rows are to be read, see `EE_DELTA_BASE`.
        anchor: float64 [4, 4] pose of the tool in the base frame at `stamp_ns`, once known.
    """

    actions: np.ndarray
    step_duration: float
    stamp_ns: int
    instruction: str
    sequence: int
    action_space: str = EE_DELTA_BASE
    anchor: np.ndarray | None = None

    def anchored(self, pose: np.ndarray) -> ActionChunk:
        """Returns the same plan with the tool pose [4, 4] that its deltas start from."""
        return replace(self, anchor=np.array(pose, dtype=np.float64))


@dataclass(frozen=True)
class TickReport:
    """What one inference cost and did.

    Attributes:
        stage_seconds: stage name -> seconds, in the order in which the stages ran:
            preprocess, vision, language, action_head, postprocess.
        visual_tokens: visual tokens that the decoder's later layers saw.
        layers_run: decoder layers executed.
        diffusion_steps: DDIM steps in which the head was run in full.
        kept_tokens: indices of these tokens among the image's patches, row by row, ascending
            int64 [visual_tokens]; None where all are kept or nobody asked.
        token_roles: why each is kept, uint8, numbers of `acceleration.token_roles`; likewise.
        channel_ratio: share of the decoder's channels that was left out; 0 where it ran dense.
        pattern_age: ticks since the frame that the channels were chosen from; 0 where the tick
            ran dense or the choice never changes.
        similarity: of the image's features to those of the tick before, -1 to 1; None for the
            first tick of an episode, and where channels are not chosen again.
        updated: whether channels are chosen again from this tick.
        update_reason: why, in a word or two; `none` if they are not.
        updates_missed: ticks so far that ran by an old choice because a newer one was not ready.
        audit_deviation: mean difference between pruned and dense actions at the newest audit, by
            dimension and in its unit, float64 [7]; None before the first.
        channels_changed: share of the channels and heads kept (by bytes) that the newest choice
            exchanged, 0 to 1; None before the first choice that follows another one.
        notes: what has changed by itself since the tick before, one line each, for the log.
    """

    stage_seconds: Mapping[str, float] = field(default_factory=dict)
    visual_tokens: int = 0
    layers_run: int = 0
    diffusion_steps: int = 0
    kept_tokens: np.ndarray | None = None
    token_roles: np.ndarray | None = None
    channel_ratio: float = 0.0
    pattern_age: int = 0
    similarity: float | None = None
    updated: bool = False
    update_reason: str = 'none'
    updates_missed: int = 0
    audit_deviation: np.ndarray | None = None
    channels_changed: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def total_seconds(self) -> float:
        """Sum of all stages, seconds."""
        return float(sum(self.stage_seconds.values()))


@dataclass(frozen=True)
class JointCommand:
    """Joint waypoints for a trajectory controller.

    Attributes:
        names: joint names, arm first.
        stamp_ns: time that `times` count from, ns of the node's clock.
        times: float64 [points], seconds after the stamp, strictly increasing.
        positions: float64 [points, joints], rad or m.
        velocities: float64 [points, joints], rad/s or m/s; the last row is zero.
        brakes: whether it brings the arm to rest as soon as may be, as no plan does.
    """

    names: tuple[str, ...]
    stamp_ns: int
    times: np.ndarray
    positions: np.ndarray
    velocities: np.ndarray
    brakes: bool = False
