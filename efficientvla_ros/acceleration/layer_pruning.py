"""Which decoder layers run: those that change the residual stream least are left out.

EfficientVLA (arXiv 2506.10100) ranks layers once by

    I(l) = 1 - mean over samples i and positions j of cos(x_ij^(l), x_ij^(l+1)),

x^(l) being the residual stream before layer l and x^(l+1) the one after it, and removes the
lowest; they need not lie next to each other. Measuring again after each removal is an option
beyond the paper.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence

Measure = Callable[[tuple[int, ...]], Sequence[float]]
"""Layers that run, ascending, to the importance of each of them."""


class PruningError(ValueError):
    """A count or ratio that cannot be pruned to; one line quotes it."""


def protected_layers(layers: int, scoring_layer: int) -> frozenset[int]:
    """Layers that always run: the first ones up to the one that scores tokens, and the last.

    Args:
        layers: decoder layers of the model.
        scoring_layer: index of the layer whose attention scores the visual tokens.
    """
    if not 0 <= scoring_layer < layers:
        raise PruningError(f'scoring layer is {scoring_layer}, expected 0 .. {layers - 1}')
    return frozenset(range(scoring_layer + 1)) | {layers - 1}


def kept_layers(
    importance: Sequence[float], keep: int, protected: Collection[int] = ()
) -> tuple[int, ...]:
    """The one-shot selection of the paper.

    Args:
        importance: I(l) of every layer.
        keep: how many layers run.
        protected: layers that are never removed.

    Returns:
        Indices of the layers that run, ascending. Among equally important ones the deeper goes.

    Raises:
        PruningError: `keep` is more than there are, or too few for the protected ones.
    """
    check_keep(len(importance), keep, protected)
    return kept_after(removal_order(importance, protected), len(importance), keep)


def removal_order(importance: Sequence[float], protected: Collection[int] = ()) -> tuple[int, ...]:
    """Layers that may go, the first to go first."""
    values = [float(value) for value in importance]
    if not all(math.isfinite(value) for value in values):
        raise PruningError('the importance of a layer is not a finite number')
    free = [index for index in range(len(values)) if index not in protected]
    return tuple(sorted(free, key=lambda index: (values[index], -index)))


def greedy_layers(
    measure: Measure, layers: int, keep: int, protected: Collection[int] = ()
) -> tuple[int, ...]:
    """The option beyond the paper: measures again after each removal.

    Args:
        measure: gives the importance of the layers that still run.
        layers: decoder layers of the model.
        keep: how many layers run.
        protected: layers that are never removed.

    Returns:
        As `kept_layers`.

    Raises:
        PruningError: as `kept_layers`.
    """
    check_keep(layers, keep, protected)
    order = greedy_order(measure, layers, protected, layers - keep)
    return kept_after(order, layers, keep)


def greedy_order(
    measure: Measure, layers: int, protected: Collection[int] = (), removals: int | None = None
) -> tuple[int, ...]:
    """Layers in the order in which greedy re-scoring removes them.

    Every shorter removal is a beginning of it, so that one measurement serves all counts.

    Args:
        measure: gives the importance of the layers that still run.
        layers: decoder layers of the model.
        protected: layers that are never removed.
        removals: how many to remove; None removes all that are not protected.
    """
    running, order = tuple(range(layers)), []
    free = layers - len(set(protected))
    for _ in range(free if removals is None else removals):
        values = measure(running)
        held = {place for place, index in enumerate(running) if index in protected}
        lowest = running[removal_order(values, held)[0]]
        order.append(lowest)
        running = tuple(index for index in running if index != lowest)
    return tuple(order)


def kept_after(order: Sequence[int], layers: int, keep: int) -> tuple[int, ...]:
    """Layers that run once the first `layers - keep` of a removal order are gone, ascending."""
    removed = set(order[: layers - keep])
    if len(removed) != layers - keep:
        raise PruningError(
            f'{keep} layers were asked for, but only {len(order)} of {layers} may be removed'
        )
    return tuple(index for index in range(layers) if index not in removed)


def check_keep(layers: int, keep: int, protected: Collection[int] = ()) -> None:
    """Refuses a number of layers that does not fit the model.

    Raises:
        PruningError: it is more than there are, or too few for the protected ones.
    """
    least = max(1, len(set(protected)))
    if not least <= keep <= layers:
        shown = ', '.join(map(str, sorted(protected)))
        reason = f' (layers {shown} are protected)' if protected else ''
        raise PruningError(f'layers to keep is {keep}, expected {least} .. {layers}{reason}')
