"""Runs a recording through the policy: the live node's ingest, policy and commander, no ROS."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from efficientvla_ros.cli.replay_topics import CLOCK_ROLE, IMAGES, Wanted
from efficientvla_ros.control.reasons import HoldReason
from efficientvla_ros.ros.commander import Commander
from efficientvla_ros.ros.ingest import Ingest, Listeners
from efficientvla_ros.ros.message_fields import stamp_to_ns
from efficientvla_ros.ros.parameters.table import Settings
from efficientvla_ros.ros.policy import Policy
from efficientvla_ros.ros.topics import INSTRUCTION, JOINT_STATES, ROBOT_DESCRIPTION
from efficientvla_ros.types import (
    ActionChunk,
    JointCommand,
    JointState,
    Observation,
    TickReport,
)

if TYPE_CHECKING:
    from efficientvla_ros.runtime.engine import Engine

SETTLE_S = 60.0
"""Longest wait for channel updates between two inferences, s."""

Message = tuple[Wanted, int, Any]


@dataclass
class Tick:
    """What one frame came to.

    Attributes:
        time_ns: time of the recording at which it was worked on.
        stamp_ns: stamp of the observation; of the newest image where nothing was planned.
        instruction: in force; None before the first.
        chunk: the plan, if there was one.
        command: what would have gone to the arm, if anything.
        reason: why nothing did.
        detail: one line with the numbers behind the reason.
        report: what the inference cost and did, if there was one.
    """

    time_ns: int
    stamp_ns: int
    instruction: str | None
    chunk: ActionChunk | None = None
    command: JointCommand | None = None
    reason: HoldReason = HoldReason.NONE
    detail: str = ''
    report: TickReport | None = None


class _Commander(Commander):
    """The live node's, which tells what became of every tick."""

    told: Callable[[HoldReason, str, JointCommand | None], None]

    def hold(self, reason: HoldReason, detail: str, epoch: int | None = None) -> bool:
        self.told(reason, detail, None)
        return super().hold(reason, detail, epoch)

    def execute(self, chunk, joints, epoch):
        result = super().execute(chunk, joints, epoch)
        if result is None:
            self.told(HoldReason.NONE, 'thrown away: a new instruction came meanwhile', None)
        else:
            self.told(result.reason, result.detail, result.command)
        return result


class _Ahead:
    """Messages that can be looked at before it is their turn."""

    def __init__(self, messages: Iterable[Message]) -> None:
        self._messages = iter(messages)
        self._seen: deque[Message] = deque()

    def __iter__(self) -> Iterator[Message]:
        while True:
            if not self._seen:
                message = next(self._messages, None)
                if message is None:
                    return
                self._seen.append(message)
            yield self._seen.popleft()

    def until(self, is_later: Callable[[Message], bool]) -> Iterator[Message]:
        """Messages from the next one on, before the first one that comes later."""
        place = 0
        while True:
            if place == len(self._seen):
                message = next(self._messages, None)
                if message is None:
                    return
                self._seen.append(message)
            if is_later(self._seen[place]):
                return
            yield self._seen[place]
            place += 1


