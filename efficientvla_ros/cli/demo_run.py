"""One demo from start to end: processes, episodes, changed instructions and presets, results."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from efficientvla_ros.cli.child_processes import ChildProcess, stop_all
from efficientvla_ros.cli.demo_options import DemoOptions
from efficientvla_ros.cli.demo_processes import node_environment, start_policy, start_simulator
from efficientvla_ros.cli.demo_recorder import DemoRecorder
from efficientvla_ros.cli.demo_schedule import Schedule, Slot, other_instruction
from efficientvla_ros.cli.demo_view import DemoState, View
from efficientvla_ros.cli.process_usage import ProcessUsage
from efficientvla_ros.evaluation.demo_summary import DemoSummary, EpisodeRow, StatusSample
from efficientvla_ros.evaluation.video import Caption
from efficientvla_ros.ros.demo_client import DemoClient

CHANGE_AFTER = 1.0
"""Seconds into an episode at which the instruction is changed: nothing is grasped yet."""

STALE_CAMERA = 10.0
START_EPISODE = 10.0
CHANGE_PRESET = 60.0
"""Longest wait for another preset, s: preparing it slices weights."""

_TICK = 0.05
_NS = 1_000_000_000


class DemoError(Exception):
    """The run cannot go on: the message says why, `detail` holds a log's tail."""

    def __init__(self, message: str, detail: str = '') -> None:
        super().__init__(message)
        self.detail = detail


class DemoInterruptedError(Exception):
    """The user asked the demo to stop."""


