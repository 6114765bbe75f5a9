"""The table of `efficientvla calibrate`."""

from __future__ import annotations

from typing import Any

from rich.box import SIMPLE
from rich.table import Table

from efficientvla_ros.cli.inspect_tables import console


def print_report(report: dict[str, Any], frames: int) -> None:
    """Prints the ranking of the layers, least important first, and how stable it is.

    Args:
        report: made by `calibration_report`.
        frames: how many were asked for.
    """
    screen = console()
    few = f' ({frames} were asked for)' if report['frames'] < frames else ''
    screen.print(
        f'{report["model"]} ({report["fingerprint"]}): {report["frames"]} frames{few} of '
        f'{report["episodes"]} episodes from {report["source"]}',
        markup=False,
    )
    screen.print(_ranking(report))
    tau = report['bootstrap']['kendall_tau']
    screen.print(
        f'{report["bootstrap"]["resamples"]} resamples of {report["bootstrap"]["unit"]}: '
        f"Kendall's tau with this ranking {tau['median']:.2f} "
        f'({tau["low"]:.2f} to {tau["high"]:.2f})',
        markup=False,
    )
    for selection in report['selections']:
        screen.print(
            f'keep {selection["keep"]}: layers {selection["removed"]} go{_greedy(selection)}',
            markup=False,
        )
    mean = sum(report['mlp']['score_removed']) / len(report['mlp']['score_removed'])
    screen.print(
        f'{report["mlp"]["ratio"]:.0%} of the MLP channels hold {mean:.1%} of the channel score',
        markup=False,
    )


def _greedy(selection: dict[str, Any]) -> str:
    kept = selection.get('greedy_kept')
    if kept is None:
        return ''
    if kept == selection['kept']:
        return '; measured anew after each removal, the same'
    removed = sorted({*selection['kept'], *selection['removed']} - set(kept))
    return f'; measured anew after each removal, {removed}'


def _ranking(report: dict[str, Any]) -> Table:
    table = Table(box=SIMPLE)
    table.add_column('rank', justify='right')
    table.add_column('layer', justify='right')
    table.add_column('importance', justify='right')
    table.add_column('95 % of resamples', justify='right')
    table.add_column('rank 95 %', justify='right')
    for selection in report['selections']:
        table.add_column(f'goes at {selection["keep"]}', justify='right')
    importance = report['importance']
    for rank, layer in enumerate(sorted(range(len(importance)), key=importance.__getitem__), 1):
        (low, high), (first, last) = report['importance_95'][layer], report['rank_95'][layer]
        is_free = layer not in report['protected']
        shares = [
            f'{selection["removed_share"][layer]:.0%}' if is_free else 'protected'
            for selection in report['selections']
        ]
        table.add_row(
            str(rank),
            str(layer),
            f'{importance[layer]:.5f}',
            f'{low:.5f} to {high:.5f}',
            f'{first} to {last}' if first != last else str(first),
            *shares,
        )
    return table