class Replay:
    """One run through a recording.

    Every frame is planned as it comes, or with `rate` the newest one at each tick, as the node
    does it.
    """

    def __init__(
        self,
        engine: Engine,
        settings: Settings,
        *,
        latency_s: float | None = 0.0,
        rate: float = 0.0,
        follows_clock: bool = False,
        warn: Callable[[str], None] = lambda line: None,
    ) -> None:
        """Sets up a run with nothing heard.

        Args:
            engine: the model, with the plan that is to be used.
            settings: parameters of the node.
            latency_s: time from the start of an inference to the command; None takes what the
                inference takes here.
            rate: ticks per second; 0 plans every frame.
            follows_clock: whether time is that of /clock, not of recording.
            warn: takes lines of the log.

        Raises:
            InputError: the model wants another number of cameras.
        """
        self.missed = 0
        self.images_rejected = 0
        self._engine = engine
        self._latency = latency_s
        self._period = round(1e9 / rate) if rate else 0
        self._follows_clock = follows_clock
        self._warn = warn
        # `_time` is the recording's; `_now` is ahead of it while an inference takes its time.
        self._time = self._now = self._busy_until = 0
        self._due = 0
        self._hungry = self._asked = self._looked_ahead = False
        self._messages = _Ahead(())
        self._tick = Tick(0, 0, None)
        self._lead = settings['cameras.names'][0]
        self._frame = 0
        self._ticks: dict[tuple, Tick] = {}
        listeners = Listeners(lambda: None, self._new_instruction, self._clock_reset)
        self._ingest = Ingest(settings, listeners, warn)
        self._ingest.waits_for_fresh = False  # the times of a recording are not those of now
        self._commander = _Commander(lambda command: None, lambda: self._now, lambda verdict: None)
        self._commander.told = self._told
        self._policy = Policy(
            engine,
            self._ingest,
            self._commander,
            self,
            self,
            lambda: settings,
            lambda: self._now,
            lambda traceback: None,
            note=warn,
        )
        self._commander.open()

    @property
    def counters(self) -> dict[str, int]:
        """How often each reason and intervention happened in control; empty without an arm."""
        controller = self._commander.controller
        return {} if controller is None else dict(controller.counters)

    def instruct(self, text: str) -> None:
        """Gives an instruction before the first message."""
        self._ingest.on_instruction(SimpleNamespace(data=text))

    def describe(self, urdf: str) -> None:
        """Gives a robot description before the first message."""
        self._ingest.on_description(SimpleNamespace(data=urdf))

    def run(self, messages: Iterable[Message], frames: int | None = None) -> list[Tick]:
        """Plays messages in the order of their time; ends after so many frames, if given."""
        self._messages = _Ahead(messages)
        for wanted, received_ns, message in self._messages:
            self._pass_time(wanted, received_ns, message)
            self._hear(wanted, message)
            image = wanted.role == IMAGES
            if not self._period:
                due = image or self._asked
            else:
                due = self._time >= self._busy_until and (self._asked or (image and self._hungry))
            if due:
                self._run_tick()
            if frames is not None and len(self._ticks) >= frames:
                break
        return list(self._ticks.values())

    def _pass_time(self, wanted: Wanted, received_ns: int, message: Any) -> None:
        if not self._follows_clock:
            self._time = received_ns
        elif wanted.role == CLOCK_ROLE:
            self._time = stamp_to_ns(message.clock)
        if self._period and self._time:
            self._tick_until(self._time)
        self._now = self._time

    def _hear(self, wanted: Wanted, message: Any) -> None:
        if wanted.role == IMAGES:
            self._frame += wanted.camera == self._lead
            self._ingest.on_image(wanted.camera, message, self._time)
        elif wanted.role == JOINT_STATES:
            self._ingest.on_joint_state(message, self._time)
        elif wanted.role == INSTRUCTION:
            self._ingest.on_instruction(message)
        elif wanted.role == ROBOT_DESCRIPTION:
            self._ingest.on_description(message)

    def _tick_until(self, time_ns: int) -> None:
        """Runs the ticks that were due before a time, one after the other."""
        self._due = self._due or time_ns + self._period
        while not self._hungry:
            start = max(self._due, self._busy_until)
            if start > time_ns:
                return
            self._now = start
            behind = (start - self._due) // self._period
            self.missed += behind
            self._due += (behind + 1) * self._period
            self._run_tick()

    def _run_tick(self) -> None:
        self._asked = False
        if not self._frame:
            return
        instruction, stamp_ns = self._ingest.instruction, self._ingest.lead_stamp_ns
        self._tick = tick = Tick(self._now, stamp_ns or 0, instruction)
        states = self._ingest.joints.states
        try:
            worked = self._policy.tick()
        except Exception as error:  # as the node: what nobody foresaw holds the arm
            self._policy.failed(error)
            worked = True
        if self._looked_ahead:
            self._restore(states)
        self._hungry = not worked
        self._busy_until = max(self._busy_until, self._now)
        if not worked:
            return
        verdict = self._commander.verdict
        if tick.chunk is None and tick.reason is HoldReason.NONE:
            tick.reason, tick.detail = verdict.reason, verdict.detail
        self._engine.settle(SETTLE_S)
        key = (self._frame, instruction)
        before = self._ticks.get(key)
        # A frame that had to be held may be planned when another camera's image comes.
        if before is None or before.chunk is None or tick.chunk is not None:
            self._ticks[key] = tick

    def _told(self, reason: HoldReason, detail: str, command: JointCommand | None) -> None:
        tick = self._tick
        tick.reason, tick.detail, tick.command = reason, detail, command

    def _hear_meanwhile(self) -> None:
        """Hears what came while the inference took its time, as far as it matters to it."""
        self._looked_ahead = True
        for wanted, received_ns, message in self._messages.until(self._is_later):
            if wanted.role == JOINT_STATES:
                stamp_ns = stamp_to_ns(message.header.stamp) or received_ns
                self._ingest.keep_joints(message, stamp_ns)
            elif wanted.role == INSTRUCTION and message.data != self._ingest.instruction:
                self._commander.discard()

    def _is_later(self, message: Message) -> bool:
        wanted, received_ns, content = message
        if self._follows_clock:
            return wanted.role == CLOCK_ROLE and stamp_to_ns(content.clock) > self._now
        return received_ns > self._now

    def _restore(self, states: Sequence[JointState]) -> None:
        """Back to what was known before the inference: the next frame may be from before then."""
        self._looked_ahead = False
        self._ingest.joints.clear()
        for state in states:
            self._ingest.joints.add(state)

    def _new_instruction(self) -> None:
        self._commander.discard()
        self._asked = True

    def _clock_reset(self) -> None:
        detail = 'time stamps jumped back'
        self._warn(f'{detail}: starting over')
        self._policy.reset()
        self._commander.start_over(HoldReason.CLOCK_JUMPED, detail)

    @property
    def busy(self) -> bool:
        """A recorded arm can always be told something new."""
        return False

    def publish_chunk(self, chunk: ActionChunk) -> None:
        """Takes a plan."""
        self._tick.chunk, self._tick.stamp_ns = chunk, chunk.stamp_ns

    def inference_started(self, age_s: float) -> None:
        """Images are planned as they come: how old they are says nothing here."""

    def inference_done(
        self, report: TickReport, observation: Observation, chunk: ActionChunk
    ) -> None:
        """Takes what an inference cost; its time passes."""
        self._tick.report = report
        seconds = report.total_seconds if self._latency is None else self._latency
        self._now += round(seconds * 1e9)
        if seconds > 0.0:
            self._hear_meanwhile()

    def image_rejected(self) -> None:
        """Counts an image that could not be used."""
        self.images_rejected += 1

    def tick_failed(self, error: str) -> None:
        """The reason of the hold says it."""

    def commanded(self, command: JointCommand, chunk: ActionChunk, now_ns: int) -> None:
        """The command is kept."""
