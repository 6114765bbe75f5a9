"""The side of channel updates that works between ticks: score, audit, rewrite slots."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from efficientvla_ros.acceleration.channel_patterns import ChannelPattern
from efficientvla_ros.acceleration.plan import ExecutionPlan
from efficientvla_ros.runtime.audit import RatioLadder, action_deviation, relative_deviation
from efficientvla_ros.runtime.channel_resources import ChannelResources, scoring_place
from efficientvla_ros.runtime.energy_taps import EnergyTaps
from efficientvla_ros.runtime.prompts import Prompt
from efficientvla_ros.runtime.pruned_layers import PrunedLayers
from efficientvla_ros.runtime.timeline import UPDATES

Layers = Callable[[bool], Iterable[nn.Module] | None]
"""Gives layers for a pass through the prompt (True) or for a decoding step (False); None is the
whole ones."""

_ACTIONS_S = 60.0


@dataclass(frozen=True)
class TickInputs:
    """What a tick's language model and action head have seen.

    Attributes:
        visual: visual tokens [1, P, D].
        prompt: the instruction.
        kept: visual tokens that stayed after the scoring layer, [1, K]; None for all.
    """

    visual: Tensor
    prompt: Prompt
    kept: Tensor | None


Replay = Callable[[TickInputs, Layers], np.ndarray]
"""Runs language model and action head once more: normalised actions [horizon, action_dim]."""


@dataclass(eq=False)
class UpdateJob:
    """A tick whose frame the pattern is to be chosen from.

    Attributes:
        tick: its number.
        taps: hold its energies; `passed` says whether they do already, or the inputs have to be
            run through them.
        passed: see `taps`.
        inputs: what to replay.
        ready: set once `actions` are there or never will be.
        actions: its normalised actions [horizon, action_dim].
        event: after which a CUDA device has computed all this; None on a CPU.
    """

    tick: int
    taps: EnergyTaps
    passed: bool
    inputs: TickInputs
    ready: threading.Event = field(default_factory=threading.Event)
    actions: np.ndarray | None = None
    event: torch.cuda.Event | None = None

    def complete(self, actions: np.ndarray | None) -> None:
        """Hands the actions over."""
        self.actions = actions
        self.ready.set()


class PatternKeeper:
    """Keeps the pattern up to date; `update` runs in a thread of its own.

    Attributes:
        pruned: the compact layers that ticks run; None before the first pattern.
        deviation: of the newest audit, by action dimension in its unit, float64; None before.
        changed: share of the slots' bytes that the newest pattern overwrote; None before the first
            that follows another one of the same size.
        notes: lines to be told, oldest first.
        updates: patterns that were chosen and applied.
        bytes_written: into slots, by all updates.
        rejected: choices of a layer that were left as they were since its energies or history
            were not finite, by all updates.
    """

    def __init__(
        self,
        resources: ChannelResources,
        plan: ExecutionPlan,
        replay: Replay,
        binarise_gripper: bool,
    ) -> None:
        """Prepares the compact layers if calibration tells what they are.

        Args:
            resources: shared by plans.
            plan: with channels that adapt.
            replay: runs the policy once more.
            binarise_gripper: how the policy's actions are un-normalised.
        """
        self._resources, self._plan, self._replay = resources, plan, replay
        self._binarise = binarise_gripper
        self._ladder = RatioLadder(plan.config.channels_ratio, resources.audit)
        self._patterns = resources.patterns(plan, self._ladder.audited_ratio)
        self._stream = None
        if resources.device.type == 'cuda':
            # Ticks run on a stream of higher priority; see `Engine`.
            self._stream = torch.cuda.Stream(resources.device)
        self.pruned: PrunedLayers | None = None
        self.deviation: np.ndarray | None = None
        self.changed: float | None = None
        self.notes: deque[str] = deque(maxlen=100)
        self.updates = self.bytes_written = self.rejected = 0
        self._rejected_before, self._rejecting = 0, False
        if resources.profile is not None:
            with torch.inference_mode():
                self.pruned = self._packed(self._patterns.pattern, 0, lambda: None)
        self._finish()

    @property
    def ratio(self) -> float:
        """Share of the channels that ticks leave out at present; 0 is dense."""
        return self._ladder.ratio

    def update(self, job: UpdateJob, pause: Callable[[], None]) -> None:
        """Chooses from a tick's frame, audits the pattern so far on it, and rewrites the slots.

        Args:
            job: the tick.
            pause: called before each slice of the work; waits for a gap.
        """
        with torch.inference_mode(), self._on_stream(job):
            pause()
            dense = None
            if not job.passed:
                with self._span('dense pass', job):
                    dense = self._replay(job.inputs, partial(_dense, job.taps, pause))
            with self._span('score', job), self._resources.lock:
                pattern = self._patterns.update(job.taps.values)
                self._finish()
            job.taps.free = True
            self._note_rejected()
            if self.pruned is not None and self._audit(job, dense, pause):
                # The old slots make room for those of the new ratio; ticks run dense meanwhile.
                self._patterns = self._resources.patterns(self._plan, self._ladder.audited_ratio)
                self.pruned, pattern = None, self._patterns.pattern
                self._rejected_before = 0
            if self.pruned is None:
                with self._span('pack', job):
                    self.pruned = self._packed(pattern, job.tick, pause)
            else:
                self._rewrite(self.pruned, pattern, job, pause)
            self.updates += 1

    def _note_rejected(self) -> None:
        # Layers whose energies or history were not finite; told once while it goes on.
        total = self._patterns.rejected
        count, self._rejected_before = total - self._rejected_before, total
        was_rejecting, self._rejecting = self._rejecting, count > 0
        self.rejected += count
        if self._rejecting and not was_rejecting:
            self.notes.append(
                f'energies of {count} decoder layers are not finite: they keep their channels'
            )

    def _audit(self, job: UpdateJob, dense: np.ndarray | None, pause: Callable) -> bool:
        # Whether the ratio of the slots is to be another one. Both passes see the visual tokens
        # that the tick kept: what is compared are channels alone.
        resources, pruned = self._resources, self.pruned
        if not resources.audit.enabled:
            return False
        job.ready.wait(_ACTIONS_S)
        actions = job.actions
        if actions is None:
            return False
        if dense is None:
            with self._span('audit', job):
                found = self._replay(job.inputs, lambda _: _paced(pruned.layers, pause))
        else:
            found, actions = actions, dense
        found, actions = (
            resources.statistics.unnormalise(each, self._binarise) for each in (found, actions)
        )
        self.deviation = action_deviation(found, actions)
        before = self._ladder.audited_ratio
        self._ladder.settings = resources.audit
        note = self._ladder.observe(relative_deviation(self.deviation, resources.statistics))
        if note:
            self.notes.append(note)
        return self._ladder.audited_ratio != before

    def _rewrite(
        self, pruned: PrunedLayers, pattern: ChannelPattern, job: UpdateJob, pause: Callable
    ) -> None:
        deltas, before = pruned.deltas(pattern), self.bytes_written
        for place, delta in enumerate(deltas):
            pause()
            with self._span('rewrite', job, layer=self._plan.layers[place], slots=len(delta)):
                written = pruned.apply(place, delta, job.tick, self._finish)
            self.bytes_written += written
        self.changed = (self.bytes_written - before) / pruned.num_bytes

    def _packed(self, pattern: ChannelPattern, tick: int, pause: Callable) -> PrunedLayers:
        packed = PrunedLayers(
            self._resources.rows(self._plan.layers),
            pattern,
            tick,
            scoring_place(self._plan),
            pause,
        )
        self._finish()
        return packed

    def _on_stream(self, job: UpdateJob) -> AbstractContextManager:
        if self._stream is None:
            return nullcontext()
        if job.event is not None:
            self._stream.wait_event(job.event)
        return torch.cuda.stream(self._stream)

    def _finish(self) -> None:
        # What the host is told to be done must be done on the device.
        if self._stream is not None:
            torch.cuda.current_stream(self._resources.device).synchronize()

    def _span(self, name: str, job: UpdateJob, **details: object) -> AbstractContextManager:
        timeline = self._resources.timeline
        if timeline is None:
            return nullcontext()
        return timeline.span(UPDATES, name, tick=job.tick, **details)


def _dense(taps: EnergyTaps, pause: Callable[[], None], prompt: bool) -> Iterable | None:
    # Energies are of the prompt's pass.
    return _paced(taps.layers, pause) if prompt else None


def _paced(layers: Sequence[nn.Module], pause: Callable[[], None]) -> Iterator[nn.Module]:
    for layer in layers:
        pause()
        yield layer
