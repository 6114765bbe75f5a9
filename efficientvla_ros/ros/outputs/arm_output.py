"""What every way to command an arm offers, and what it needs to know of the arm."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from efficientvla_ros.types import JointCommand, JointState

if TYPE_CHECKING:  # pinocchio behind it would slow down the start of the node
    from efficientvla_ros.control.kinematics import ArmKinematics


@dataclass(frozen=True)
class ArmLinks:
    """Ties outputs to the rest of the node.

    Attributes:
        joints: newest measured joint state, None when there is none.
        kinematics: of the arm that is commanded, None until it is known.
        report: takes one line about a command that could not be carried out.
        free: called when an output that was busy takes plans again.
    """

    joints: Callable[[], JointState | None] = lambda: None
    kinematics: Callable[[], ArmKinematics | None] = lambda: None
    report: Callable[[str], None] = lambda line: None
    free: Callable[[], None] = lambda: None


Fault = Callable[[str, str], None]
"""Counts a fault by its name and reports it in one line."""


class ArmOutput(Protocol):
    """One way to command an arm; its user holds a lock around every call but `busy`."""

    @property
    def busy(self) -> bool:
        """Whether a new plan could not be taken now."""

    def send(self, command: JointCommand, now_ns: int) -> None:
        """Takes a command; one that brakes is the end of a motion."""

    def tick(self, now_ns: int) -> bool:
        """Does what is due at a time in ns; returns whether there will be more to do."""

    def close(self, now_ns: int) -> float:
        """Lets what is under way come to its end; returns how long that takes at most, s."""

    def forget(self) -> None:
        """Ends what is under way without a motion, as after a reset of the robot."""

    def destroy(self) -> None:
        """Frees what is no publisher."""