class DemoRun:
    """Runs the demo; `execute` once, then `close`.

    Attributes:
        summary: figures so far.
        recorder: video and key frames.
    """

    def __init__(self, options: DemoOptions, view: View, interrupted: Callable[[], bool]) -> None:
        """Prepares a run; nothing is started yet.

        Args:
            options: what to do.
            view: where progress is shown.
            interrupted: says whether the user wants to stop.

        Raises:
            InputError: the video cannot be written.
        """
        self._options = options
        self._view = view
        self._interrupted = interrupted
        self._children: list[ChildProcess] = []
        self._client: DemoClient | None = None
        self._schedule = Schedule(
            options.task,
            options.episodes,
            options.seed,
            options.presets,
            options.setting,
            options.changes,
        )
        self._shown = 0.0
        self._sampled = 0.0
        self._first_episode = 0.0
        self.recorder = DemoRecorder(options.out / 'demo.mp4' if options.video else None)
        self.summary = DemoSummary(
            settings=options.settings(),
            compared=options.presets if self._schedule.comparing else (),
        )
        self._state = DemoState(
            options.task, self._schedule.total, summary=self.summary, preset=options.preset
        )

    def execute(self) -> None:
        """Starts the nodes and runs all episodes.

        Raises:
            DemoError: a node died, the policy did not start or refused a preset, or the simulator
                went silent.
            DemoInterruptedError: the user asked to stop.
        """
        self._start()
        self._wait_for_policy()
        self._first_episode = time.monotonic()
        usage = [ProcessUsage(child) for child in self._children]
        self.summary.plan_times.begin(self._options.preset, self._client.policy.plans)
        for index in range(self._schedule.total):
            slot = self._schedule.slot(index)
            self._use_preset(slot.preset)
            self._run_episode(index, slot)
        self.summary.children = {entry.name: entry.figures() for entry in usage}

    def close(self) -> None:
        """Ends every process that was started and finishes the video."""
        if self._client is not None:
            self._client.close()
        stop_all(self._children)
        self.recorder.close()

    def _start(self) -> None:
        options = self._options
        logs = options.out / 'logs'
        logs.mkdir(parents=True, exist_ok=True)
        env = node_environment(options.domain_id, logs)
        self._phase('starting simulator and policy')
        self._children.append(
            start_simulator(
                task=options.task,
                setting=options.setting,
                seed=options.seed,
                repeat=len(options.presets),
                side=options.image_side,
                logs=logs,
                env=env,
            )
        )
        self._children.append(
            start_policy(
                model=options.model,
                preset=options.preset,
                logs=logs,
                env=env,
                execution={
                    'control.execution': options.execution,
                    'control.execute_steps': options.execute_steps,
                },
            )
        )
        for name in ('ROS_LOG_DIR', 'ROS_AUTOMATIC_DISCOVERY_RANGE'):
            os.environ[name] = env[name]  # for our own node as well
        self._client = DemoClient(self.recorder.add, options.domain_id)

    def _wait_for_policy(self) -> None:
        start = time.monotonic()
        client = self._client
        while not (client.simulator_present and client.policy and client.policy.active):
            waited = time.monotonic() - start
            waiting_for = 'the model' if client.simulator_present else 'the simulator'
            self._phase(f'waiting for {waiting_for} ({waited:.0f} s)')
            self._step()
            if client.policy is not None and client.policy.failed_to_start:
                raise DemoError(
                    f'the policy reports: {client.policy.last_error}', self._children[1].log_tail()
                )
            if waited > self._options.start_timeout:
                raise DemoError(
                    f'{waiting_for} was not ready within {self._options.start_timeout:.0f} s',
                    self._children[1].log_tail(),
                )
        self._view.note(f'policy active after {time.monotonic() - start:.1f} s')

    def _use_preset(self, name: str) -> None:
        """Has the running policy work by a preset before the next episode is asked for."""
        client, state = self._client, self._state
        if name == state.preset:
            return
        times = self.summary.plan_times
        times.begin('', client.policy.plans)  # what is reported on the way belongs to neither
        deadline = time.monotonic() + CHANGE_PRESET
        asked, problem = False, None
        while problem is None:
            if not asked and client.parameters_present:
                client.ask_for_preset(name)
                asked = True
            self._step()
            problem = client.preset_answer() if asked else None
            if problem is None and time.monotonic() > deadline:
                problem = f'preset {name} was not in force within {CHANGE_PRESET:.0f} s'
        if problem:
            raise DemoError(problem, self._children[1].log_tail())
        state.preset = name
        times.begin(name, client.policy.plans)

    def _run_episode(self, index: int, slot: Slot) -> None:
        client, state = self._client, self._state
        before_ns = client.image_stamp_ns
        self.recorder.begin_episode()
        self._ask_for_episode()
        state.phase, state.episode, state.changed, state.elapsed = '', index, False, 0.0
        started = time.monotonic()
        limit = 4 * slot.scene.max_steps + 30.0  # real seconds, generous on a loaded machine
        start_ns = 0
        while not client.results:
            self._caption('')
            self._step()
            if not start_ns and client.image_stamp_ns > before_ns:
                start_ns = client.image_stamp_ns
            if start_ns:
                state.elapsed = (client.image_stamp_ns - start_ns) / _NS
            if slot.changes and not state.changed and state.elapsed >= CHANGE_AFTER:
                client.instruct(other_instruction(slot.scene))
                state.changed = True
            if time.monotonic() - started > limit:
                raise DemoError(f'episode {index + 1} did not end within {limit:.0f} s')
        self._finish_episode(index, slot)

    def _ask_for_episode(self) -> None:
        deadline = time.monotonic() + START_EPISODE
        self._client.ask_for_episode()
        while (problem := self._client.episode_answer()) is None:
            self._step()
            if time.monotonic() > deadline:
                raise DemoError(
                    f'the simulator did not start an episode within {START_EPISODE:.0f} s',
                    self._children[0].log_tail(),
                )
        if problem:
            raise DemoError(problem)

    def _finish_episode(self, index: int, slot: Slot) -> None:
        message = self._client.results.popleft()
        row = EpisodeRow(
            episode=index,
            seed=message.seed,
            instruction=message.instruction,
            instruction_changed=message.instruction_changed,
            change_planned=slot.changes,
            success=message.success,
            outcome=message.outcome,
            lifted_object=message.lifted_object,
            steps=message.steps,
            duration=message.duration,
            first_instruction=slot.scene.instruction,
            task=message.task,
            preset=slot.preset if self._schedule.comparing else '',
        )
        self.summary.episodes.append(row)
        self.recorder.end_episode(row)
        self._view.episode_ended(row, self._state)
        self._caption(row.outcome)
        end = time.monotonic() + self._options.show_outcome
        while time.monotonic() < end:
            self._step()
        self.recorder.caption = None

    def _step(self) -> None:
        """Handles messages for a moment, then looks after everything else."""
        self._client.spin(_TICK)
        if self._interrupted():
            raise DemoInterruptedError
        self._check_nodes()
        now = time.monotonic()
        if self._first_episode and now - self._client.image_time > STALE_CAMERA:
            raise DemoError(
                f'no camera image for {STALE_CAMERA:.0f} s', self._children[0].log_tail()
            )
        self._take_status(now)
        if now - self._shown > 0.2:
            self._shown = now
            self._view.update(self._state)

    def _check_nodes(self) -> None:
        policy = self._client.policy
        if self._first_episode and policy is not None and policy.state == 'error':
            raise DemoError(f'the policy reports: {policy.last_error}')
        for child in self._children:
            ended = child.how_it_ended()
            if ended:
                raise DemoError(f'the {ended}; its log is {child.log}', child.log_tail())

    def _take_status(self, now: float) -> None:
        policy = self._client.policy
        if policy is None:
            return
        reason = f' ({policy.hold_reason})' if policy.hold_reason else ''
        self._state.policy_state = policy.state + reason
        self._state.instruction = self._client.instruction
        self.summary.stages = policy.stages
        self.summary.measured = policy.preset if self._schedule.comparing else ''
        self.summary.plan_times.take(policy.plan_p50, policy.plans)
        self.summary.callback_p95 = policy.callback_p95
        self.summary.callback_max = policy.callback_max
        if self._first_episode and policy.latency_p50 and now - self._sampled > 0.5:
            self._sampled = now
            self.summary.samples.append(
                StatusSample(
                    now - self._first_episode,
                    policy.latency_p50,
                    policy.latency_p95,
                    policy.rate,
                    policy.memory,
                )
            )

    def _caption(self, outcome: str) -> None:
        state, policy = self._state, self._client.policy
        latency = (policy.latency_p50 if policy else 0.0) or float('nan')
        self.recorder.caption = Caption(
            instruction=self._client.instruction,
            episode=f'episode {state.episode + 1}/{state.episodes}',
            outcome=outcome,
            latency=latency,
            changed=state.changed,
            presets=self.summary.presets,
            active=state.preset,
        )

    def _phase(self, text: str) -> None:
        self._state.phase = text
        self._view.update(self._state)
