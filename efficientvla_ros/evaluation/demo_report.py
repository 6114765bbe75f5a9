"""The demo's PNG report: success per episode, latency, rate and a film strip of key frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from efficientvla_ros.evaluation.demo_comparison import draw_comparison
from efficientvla_ros.evaluation.demo_summary import DemoSummary
from efficientvla_ros.evaluation.statistics import wilson_interval
from efficientvla_ros.types import InputError

GOOD, BAD, ACCENT, MUTED, INK = '#2f9e5b', '#d64545', '#3b6fd4', '#9aa3ad', '#22262b'

FRAMES_PER_STRIP = 6
CHARTS_INCHES = 4.9
TASKS_INCHES, COMPARISON_INCHES = 0.24, 1.45
STRIP_INCHES = 2.35
_HEAD_INCHES, _FEET_INCHES = 1.1, 0.62
_LEFT, _RIGHT = 0.055, 0.95


@dataclass(frozen=True)
class FilmStrip:
    """Pictures of one episode in order of time.

    Attributes:
        title: e.g. 'episode 3: pick orange - success'.
        frames: uint8 [height, width, 3] RGB each, all of one size.
        captions: one short text per frame, e.g. '1.2 s'.
    """

    title: str
    frames: Sequence[np.ndarray]
    captions: Sequence[str]


def key_frame_indices(count: int, wanted: int = FRAMES_PER_STRIP) -> list[int]:
    """Evenly spread indices into `count` frames, first and last included, without repeats."""
    if count <= 0:
        return []
    return sorted(set(np.linspace(0, count - 1, min(wanted, count)).round().astype(int).tolist()))


def write_report(path: Path, summary: DemoSummary, strips: Sequence[FilmStrip] = ()) -> None:
    """Draws the report.

    Args:
        path: the PNG to write.
        summary: figures of the run; an empty run gives a page that says so.
        strips: one row of pictures each.

    Raises:
        InputError: the file cannot be written.
    """
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib.figure import Figure

    several_tasks = TASKS_INCHES if len(summary.by_task) > 1 else 0.0
    comparison = COMPARISON_INCHES if summary.compared else 0.0
    height = CHARTS_INCHES + several_tasks + comparison + STRIP_INCHES * len(strips)
    figure = Figure(figsize=(13, height), dpi=110, facecolor='white')
    charts = figure.add_gridspec(
        1,
        3,
        width_ratios=[1.25, 1, 1],
        left=_LEFT,
        right=_RIGHT,
        wspace=0.26,
        top=1 - (_HEAD_INCHES + several_tasks) / height,
        bottom=1 - (CHARTS_INCHES + several_tasks - _FEET_INCHES) / height,
    )
    _draw_title(figure, summary)
    _draw_episodes(figure.add_subplot(charts[0, 0]), summary)
    _draw_stages(figure.add_subplot(charts[0, 1]), summary)
    _draw_timeline(figure.add_subplot(charts[0, 2]), summary)
    if summary.compared:
        _draw_presets(figure, summary, STRIP_INCHES * len(strips))
    for index, strip in enumerate(strips):
        bottom = STRIP_INCHES * (len(strips) - 1 - index) + 0.12
        box = (0.055, bottom / height, 0.93, (STRIP_INCHES - 0.36) / height)
        _draw_strip(figure.add_axes(box), strip)
    try:
        figure.savefig(path)
    except OSError as error:
        raise InputError(f'report {path}: cannot be written ({error.strerror})') from error


def _draw_presets(figure, summary: DemoSummary, above: float) -> None:
    height = figure.get_figheight()
    pair = figure.add_gridspec(
        1,
        2,
        left=_LEFT + 0.05,  # names of presets are longer than numbers
        right=_RIGHT,
        wspace=0.26,
        top=(above + COMPARISON_INCHES - 0.3) / height,
        bottom=(above + 0.4) / height,
    )
    axes = [figure.add_subplot(pair[0, column]) for column in range(2)]
    draw_comparison(*axes, summary.presets)


def _draw_title(figure, summary: DemoSummary) -> None:
    count = len(summary.episodes)
    low, high = wilson_interval(summary.successes, count)
    settings = summary.settings
    headline = (
        f'{summary.successes} of {count} episodes succeeded '
        f'({100 * summary.success_rate:.0f} %, 95 % interval {100 * low:.0f}-{100 * high:.0f} %)'
        if count
        else 'no episode finished'
    )
    detail = (
        f'task {settings.get("task")}, model {settings.get("model")}, '
        f'{_presets_text(summary)}, first seed {settings.get("seed")}'
    )
    if summary.changed:
        detail += (
            f'; instruction changed in mid-run: {summary.changed_successes} of '
            f'{summary.changed} succeeded'
        )
    if summary.failure:
        detail += f'; {summary.failure}'
    height = figure.get_figheight()
    figure.text(0.055, 1 - 0.38 / height, headline, fontsize=16, color=INK, weight='bold')
    figure.text(
        0.055,
        1 - 0.66 / height,
        detail,
        fontsize=10.5,
        color=BAD if summary.failure else '#555c64',
    )
    counts = summary.by_task
    if len(counts) > 1:
        tasks = ', '.join(f'{task} {won} of {of}' for task, (won, of) in counts.items())
        figure.text(0.055, 1 - 0.9 / height, tasks, fontsize=10.5, color='#555c64')


def _presets_text(summary: DemoSummary) -> str:
    if summary.compared:
        return 'presets ' + ' and '.join(summary.compared)
    return f'preset {summary.settings.get("preset", "dense")}'


def _clean(axes, title: str) -> None:
    axes.set_title(title, loc='left', fontsize=11 if len(title) < 46 else 9, color=INK)
    for side in ('top', 'right'):
        axes.spines[side].set_visible(False)
    axes.tick_params(labelsize=9, colors='#555c64')


def _draw_absent(axes, text: str) -> None:
    axes.axis('off')
    axes.text(0, 0.9, text, color=MUTED, transform=axes.transAxes)


def _draw_episodes(axes, summary: DemoSummary) -> None:
    _clean(axes, 'time to outcome per episode')
    rows = summary.episodes
    if not rows:
        _draw_absent(axes, 'no episode finished')
        return
    for position, row in enumerate(rows):
        axes.bar(
            position,
            row.duration,
            color=GOOD if row.success else BAD,
            width=0.72,
            hatch='//' if row.instruction_changed else '',
            edgecolor='white',
            linewidth=0,
        )
        if not row.success:
            axes.text(
                position,
                0.0,
                f'  {row.outcome.replace("_", " ")}',
                ha='center',
                va='bottom',
                rotation=90,  # wider than a bar among many
                fontsize=8,
                color=INK,
            )
    ticks = range(0, len(rows), 1 + len(rows) // 17)  # more labels would overlap
    axes.set_xticks(ticks, [str(rows[tick].episode + 1) for tick in ticks])
    axes.set_xlabel('episode', fontsize=9)
    axes.set_ylabel('simulated time [s]', fontsize=9)
    axes.set_ylim(0, 1.18 * max(row.duration for row in rows) + 1e-3)
    from matplotlib.patches import Patch

    handles = [Patch(color=GOOD, label='success')]
    if summary.successes < len(rows):
        handles.append(Patch(color=BAD, label='no success'))
    if summary.changed:
        handles.append(
            Patch(facecolor=MUTED, hatch='//', edgecolor='white', label='instruction changed')
        )
    axes.legend(
        handles=handles,
        fontsize=8,
        frameon=False,
        ncols=3,
        loc='upper left',
        borderaxespad=0.1,
        handlelength=1.2,
        columnspacing=1.0,
    )


def _draw_stages(axes, summary: DemoSummary) -> None:
    _clean(axes, f'{summary.measured or "inference"} by stage: p50 (bar), p95 (line)')
    if not summary.stages:
        _draw_absent(axes, 'not reported')
        return
    names = [stage.name.replace('_', ' ') for stage in summary.stages]
    median = np.array([stage.p50 for stage in summary.stages]) * 1e3
    tail = np.array([stage.p95 for stage in summary.stages]) * 1e3
    y = np.arange(len(names))
    axes.barh(y, median, color=ACCENT, height=0.6)
    axes.hlines(y, median, tail, color=INK, linewidth=1.4)
    axes.plot(tail, y, '|', color=INK, markersize=9)
    for position, (p50, p95) in enumerate(zip(median, tail, strict=True)):
        axes.text(
            p95 + 0.02 * tail.max(),
            position,
            f'{p50:.1f} / {p95:.1f}',
            va='center',
            fontsize=8,
            color=INK,
        )
    axes.set_yticks(y, names)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.3 * max(tail.max(), 1e-3))
    axes.set_xlabel('ms', fontsize=9)


def _draw_timeline(axes, summary: DemoSummary) -> None:
    latest = summary.latest
    if latest is None:
        _clean(axes, 'camera to command')
        _draw_absent(axes, 'not reported')
        return
    p50, p95 = latest.latency_p50 * 1e3, latest.latency_p95 * 1e3
    figures = f'p50 {p50:.0f} ms, p95 {p95:.0f} ms'
    if summary.measured:
        figures = f'{p50:.0f} / {p95:.0f} ms ({summary.measured})'
    _clean(axes, f'camera to command: {figures}')
    time = [sample.time for sample in summary.samples]
    axes.plot(
        time, [sample.latency_p50 * 1e3 for sample in summary.samples], color=ACCENT, label='p50'
    )
    axes.plot(
        time,
        [sample.latency_p95 * 1e3 for sample in summary.samples],
        color=ACCENT,
        linestyle=':',
        label='p95',
    )
    top = max(sample.latency_p95 for sample in summary.samples) * 1e3
    axes.set_ylim(0, 1.25 * top + 1e-3)
    axes.set_xlabel('time [s]', fontsize=9)
    axes.set_ylabel('latency [ms]', fontsize=9, color=ACCENT)
    rate = axes.twinx()
    rate.plot(time, [sample.rate for sample in summary.samples], color=MUTED)
    rate.set_ylim(0, 2.6 * max(sample.rate for sample in summary.samples) + 1e-3)
    rate.set_ylabel('inferences per second', fontsize=9, color='#6b747d')
    rate.tick_params(labelsize=9, colors='#6b747d')
    rate.spines['top'].set_visible(False)
    axes.legend(fontsize=8, frameon=False, loc='lower left')


def _draw_strip(axes, strip: FilmStrip) -> None:
    axes.set_title(strip.title, loc='left', fontsize=10, color=INK)
    axes.axis('off')
    axes.set_anchor('NW')
    if not strip.frames:
        return
    height, width = strip.frames[0].shape[:2]
    gap = max(2, width // 40)
    film = np.full((height, FRAMES_PER_STRIP * (width + gap) - gap, 3), 255, np.uint8)
    for index, frame in enumerate(strip.frames[:FRAMES_PER_STRIP]):
        film[:, index * (width + gap) : index * (width + gap) + width] = frame
    axes.imshow(film, interpolation='lanczos')
    for index, caption in enumerate(strip.captions[:FRAMES_PER_STRIP]):
        axes.text(
            index * (width + gap) + 0.03 * width,
            0.93 * height,
            caption,
            fontsize=8,
            color='white',
            bbox={'facecolor': INK, 'alpha': 0.65, 'pad': 1.5, 'lw': 0},
        )
