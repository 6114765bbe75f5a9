"""Channels that follow the camera: the side of channel updates that ticks see (EcoVLA)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from efficientvla_ros.acceleration.change_detector import ChangeDetector
from efficientvla_ros.acceleration.config import GAP_METHODS, AccelerationConfig
from efficientvla_ros.acceleration.plan import ExecutionPlan
from efficientvla_ros.acceleration.update_controller import (
    UpdateController,
    UpdateOptions,
    UpdateReason,
)
from efficientvla_ros.models.llama import LlamaLayer
from efficientvla_ros.runtime.channel_resources import ChannelResources
from efficientvla_ros.runtime.channel_ticks import ChannelReport, ChannelTick
from efficientvla_ros.runtime.energy_taps import EnergyTaps
from efficientvla_ros.runtime.gap_worker import GapWorker, TickGate
from efficientvla_ros.runtime.pattern_keeper import (
    PatternKeeper,
    Replay,
    TickInputs,
    UpdateJob,
)
from efficientvla_ros.runtime.pruned_layers import Taken

_SETS_OF_TAPS = 2


class AdaptiveChannels:
    """Decides for each tick whether it runs dense and updates the pattern, or runs pruned.

    One thread runs ticks. Choosing and rewriting happen in another one, between ticks; if that
    ends by an error it is started again once, and after a second time ticks run dense.

    Attributes:
        report: of the last tick.
        keeper: the other side.
        gate: when the other side may work.
        worker: runs it.
        device: where the model is.
    """

    def __init__(
        self,
        resources: ChannelResources,
        plan: ExecutionPlan,
        layers: Sequence[LlamaLayer],
        replay: Replay,
        binarise_gripper: bool = True,
    ) -> None:
        """Prepares everything that ticks need.

        Args:
            resources: shared by plans.
            plan: with channels that adapt.
            layers: the whole layers of the plan.
            replay: runs the policy once more on what a tick has seen.
            binarise_gripper: how the policy's actions are un-normalised.
        """
        config, device = resources.config, resources.device
        self.device = device
        self.keeper = PatternKeeper(resources, plan, replay, binarise_gripper)
        self.gate = TickGate(overlaps=device.type == 'cuda')
        self.worker = GapWorker()
        self.report = ChannelReport()
        self._taps = tuple(EnergyTaps(layers, config.llm, device) for _ in range(_SETS_OF_TAPS))
        method = plan.config.channels_method
        self._every_frame, self._in_gap = method == 'every_frame', method in GAP_METHODS
        self._detector = ChangeDetector(config.num_patches, config.vision_width, device)
        self._controller = UpdateController(_options(plan.config))
        self._failures_seen = self._missed = 0
        self._retry = self._rehearsing = self._instruction_changed = False
        self._newest_job = 0

    @property
    def dead(self) -> bool:
        """As `Channels.dead`."""
        return self.worker.dead

    def reset(self) -> None:
        """As `Channels.reset`: the next tick updates, what is known of channels stays."""
        self._controller.reset()
        self._instruction_changed = False

    def change_instruction(self) -> None:
        """As `Channels.change_instruction`: the next tick updates."""
        self._instruction_changed = True

    def settle(self, timeout_s: float) -> bool:
        """As `Channels.settle`."""
        return self.worker.wait(timeout_s)

    def take_notes(self) -> tuple[str, ...]:
        """As `Channels.take_notes`."""
        notes = self.keeper.notes
        return tuple(notes.popleft() for _ in range(len(notes)))

    @contextmanager
    def rehearsal(self) -> Iterator[None]:
        """As `Channels.rehearsal`: ticks run dense and pruned by turns."""
        self._rehearsing, self._turn = True, False
        try:
            yield
        finally:
            self._rehearsing = False

    @contextmanager
    def tick(self) -> Iterator[ChannelTick]:
        """As `Channels.tick`."""
        if self._rehearsing:
            with self._rehearsed() as tick:
                yield tick
            return
        self.gate.begin()
        tick = AdaptiveTick(self)
        try:
            yield tick
        finally:
            tick.close()
            self.gate.end()

    def choose(self, features: Tensor) -> tuple[ChannelReport, EnergyTaps | None, Taken | None]:
        """Decides what a tick runs, by the towers' features [1, P, width] of its image.

        Returns:
            The report so far; taps where it runs dense and updates; layers that were taken where
            it runs pruned. With neither it runs dense.
        """
        similarities = self._detector.observe(features).tolist()
        decision = self._controller.decide(*similarities, self._instruction_changed)
        self._instruction_changed = False
        first = decision.reason is UpdateReason.FIRST
        similarity = None if first or math.isnan(similarities[0]) else similarities[0]
        self._note_failure()
        keeper = self.keeper
        pruned, ratio = keeper.pruned, keeper.ratio
        if self._newest_job and (pruned is None or pruned.oldest < self._newest_job):
            self._missed += 1
        wanted = self._retry or (pruned is None and not self.worker.busy)
        due = decision.update or wanted
        reason = decision.reason.value if decision.update else 'retry'
        if self._every_frame:
            reason = UpdateReason.EVERY_FRAME.value
        taps = self._free_taps() if due or self._every_frame else None
        # A tick that should have updated but cannot leaves that to the first one that can.
        self._retry = due and taps is None and not self._every_frame
        if self.dead:
            taps, ratio = None, 0.0
        if taps is not None:
            self._detector.mark_update()
        dense = ratio == 0.0 or pruned is None or (taps is not None and not self._in_gap)
        taken = None if dense else pruned.take()
        report = ChannelReport(
            ratio=0.0 if dense else ratio,
            age=0 if dense else self.gate.ticks - taken.oldest,
            similarity=similarity,
            updated=taps is not None,
            reason=reason if taps is not None else 'none',
            missed=self._missed,
            deviation=keeper.deviation,
            changed=keeper.changed,
        )
        return report, taps, taken

    def submit(self, job: UpdateJob) -> None:
        """Has a pattern chosen from a tick."""
        self._newest_job = job.tick
        pause = partial(self.gate.wait, job.tick)
        self._retry = False
        if not self.worker.submit(partial(self.keeper.update, job, pause)):
            job.taps.free = True

    def job(self, taps: EnergyTaps, passed: bool, inputs: TickInputs) -> UpdateJob:
        """What to choose from the tick under way."""
        event = None
        if inputs.visual.is_cuda:
            event = torch.cuda.Event()
            event.record()
        return UpdateJob(self.gate.ticks, taps, passed, inputs, event=event)

    @contextmanager
    def _rehearsed(self) -> Iterator[ChannelTick]:
        # Dense and pruned by turns, with taps that nobody needs at present.
        self._turn = not self._turn
        taps = self._free_taps() if self._turn else None
        pruned = None if self._turn else self.keeper.pruned
        taken = None if pruned is None else pruned.take()
        try:
            yield _Rehearsal(taken if taps is None else taps)
        finally:
            if taken is not None:
                taken.give_back()
            if taps is not None:
                taps.free = True

    def _free_taps(self) -> EnergyTaps | None:
        taps = next((taps for taps in self._taps if taps.free), None)
        if taps is not None:
            taps.free = False
        return taps

    def _note_failure(self) -> None:
        worker = self.worker
        if worker.failures == self._failures_seen:
            return
        self._failures_seen = worker.failures
        self._newest_job = 0
        for taps in self._taps:
            taps.free = True
        self._retry = not worker.dead
        what = 'ticks run dense from now on' if worker.dead else 'they are started again'
        self.keeper.notes.append(f'channel updates ended by {worker.last_error}: {what}')


class AdaptiveTick(ChannelTick):
    """A tick that runs dense and updates, or runs the layers that are to be had."""

    def __init__(self, channels: AdaptiveChannels) -> None:
        """Starts with nothing chosen."""
        self._channels = channels
        self._taps: EnergyTaps | None = None
        self._taken: Taken | None = None
        self._job: UpdateJob | None = None
        self._passed = True
        self._report = ChannelReport()

    @property
    def step_layers(self) -> tuple[nn.Module, ...] | None:
        """As `ChannelTick.step_layers`."""
        return None if self._taken is None else self._taken.layers

    def layers(self, features: Tensor) -> tuple[nn.Module, ...] | None:
        """As `ChannelTick.layers`."""
        channels = self._channels
        channels.gate.begin_reading()
        self._report, self._taps, self._taken = channels.choose(features)
        if self._taken is not None:
            self._passed = False
            return self._taken.layers
        return None if self._taps is None else self._taps.layers

    def has_read(self, inputs: TickInputs) -> None:
        """As `ChannelTick.has_read`."""
        self._let_go()
        if self._taps is None:
            return
        self._job = self._channels.job(self._taps, self._passed, inputs)
        self._taps = None
        self._channels.submit(self._job)

    def finish(self, actions: np.ndarray) -> None:
        """As `ChannelTick.finish`."""
        if self._job is not None:
            self._job.complete(actions)

    def close(self) -> None:
        """Ends the tick; harmless in any state."""
        if self._taken is not None and not self._taken.returned:
            self._await_device()
        self._let_go()
        if self._taps is not None:
            self._taps.free = True
        if self._job is not None:
            self._job.ready.set()
        self._channels.report = self._report

    def _await_device(self) -> None:
        # The tick broke off: what it has started may still read the layers.
        device = self._channels.device
        if device.type == 'cuda':
            with suppress(RuntimeError):
                torch.cuda.current_stream(device).synchronize()

    def _let_go(self) -> None:
        if self._taken is not None:
            self._taken.give_back()
        self._channels.gate.end_reading()


class _Rehearsal(ChannelTick):
    """A tick of which nothing is remembered."""

    def __init__(self, source: EnergyTaps | Taken | None) -> None:
        self._layers = None if source is None else source.layers
        if isinstance(source, Taken):
            self.step_layers = source.layers

    def layers(self, features: Tensor) -> tuple[nn.Module, ...] | None:
        return self._layers


def _options(config: AccelerationConfig) -> UpdateOptions:
    rate = config.channels_update_rate
    return UpdateOptions(
        rate=rate if rate > 0.0 else None,
        window=config.channels_window,
        max_age=config.channels_max_age,
    )
