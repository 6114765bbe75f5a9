"""What the readers of checkpoints raise."""

from __future__ import annotations


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; one line says what is wrong and where."""


def first_line(error: BaseException) -> str:
    """The first line of an exception's text, or its type's name where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def some(names: list[str], shown: int = 3) -> str:
    """The first few of many names, and how many more there are."""
    rest = len(names) - shown
    return ', '.join(names[:shown]) + (f' and {rest} more' if rest > 0 else '')
