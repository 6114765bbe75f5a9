"""The layers that change least go, protected ones never, and wrong counts are refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from efficientvla_ros.acceleration.layer_pruning import (
    PruningError,
    greedy_layers,
    greedy_order,
    kept_after,
    kept_layers,
    protected_layers,
    removal_order,
)

IMPORTANCE = [0.2, 0.1, 0.05, 0.01, 0.04, 0.02, 0.03, 0.005]


def test_the_least_important_layers_go_and_need_not_be_neighbours():
    assert kept_layers(IMPORTANCE, 5) == (0, 1, 2, 4, 6)
    assert kept_layers(IMPORTANCE, 8) == tuple(range(8))


def test_protected_layers_stay_however_unimportant():
    protected = protected_layers(8, 2)
    assert protected == {0, 1, 2, 7}
    assert kept_layers(IMPORTANCE, 5, protected) == (0, 1, 2, 4, 7)
    assert removal_order(IMPORTANCE, protected) == (3, 5, 6, 4)


def test_of_equally_important_layers_the_deeper_goes():
    assert removal_order([1.0, 0.5, 0.5, 0.5]) == (3, 2, 1, 0)
    assert kept_layers([1.0, 0.5, 0.5, 0.5], 2) == (0, 1)


@given(
    values=st.lists(st.sampled_from([0.0, 0.1, 0.2, 0.3]), min_size=1, max_size=12),
    keep=st.integers(1, 12),
    data=st.data(),
)
def test_no_removed_layer_is_more_important_than_a_free_kept_one(values, keep, data):
    protected = data.draw(st.sets(st.integers(0, len(values) - 1)))
    if not max(1, len(protected)) <= keep <= len(values):
        with pytest.raises(PruningError):
            kept_layers(values, keep, protected)
        return
    kept = kept_layers(values, keep, protected)
    assert len(kept) == keep
    assert list(kept) == sorted(set(kept))
    assert protected <= set(kept)
    removed = set(range(len(values))) - set(kept)
    for index in removed:
        for stayed in set(kept) - protected:
            assert (values[index], -index) < (values[stayed], -stayed)


@pytest.mark.parametrize(
    ('keep', 'protected', 'message'),
    [
        (9, (), 'layers to keep is 9, expected 1 .. 8'),
        (0, (), 'layers to keep is 0, expected 1 .. 8'),
        (
            3,
            (7, 0, 1, 2),
            'layers to keep is 3, expected 4 .. 8 (layers 0, 1, 2, 7 are protected)',
        ),
    ],
)
def test_a_count_that_does_not_fit_is_refused(keep, protected, message):
    with pytest.raises(PruningError) as error:
        kept_layers(IMPORTANCE, keep, protected)
    assert str(error.value) == message
    with pytest.raises(PruningError):
        greedy_layers(lambda layers: [0.0] * len(layers), 8, keep, protected)


def test_importance_that_is_not_finite_is_refused():
    with pytest.raises(PruningError, match='not a finite number'):
        kept_layers([0.1, float('nan')], 1)


@pytest.mark.parametrize('layer', [-1, 8])
def test_a_scoring_layer_that_does_not_exist_is_refused(layer):
    with pytest.raises(PruningError, match=rf'scoring layer is {layer}, expected 0 \.\. 7'):
        protected_layers(8, layer)


def test_greedy_removal_sees_the_importance_without_the_layers_that_are_gone():
    # Layers 1 and 2 do the same thing: once one is gone, the other matters.
    def measure(layers: tuple[int, ...]) -> list[float]:
        values = {0: 1.0, 1: 0.1, 2: 0.11, 3: 0.5, 4: 1.0}
        if not {1, 2} <= set(layers):
            values[1] = values[2] = 0.9
        return [values[index] for index in layers]

    assert kept_layers(measure((0, 1, 2, 3, 4)), 3, (0, 4)) == (0, 3, 4)
    assert greedy_layers(measure, 5, 3, (0, 4)) == (0, 2, 4)
    assert greedy_order(measure, 5, (0, 4)) == (1, 3, 2)


def test_one_greedy_order_serves_all_counts():
    order = (3, 5, 1)
    assert kept_after(order, 6, 6) == (0, 1, 2, 3, 4, 5)
    assert kept_after(order, 6, 4) == (0, 1, 2, 4)
    with pytest.raises(PruningError, match='only 3 of 6 may be removed'):
        kept_after(order, 6, 2)


def test_constant_importance_makes_greedy_the_one_shot_order():
    def measure(layers: tuple[int, ...]) -> list[float]:
        return [IMPORTANCE[index] for index in layers]

    for keep in range(4, 9):
        assert greedy_layers(measure, 8, keep, (0, 7)) == kept_layers(IMPORTANCE, keep, (0, 7))
