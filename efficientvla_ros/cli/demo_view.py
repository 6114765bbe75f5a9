"""How a running demo looks in the terminal: a live table, or plain lines where that is no use."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from efficientvla_ros.evaluation.demo_presets import speed_up
from efficientvla_ros.evaluation.demo_summary import DemoSummary, EpisodeRow
from efficientvla_ros.evaluation.statistics import wilson_interval

_WIDTH = 78
_BAR = 30


@dataclass
class DemoState:
    """What is shown while the demo runs.

    Attributes:
        task: name of the task, or 'all'.
        episodes: how many are planned.
        phase: what happens before the first episode and after the last one, '' in between.
        episode: running number from 0, -1 before the first.
        instruction: the instruction in force.
        changed: it was changed in mid-run.
        elapsed: time in the episode, s.
        policy_state: e.g. 'running' or 'holding (no_instruction)'.
        summary: finished episodes and latencies so far.
        preset: the one in force.
    """

    task: str
    episodes: int
    phase: str = ''
    episode: int = -1
    instruction: str = ''
    changed: bool = False
    elapsed: float = 0.0
    policy_state: str = ''
    summary: DemoSummary = field(default_factory=lambda: DemoSummary(settings={}))
    preset: str = ''


class View(Protocol):
    """Shows the demo's progress."""

    def update(self, state: DemoState) -> None:
        """Called many times a second."""

    def note(self, text: str) -> None:
        """Shows a line that stays."""

    def episode_ended(self, row: EpisodeRow, state: DemoState) -> None:
        """Called once per episode."""

    def close(self) -> None:
        """Leaves the terminal in order."""


def success_line(summary: DemoSummary) -> str:
    """E.g. '9 of 10 (90 %, 95 % interval 60-98 %)'."""
    count = len(summary.episodes)
    if not count:
        return 'no episode finished'
    low, high = wilson_interval(summary.successes, count)
    return (
        f'{summary.successes} of {count} ({100 * summary.success_rate:.0f} %, '
        f'95 % interval {100 * low:.0f}-{100 * high:.0f} %)'
    )


def tasks_line(summary: DemoSummary) -> str:
    """E.g. 'pick 2/2, move_near 1/2'; '' where there is one task."""
    counts = summary.by_task
    if len(counts) < 2:
        return ''
    return ', '.join(f'{task} {won}/{of}' for task, (won, of) in counts.items())


def presets_line(summary: DemoSummary) -> str:
    """E.g. 'dense 46 ms 5/6 | combined 19 ms 5/6 | 2.4x'; '' where nothing is compared."""
    presets = summary.presets
    return ' | '.join(filter(None, (*(preset.short for preset in presets), speed_up(presets))))


def episode_line(row: EpisodeRow, episodes: int) -> str:
    """One finished episode in words."""
    lifted = f', lifted {row.lifted_object}' if row.outcome == 'wrong_object' else ''
    return (
        f'episode {row.episode + 1}/{episodes}  {row.title}: '
        f'{row.outcome.replace("_", " ")}{lifted} after {row.duration:.1f} s'
    )


class PlainView:
    """One line per event, for logs and pipes."""

    def __init__(self, console: Console) -> None:
        """Writes to that console."""
        self._console = console
        self._phase = ''

    def update(self, state: DemoState) -> None:
        """Prints a phase once, when it begins."""
        phase = state.phase.partition(' (')[0]
        if phase and phase != self._phase:
            self.note(phase)
        self._phase = phase

    def note(self, text: str) -> None:
        """Prints the line."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def episode_ended(self, row: EpisodeRow, state: DemoState) -> None:
        """Prints the episode and the success so far."""
        parts = (episode_line(row, state.episodes), success_line(state.summary))
        self.note('; '.join(filter(None, (*parts, presets_line(state.summary)))))

    def close(self) -> None:
        """Nothing to do."""


class LiveView:
    """A panel that is redrawn in place."""

    def __init__(self, console: Console) -> None:
        """Starts drawing."""
        self._console = console
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._live.start()

    def update(self, state: DemoState) -> None:
        """Redraws the panel."""
        self._live.update(render(state), refresh=True)

    def note(self, text: str) -> None:
        """Prints the line above the panel."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def episode_ended(self, row: EpisodeRow, state: DemoState) -> None:
        """Prints the episode above the panel."""
        style = 'green' if row.success else 'red'
        mark = Text('✓ ' if row.success else '✗ ', style=style)
        self._console.print(mark + Text(episode_line(row, state.episodes)), soft_wrap=True)

    def close(self) -> None:
        """Removes the panel; what was printed stays."""
        self._live.stop()


def make_view(console: Console, headless: bool) -> View:
    """The live panel on a terminal, plain lines elsewhere or when asked for."""
    if console.is_terminal and not console.is_dumb_terminal and not headless:
        return LiveView(console)
    return PlainView(console)


def render(state: DemoState) -> Panel:
    """Draws the panel."""
    head = Table.grid(padding=(0, 2))
    head.add_column(style='dim', no_wrap=True)
    head.add_column()
    head.add_row('task', state.task)
    if state.phase:
        head.add_row('now', Text(state.phase, style='cyan'))
    else:
        instruction = Text(state.instruction, style='bold')
        if state.changed:
            instruction.append('  changed in mid-run', style='yellow')
        head.add_row('instruction', instruction)
        head.add_row('episode', f'{state.episode + 1} of {state.episodes}, {state.elapsed:4.1f} s')
    head.add_row('success', _success(state))
    if state.summary.compared:
        head.add_row('presets', _presets(state))
    head.add_row('policy', state.policy_state or 'not heard yet')
    parts = [head]
    if state.summary.stages:
        parts += [Text(), _stages(state.summary)]
    return Panel(
        Group(*parts), title='efficientvla demo', title_align='left', width=_WIDTH, padding=(0, 1)
    )


def _success(state: DemoState) -> Text:
    marks = Text()
    for row in state.summary.episodes[-40:]:
        marks.append('● ' if row.success else '○ ', style='green' if row.success else 'red')
    if state.summary.episodes:
        marks.append('\n' + success_line(state.summary))
    else:
        marks.append('-', style='dim')
    if tasks := tasks_line(state.summary):
        marks.append('\n' + tasks)
    return marks


def _presets(state: DemoState) -> Text:
    """The compared presets, the one in force in bright text."""
    line = Text()
    presets = state.summary.presets
    for preset in presets:
        line.append(preset.short, style='bold' if preset.name == state.preset else 'dim')
        line.append('   ')
    return line.append(speed_up(presets), style='green')


def _stages(summary: DemoSummary) -> Group:
    longest = max(stage.p95 for stage in summary.stages) or 1.0
    table = Table(box=None, padding=(0, 2, 0, 0), header_style='dim')
    table.add_column('stage')
    table.add_column('p50 ms', justify='right')
    table.add_column('p95 ms', justify='right')
    table.add_column('')
    for stage in summary.stages:
        bar = ProgressBar(
            total=longest,
            completed=stage.p50,
            width=_BAR,
            complete_style='blue',
            finished_style='blue',
        )
        table.add_row(
            stage.name.replace('_', ' '), f'{stage.p50 * 1e3:.1f}', f'{stage.p95 * 1e3:.1f}', bar
        )
    latest = summary.latest
    if latest is None:
        return Group(table)
    table.add_row(
        'camera to command',
        f'{latest.latency_p50 * 1e3:.0f}',
        f'{latest.latency_p95 * 1e3:.0f}',
        f'{latest.rate:.1f} inferences per second',
        style='bold',
    )
    return Group(table)
