"""The demo's PNG report: success per episode, latency, rate and a film strip of key frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from efficientvla_ros.evaluation.demo_summary import DemoSummary
from efficientvla_ros.evaluation.statistics import wilson_interval
from efficientvla_ros.types import InputError

GOOD, BAD, ACCENT, MUTED, INK = '#2f9e5b', '#d64545', '#3b6fd4', '#9aa3ad', '#22262b'

FRAMES_PER_STRIP = 6
CHARTS_INCHES = 4.9
STRIP_INCHES = 2.35


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

    height = CHARTS_INCHES + STRIP_INCHES * len(strips)
    figure = Figure(figsize=(13, height), dpi=110, facecolor='white')
    charts_bottom = 1 - (CHARTS_INCHES - 0.62) / height
    charts = figure.add_gridspec(
        1,
        3,
        width_ratios=[1.25, 1, 1],
        left=0.055,
        right=0.95,
        wspace=0.26,
        top=1 - 1.1 / height,
        bottom=charts_bottom,
    )
    _draw_title(figure, summary)
    _draw_episodes(figure.add_subplot(charts[0, 0]), summary)
    _draw_stages(figure.add_subplot(charts[0, 1]), summary)
    _draw_timeline(figure.add_subplot(charts[0, 2]), summary)
    for index, strip in enumerate(strips):
        bottom = STRIP_INCHES * (len(strips) - 1 - index) + 0.12
        box = (0.055, bottom / height, 0.93, (STRIP_INCHES - 0.36) / height)
        _draw_strip(figure.add_axes(box), strip)
    try:
        figure.savefig(path)
    except OSError as error:
        raise InputError(f'report {path}: cannot be written ({error.strerror})') from error


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
        f'preset {settings.get("preset", "dense")}, first seed {settings.get("seed")}'
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


def _clean(axes, title: str) -> None:
    axes.set_title(title, loc='left', fontsize=11, color=INK)
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
                row.duration,
                row.outcome.replace('_', '\n'),
                ha='center',
                va='bottom',
                fontsize=7,
                color=BAD,
            )
    axes.set_xticks(range(len(rows)), [str(row.episode + 1) for row in rows])
    axes.set_xlabel('episode', fontsize=9)
    axes.set_ylabel('simulated time [s]', fontsize=9)
    axes.set_ylim(0, 1.28 * max(row.duration for row in rows) + 1e-3)
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
    _clean(axes, 'inference by stage: p50 (bar), p95 (line)')
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
    _clean(
        axes,
        f'camera to command: p50 {latest.latency_p50 * 1e3:.0f} ms, '
        f'p95 {latest.latency_p95 * 1e3:.0f} ms',
    )
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
