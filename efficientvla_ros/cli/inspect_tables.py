"""The tables of `efficientvla inspect`; plain text where the output is not a terminal."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

Cell = Callable[[dict[str, Any]], str]

_PLAIN_WIDTH = 110
_FAULTS = {
    'missing': 'missing tensors',
    'extra': 'unexpected tensors',
    'misshaped': 'tensors of the wrong shape',
    'not_floating': 'tensors that are not floating-point numbers',
    'statistics': 'statistics',
    'another_model': 'not the model asked for',
}
"""Kind of fault -> how it is called."""


def console() -> Console:
    """Where the tables go: as wide as the terminal, or wide enough for all columns."""
    probe = Console(highlight=False)
    return probe if probe.is_terminal else Console(highlight=False, width=_PLAIN_WIDTH)


def print_cost(screen: Console, report: dict[str, Any]) -> None:
    """Prints what a tick takes, by component and in all."""
    total, memory, hardware = report['total'], report['memory'], report['hardware']
    plan = report.get('plan')
    heading = [_heading(report)]
    if plan is not None:
        heading += [_kept(plan), *plan['notes']]
    _print_lines(screen, heading)
    screen.print(_component_table(screen, report))
    floor, rates = total['floor_s'], f'{hardware["tflops"]:g} TFLOP/s and {hardware["gbs"]:g} GB/s'
    work = f'a tick: {_giga(total["macs"])} GMAC = {_giga(total["flops"])} GFLOP'
    if plan is None:
        spared = 1 - total['macs'] / total['original_macs']
        work += (
            f'; the original code runs {_giga(total["original_macs"])} GMAC, {spared:.1%} of them '
            f'without effect on the result ({_giga(total["original_macs_needed"])} GMAC without '
            'lm_head and unused blocks)'
        )
    else:
        work += f', {total["macs"] / total["dense_macs"]:.1%} of the dense plan'
    dense = '' if plan is None else f' (dense {_bytes(memory["dense_weight_bytes"])})'
    lines = [
        work,
        f'memory: weights {_bytes(memory["weight_bytes"])}{dense}, kept keys and values '
        f'{_bytes(memory["cache_bytes"])}, activations about {_bytes(memory["activation_bytes"])}',
        f'floor at {rates}: {_number(1e3 * floor)} ms, at most {1 / floor:.0f} ticks per second',
    ]
    _print_lines(screen, lines)
    if plan is not None:
        screen.print()
        screen.print(_convention_table(screen, plan['conventions']))


def print_verification(screen: Console, check: dict[str, Any]) -> None:
    """Prints what a checkpoint holds and every tensor that is not as expected."""
    ema = ', with averaged weights of the action head' if check['has_ema'] else ''
    tokenizer = 'in the folder' if check['has_tokenizer'] else 'none in the folder'
    lines = [
        f'{check["path"]}: {check["kind"]} layout, {check["model"]}{ema}',
        f'weights: {check["weights"]}, {_bytes(check["file_bytes"])}',
        f'tensors: {_counts(check["groups"])}; types: {_counts(check["dtypes"])}',
        *(f'not used: {count} tensors, {reason}' for reason, count in check['unused'].items()),
        f'statistics: {", ".join(check["statistics_keys"]) or "none"}',
        f'tokenizer: {tokenizer}',
    ]
    lines += [f'group missing: {group}' for group in check['missing_groups']]
    for key, label in _FAULTS.items():
        faults = check['faults'][key]
        lines += [f'{label}: {len(faults)}'] if faults else []
        lines += [f'  {fault}' for fault in faults]
    lines += ['all tensors are as expected' if check['good'] else 'this checkpoint has faults', '']
    _print_lines(screen, lines)


def _print_lines(screen: Console, lines: list[str]) -> None:
    for line in lines:
        screen.print(line, markup=False, soft_wrap=True)


def _counts(values: dict[str, int]) -> str:
    return ', '.join(f'{count} {name}' for name, count in values.items()) or 'none'


def _heading(report: dict[str, Any]) -> str:
    work = report['workload']
    text = (
        f'{report["model"]}: {work["visual_tokens"]} visual + {work["prompt_tokens"]} prompt '
        f'tokens, {work["dtype"]}'
    )
    if work['ddim_steps'] is None:
        return f'{text}, {report["config"]["action_dim"]} action tokens'
    return (
        f'{text}, action head float32, {work["ddim_steps"]} sampling steps, '
        f'guidance {work["guidance"]:g}'
    )


def _kept(plan: dict[str, Any]) -> str:
    """What is left of the model, as far as something is left out."""
    labels = {
        'layers': 'decoder layers',
        'visual_tokens': f'visual tokens after layer {plan["scoring_layer"]}',
        'mlp_channels': 'MLP channels',
        'heads': 'attention heads',
        'sampling_steps': 'sampling steps in full',
    }
    parts = [
        f'{some} of {every} {labels[name]}'
        for name, (some, every) in plan['kept'].items()
        if some < every
    ]
    return f'{plan["preset"] or "own plan"}: {", ".join(parts) or "nothing left out"}'


def _component_table(screen: Console, report: dict[str, Any]) -> Table:
    left_out = ('dense, GMAC',) if report.get('plan') is None else ('original, GMAC',)
    rows = (*report['components'], {'name': 'total', 'bound_by': '', **report['total']})
    return _table(screen, _COLUMNS, rows, ('component', 'bound by'), _WIDE_ONLY, left_out)


def _convention_table(screen: Console, conventions: list[dict[str, Any]]) -> Table:
    rows = [
        {'convention': convention, 'plan': plan, **convention[plan]}
        for convention in conventions
        for plan in ('dense', 'plan')
    ]
    return _table(screen, _CONVENTION_COLUMNS, rows, ('counted as', 'plan'), ('read',))


def _table(
    screen: Console,
    cells: dict[str, Cell],
    rows: Sequence[dict[str, Any]],
    texts: Collection[str],
    wide_only: Collection[str],
    left_out: Collection[str] = (),
) -> Table:
    # No frame where the output is read by another program or kept in a file; on a narrow
    # terminal no frame and fewer columns rather than cut numbers.
    wide = screen.width >= _PLAIN_WIDTH
    left_out = (*left_out, *(() if wide else wide_only))
    table = Table(box=SIMPLE if screen.is_terminal and wide else None, pad_edge=False)
    shown = [title for title in cells if title not in left_out]
    for title in shown:
        table.add_column(title, justify='left' if title in texts else 'right', no_wrap=True)
    for row in rows:
        table.add_row(*(cells[title](row) for title in shown))
    return table


def _giga(value: float) -> str:
    return _number(value / 1e9)


def _number(value: float) -> str:
    if value >= 100:
        return f'{value:.1f}'
    return f'{value:.2f}' if value >= 1 else f'{value:.3g}'


def _bytes(value: float) -> str:
    for unit, size in (('GB', 1e9), ('MB', 1e6), ('kB', 1e3)):
        if value >= size:
            return f'{value / size:.2f} {unit}'
    return f'{value:.0f} B'


def _operations(row: dict[str, Any]) -> str:
    return f'{_giga(row["operations"])} G{row["convention"]["unit"]}'


_COLUMNS: dict[str, Cell] = {
    'component': lambda part: part['name'],
    'in file, M': lambda part: _number(part['parameters_in_file'] / 1e6),
    'needed, M': lambda part: _number(part['parameters'] / 1e6),
    'GMAC': lambda part: _giga(part['macs']),
    'GFLOP': lambda part: _giga(part['flops']),
    'read': lambda part: _bytes(part['bytes_read']),
    'floor, ms': lambda part: _number(1e3 * part['floor_s']),
    'bound by': lambda part: part['bound_by'],
    'dense, GMAC': lambda part: _giga(part['dense_macs']),
    'original, GMAC': lambda part: _giga(part['original_macs']),
}
"""Title -> cell of a component, or of the total."""

_CONVENTION_COLUMNS: dict[str, Cell] = {
    'counted as': lambda row: row['convention']['label'] if row['plan'] == 'dense' else '',
    'plan': lambda row: row['plan'],
    'params, M': lambda row: _number(row['parameters'] / 1e6),
    'operations': _operations,
    'of dense': lambda row: (
        '100 %' if row['plan'] == 'dense' else f'{100 * row["convention"]["share"]:.1f} %'
    ),
    'read': lambda row: _bytes(row['bytes_read']),
    'floor, ms': lambda row: _number(1e3 * row['floor_s']),
}
"""Title -> cell of a plan in a convention."""

_WIDE_ONLY = ('GFLOP', 'bound by')
