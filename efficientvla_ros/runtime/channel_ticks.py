"""What a policy needs to know about channels in one tick, and the case that they never change."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from torch import Tensor, nn

from efficientvla_ros.runtime.pattern_keeper import TickInputs


@dataclass(frozen=True)
class ChannelReport:
    """What a tick did with its channels.

    Attributes:
        ratio: share of the channels that it left out; 0 for one that ran dense.
        age: ticks since the frame that the oldest pattern it used was chosen from; 0 for one
            that ran dense.
        similarity: of its frame to the one before, -1 to 1; None for the first of an episode.
        updated: whether a pattern is chosen from its frame.
        reason: why, in a word or two; `none` if not.
        missed: ticks so far that ran by an old pattern, or dense for want of one, because a
            newer one was not ready in time.
        deviation: of the newest audit, by action dimension in its unit; None before the first.
        changed: share of the slots' bytes that the newest pattern overwrote; None before.
    """

    ratio: float = 0.0
    age: int = 0
    similarity: float | None = None
    updated: bool = False
    reason: str = 'none'
    missed: int = 0
    deviation: np.ndarray | None = None
    changed: float | None = None


class ChannelTick:
    """One tick; this one runs the layers that its decoder has.

    Attributes:
        step_layers: which layers to run in decoding steps after the prompt; None is those.
    """

    step_layers: tuple[nn.Module, ...] | None = None

    def layers(self, features: Tensor) -> tuple[nn.Module, ...] | None:
        """Which layers the prompt runs through, by the features [1, P, width] of the towers.

        None is those that the decoder has.
        """
        return None

    def has_read(self, inputs: TickInputs) -> None:
        """Says that no layer runs any more in this tick, and on what they ran."""

    def finish(self, actions: np.ndarray) -> None:
        """Takes the normalised actions [horizon, action_dim]."""


class Channels(Protocol):
    """Decides which channels ticks run.

    Attributes:
        report: of the last tick.
        dead: whether it can do so no more.
    """

    report: ChannelReport
    dead: bool

    def tick(self) -> AbstractContextManager[ChannelTick]:
        """One tick; it ends with the `with`, whatever happens inside."""

    def rehearsal(self) -> AbstractContextManager[None]:
        """Ticks inside warm up all that ticks may run, and nothing of them is remembered."""

    def settle(self, timeout_s: float) -> bool:
        """Waits until no update is under way; False when that took too long."""

    def take_notes(self) -> tuple[str, ...]:
        """Lines to be told that nobody has taken yet, oldest first."""

    def reset(self) -> None:
        """New episode."""

    def change_instruction(self) -> None:
        """The next tick has another instruction than the one before."""


class FixedChannels:
    """Channels that never change: all of them, or those that the decoder's layers have."""

    dead = False

    def __init__(self, ratio: float = 0.0) -> None:
        """Takes the share that is left out, for reports."""
        self.report = ChannelReport(ratio=ratio)

    @contextmanager
    def tick(self) -> Iterator[ChannelTick]:
        """As `Channels.tick`."""
        yield ChannelTick()

    @contextmanager
    def rehearsal(self) -> Iterator[None]:
        """As `Channels.rehearsal`."""
        yield

    def settle(self, timeout_s: float) -> bool:
        """As `Channels.settle`."""
        return True

    def take_notes(self) -> tuple[str, ...]:
        """As `Channels.take_notes`."""
        return ()

    def reset(self) -> None:
        """As `Channels.reset`."""

    def change_instruction(self) -> None:
        """As `Channels.change_instruction`."""
