"""Bars and sparklines made of characters, in Unicode or plain ASCII."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rich.text import Text


@dataclass(frozen=True)
class Glyphs:
    """What charts are drawn with.

    Attributes:
        parts: the three parts of a bar: to the median, to p95, to p99.
        levels: heights of a sparkline, lowest first.
        arrow: between two ends.
    """

    parts: str
    levels: str
    arrow: str


UNICODE = Glyphs('█▓░', '▁▂▃▄▅▆▇█', '→')
ASCII = Glyphs('#=-', '.:-=+*#@', '->')


def glyphs(encoding: str) -> Glyphs:
    """The glyphs that a terminal of that encoding can show."""
    return UNICODE if encoding.lower().startswith('utf') else ASCII


def percentile_bar(
    values: tuple[float, float, float], full: float, width: int, symbols: Glyphs
) -> Text:
    """A bar that ends at p99, shaded to median, p95 and p99.

    Args:
        values: p50, p95, p99, in any unit.
        full: what the whole width stands for, in the same unit.
        width: characters.
        symbols: what it is drawn with.
    """
    bar, end = Text(), 0
    for value, symbol, style in zip(values, symbols.parts, ('cyan', 'yellow', 'red')):
        share = 0.0 if full <= 0.0 else min(1.0, value / full)
        # What is not zero is seen.
        until = max(end, round(share * width), 1 if value > 0.0 else 0)
        bar.append(symbol * (until - end), style=style)
        end = until
    return bar


def sparkline(values: Sequence[float], width: int, symbols: Glyphs) -> str:
    """The newest `width` values between their extremes; blanks where NaN, '' for one alone."""
    values = list(values)[-width:]
    finite = [value for value in values if math.isfinite(value)]
    if len(finite) < 2:
        return ''  # nothing over time yet
    low, high = min(finite), max(finite)
    span, top = high - low, len(symbols.levels) - 1

    def level(value: float) -> str:
        if not math.isfinite(value):
            return ' '
        return symbols.levels[0 if span == 0.0 else round((value - low) / span * top)]

    return ''.join(level(value) for value in values)
