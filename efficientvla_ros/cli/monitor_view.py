"""How a policy node looks in the terminal: one panel, in two columns where there is room."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from efficientvla_ros.cli.monitor_charts import Glyphs, glyphs, percentile_bar, sparkline

if TYPE_CHECKING:
    from efficientvla_ros.ros.reporting.status_listener import PolicyStatus, WatchedNode

_WIDE = 110
_STYLES = {
    'unconfigured': 'dim', 'idle': 'dim', 'running': 'bold green', 'holding': 'bold yellow',
    'stopped': 'bold yellow', 'error': 'bold red',
}  # fmt: skip
_MESSAGES = 4


def render_all(
    nodes: Sequence[WatchedNode], width: int, encoding: str, silent_after: float
) -> RenderableType:
    """Draws all nodes: one in full, several in a line each under a hint.

    Args:
        nodes: at least one.
        width: of the terminal, characters.
        encoding: of the terminal.
        silent_after: seconds without a status after which a node counts as silent.
    """
    if len(nodes) == 1:
        return render(nodes[0], width, encoding, silent_after)
    lines = [Text(summary(watched, silent_after), style=_style(watched)) for watched in nodes]
    hint = Text('efficientvla monitor --node NAME shows one of them in full', style='dim')
    return Panel(Group(*lines, hint), title=f'{len(nodes)} policy nodes', title_align='left')


def render(watched: WatchedNode, width: int, encoding: str, silent_after: float) -> RenderableType:
    """Draws a node in full; arguments as `render_all`."""
    status = watched.status
    if status is None:
        body: RenderableType = Text(_silence(watched) or 'waiting for its first status')
    else:
        body = _body(watched, status, width, glyphs(encoding), silent_after)
    return Panel(
        body, title=Text(watched.name), title_align='left', width=min(width, 160), padding=(0, 1)
    )


def summary(watched: WatchedNode, silent_after: float) -> str:
    """One line that says what a node does."""
    status = watched.status
    if status is None or watched.silence > silent_after:
        return f'{watched.name}: {_silence(watched)}'
    parts = [_state(status) + (f' ({status.hold_reason})' if status.hold_reason else '')]
    if status.dry_run:
        parts.append('dry run')
    parts.append(f'{status.rate:.2f} Hz')
    parts.append(f'camera to command p50 {_ms(status.latency_p50)} p95 {_ms(status.latency_p95)}')
    parts.append(f'{status.ticks} ticks, {status.ticks_late} late, {status.ticks_held} held')
    if status.preset:
        parts.append(status.preset)
    return f'{watched.name}: ' + ', '.join(parts)


def _state(status: PolicyStatus) -> str:
    from efficientvla_ros.ros.commander import State

    return State(status.state).label


def _style(watched: WatchedNode) -> str:
    return '' if watched.status is None else _STYLES[_state(watched.status)]


def _silence(watched: WatchedNode) -> str:
    where = '' if watched.present else ': the node is gone'
    return f'no status for {watched.silence:.0f} s{where}'


def _body(
    watched: WatchedNode,
    status: PolicyStatus,
    width: int,
    symbols: Glyphs,
    silent_after: float,
) -> RenderableType:
    inside = min(width, 160) - 4
    head = _head(status)
    if watched.silence > silent_after:
        text = f' SILENT: {_silence(watched)}; what follows is old '
        head = Group(Text(text, style='bold white on red'), head)
    history = list(watched.history)
    if width < _WIDE:
        costs = _costs(status, inside, symbols)
        return Group(
            head, Text(), costs, Text(), _facts(status, history, inside, symbols),
            *_messages(history),
        )  # fmt: skip
    left = (inside - 3) // 2
    grid = Table.grid(padding=(0, 3, 0, 0))
    grid.add_column(width=left)
    grid.add_column(width=inside - 3 - left)
    grid.add_row(
        _costs(status, left, symbols), _facts(status, history, inside - 3 - left, symbols)
    )
    return Group(head, Text(), grid, *_messages(history))


def _head(status: PolicyStatus) -> RenderableType:
    line = Text()
    line.append(_state(status).upper(), style=_STYLES[_state(status)])
    if status.hold_reason:
        line.append(f'  {status.hold_reason}', style='yellow')
        line.append(f': {_printable(status.hold_detail)}' if status.hold_detail else '')
    facts = [f'speed {100 * status.speed_scale:.0f} %', status.interface, status.execution]
    if status.dry_run:
        facts.insert(0, 'DRY RUN, nothing is sent')
    second = Text('  '.join(fact for fact in facts if fact), style='dim')
    instruction = _printable(status.instruction) or '-'
    third = Text.assemble(('instruction  ', 'dim'), (instruction, 'bold'))
    return Group(line, second, third)


def _costs(status: PolicyStatus, width: int, symbols: Glyphs) -> RenderableType:
    """Percentiles of latencies and stages, with bars on one scale."""
    arrow = symbols.arrow
    rows = [
        (f'camera {arrow} command', _percentiles(status, 'latency')),
        (f'camera {arrow} inference', _percentiles(status, 'input')),
        ('inference', _percentiles(status, 'inference')),
    ]
    stages = zip(status.stage_names, status.stage_p50, status.stage_p95, status.stage_p99)
    rows += [(f'  {name}', tuple(values)) for name, *values in stages]
    full = max((values[2] for _, values in rows), default=0.0)
    table = Table.grid(padding=(0, 1))
    table.add_column(no_wrap=True, width=18 + len(arrow))
    for _ in range(3):
        table.add_column(justify='right', no_wrap=True, width=7)
    table.add_column(no_wrap=True)
    head = [Text(text, style='dim') for text in ('time in ms', 'p50', 'p95', 'p99')]
    table.add_row(*head, Text())
    bar = max(6, width - (18 + len(arrow)) - 3 * 7 - 5)
    for name, values in rows:
        cells = [f'{1e3 * value:.1f}' for value in values]
        table.add_row(name, *cells, percentile_bar(values, full, bar, symbols))
    return table


def _percentiles(status: PolicyStatus, prefix: str) -> tuple[float, float, float]:
    return tuple(getattr(status, f'{prefix}_p{fraction}') for fraction in (50, 95, 99))


def _facts(
    status: PolicyStatus, history: Sequence[PolicyStatus], width: int, symbols: Glyphs
) -> RenderableType:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style='dim', no_wrap=True, width=9)
    table.add_column()
    line = max(8, width - 42)
    rows: list[tuple[str, Text | str]] = [
        ('ticks', _ticks(status)),
        ('plans', _plans(status)),
        ('runs', _runs(status)),
        ('channels', _channels(status, history, line, symbols)),
        ('audit', _audit(status, history, line, symbols)),
    ]
    for index, name in enumerate(status.camera_names):
        rows.append(('' if index else 'cameras', _camera(status, index, name)))
    rows += [
        ('changed', _counts(status.intervention_names, status.intervention_counts)),
        ('held', _counts(status.hold_names, status.hold_counts)),
        ('latency', _latency(history, max(8, width - 32), symbols)),
        ('process', _process(status)),
    ]
    for title, content in rows:
        # A plain string would be read as markup.
        table.add_row(title, Text(content) if isinstance(content, str) else content)
    return table


def _latency(history: Sequence[PolicyStatus], width: int, symbols: Glyphs) -> str:
    values = [1e3 * sample.latency_p50 for sample in history if sample.latency_p50 > 0.0]
    if not values:
        return '-'
    return (
        f'{sparkline(values, width, symbols)} {min(values):.0f} to {max(values):.0f} ms'.lstrip()
    )


def _process(status: PolicyStatus) -> str:
    return (
        f'{status.memory / 1e6:.0f} MB, callbacks p95 {_ms(status.callback_p95)} '
        f'max {_ms(status.callback_max)}'
    )


def _ticks(status: PolicyStatus) -> Text:
    text = Text(f'{status.ticks} at {status.rate:.2f} Hz, due every {status.tick_period:.2f} s; ')
    missed = (
        ('late', status.ticks_late, 'bold red'),
        ('no image', status.ticks_without_image, ''),
        ('held', status.ticks_held, 'yellow'),
        ('discarded', status.ticks_discarded, ''),
        ('failed', status.ticks_failed, 'bold red'),
    )
    parts = [Text(f'{count} {name}', style=style) for name, count, style in missed if count]
    text.append_text(Text(', ').join(parts) if parts else Text('none missed', style='dim'))
    return text


def _plans(status: PolicyStatus) -> str:
    if not status.chunk_actions:
        return '-'
    return (
        f'{status.chunk_actions} actions, {status.chunk_waypoints} waypoints sent; left when '
        f'replaced {status.chunk_depth_p50:.2f} s (p05 {status.chunk_depth_p05:.2f})'
    )


def _runs(status: PolicyStatus) -> str:
    parts = [
        status.preset or '-',
        f'tokens {status.visual_tokens}/{status.visual_tokens_total}',
        f'layers {status.layers_run}/{status.layers_total}',
    ]
    if status.diffusion_steps_total:
        parts.append(f'diffusion steps {status.diffusion_steps}/{status.diffusion_steps_total}')
    return ', '.join(parts)


def _channels(
    status: PolicyStatus, history: Sequence[PolicyStatus], width: int, symbols: Glyphs
) -> str:
    if not status.channel_updates and not status.channel_ratio:
        return 'all run'
    line = sparkline([sample.channel_ratio for sample in history], width, symbols)
    reason = f' ({status.update_reason})' if status.update_reason else ''
    return (
        f'{100 * status.channel_ratio:.0f} % left out {line} age {status.pattern_age}, '
        f'similarity {_number(status.similarity, ".3f")}, {status.channel_updates} updates'
        f'{reason}, {status.updates_missed} missed'
    )


def _audit(
    status: PolicyStatus, history: Sequence[PolicyStatus], width: int, symbols: Glyphs
) -> str:
    values = status.audit_deviation
    if not len(values):
        return '-'
    line = sparkline([_moved(sample) for sample in history], width, symbols)
    turned = max(values[3:6], default=math.nan)
    gripper = values[6] if len(values) > 6 else math.nan
    return (
        f'off by {1e3 * _moved(status):.2f} mm {line} {_number(1e3 * turned, ".1f")} mrad, '
        f'gripper {_number(100 * gripper, ".0f")} %'
    )


def _moved(status: PolicyStatus) -> float:
    """The worst translation of the newest audit, m; NaN before the first."""
    return max(status.audit_deviation[:3], default=math.nan)


def _camera(status: PolicyStatus, index: int, name: str) -> Text:
    rate, age, jitter = (
        field[index] for field in (status.camera_rate, status.camera_age, status.camera_jitter)
    )
    if age < 0.0:
        return Text(f'{name}: no image yet', style='yellow')
    text = Text(f'{name}: {rate:.1f} Hz, {_ms(age)} old, jitter {_ms(jitter)}')
    if index == 0 and status.images_rejected:
        text.append(f', {status.images_rejected} rejected', style='yellow')
    return text


def _counts(names: Sequence[str], counts: Sequence[int]) -> str:
    return ', '.join(f'{name} {count}' for name, count in zip(names, counts)) or 'nothing'


def _messages(history: Sequence[PolicyStatus]) -> list[RenderableType]:
    """The newest changes of error and of what the engine changed by itself."""
    lines: list[Text] = []
    error = note = ''
    for sample in history:
        if sample.last_error and sample.last_error != error:
            lines.append(Text(f'error: {_printable(sample.last_error)}', style='red'))
        if sample.acceleration_note and sample.acceleration_note != note:
            lines.append(Text(f'note: {_printable(sample.acceleration_note)}', style='yellow'))
        error, note = sample.last_error, sample.acceleration_note
    return [Text(), *lines[-_MESSAGES:]] if lines else []


def _printable(text: str) -> str:
    """Text of others without what would move the cursor or change colours."""
    return ''.join(character if character.isprintable() else ' ' for character in text)


def _ms(seconds: float) -> str:
    return f'{1e3 * seconds:.0f} ms' if seconds >= 0.01 else f'{1e3 * seconds:.1f} ms'


def _number(value: float, form: str) -> str:
    return format(value, form) if math.isfinite(value) else '-'
