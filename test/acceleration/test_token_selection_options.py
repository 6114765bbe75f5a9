"""Baselines, hysteresis and the selector that a policy keeps between ticks."""

import itertools

import pytest
import torch

from efficientvla_ros.acceleration.token_baselines import fastv, random_tokens
from efficientvla_ros.acceleration.token_counts import SelectionError
from efficientvla_ros.acceleration.token_options import TokenOptions
from efficientvla_ros.acceleration.token_roles import ROLE_NAMES, TASK, UNRANKED
from efficientvla_ros.acceleration.token_selection import select_tokens
from efficientvla_ros.acceleration.token_selector import TokenSelector

PATCHES = 32


def inputs(seed=0, batch=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(batch, PATCHES, generator=generator), torch.randn(
        batch, PATCHES, 8, generator=generator
    )


def test_fastv_keeps_the_most_attended_in_order():
    found = fastv(torch.tensor([[0.1, 0.5, 0.5, 0.9, 0.0], [1.0, 1.0, 1.0, 1.0, 1.0]]), 2)
    assert found.kept.tolist() == [[1, 3], [0, 1]]
    assert (found.role == TASK).all()


def test_random_tokens_are_uniform_and_follow_their_seed():
    draws = 2000
    found = random_tokens(draws, 64, 14, torch.Generator().manual_seed(1))
    again = random_tokens(draws, 64, 14, torch.Generator().manual_seed(1))
    other = random_tokens(draws, 64, 14, torch.Generator().manual_seed(2))
    assert torch.equal(found.kept, again.kept) and not torch.equal(found.kept, other.kept)
    assert (found.kept.diff(dim=1) > 0).all() and (found.role == UNRANKED).all()
    counts = found.kept.flatten().bincount(minlength=64).double()
    expected = draws * 14 / 64
    # Chi-square with 63 degrees of freedom, smaller than for free draws by what is not replaced.
    chi_square = ((counts - expected) ** 2 / (expected * (1 - 14 / 64))).sum() * 63 / 64
    assert 30 < chi_square < 110


def test_random_draws_differ_between_ticks_and_start_over_on_reset():
    selector = TokenSelector(TokenOptions(8, 'random'), PATCHES, seed=5)
    _, hidden = inputs()
    first, second = (selector(None, hidden).kept for _ in range(2))
    assert not torch.equal(first, second)
    selector.reset()
    assert torch.equal(selector(None, hidden).kept, first)


def test_without_hysteresis_the_selector_is_the_plain_function():
    selector = TokenSelector(TokenOptions(12), PATCHES)
    for seed in range(3):
        scores, hidden = inputs(seed)
        assert torch.equal(selector(scores, hidden).kept, select_tokens(scores, hidden, 12).kept)


def test_fastv_asks_the_last_row_and_random_none():
    assert TokenOptions(8, 'fastv').scored_rows == 'last'
    assert TokenOptions(8, rows='prompt').scored_rows == 'prompt'
    assert not TokenOptions(8, 'random').needs_scores and TokenOptions(8, 'fastv').needs_scores
    scores, hidden = inputs()
    selector = TokenSelector(TokenOptions(8, 'fastv'), PATCHES)
    assert torch.equal(selector(scores, hidden).kept, fastv(scores, 8).kept)


def kept_sets(hysteresis, ticks=12):
    """Kept sets while relevance and states shake a little from tick to tick."""
    selector = TokenSelector(TokenOptions(12, hysteresis=hysteresis), PATCHES)
    scores, hidden = inputs()
    found = []
    for seed in range(1, ticks):
        shake, move = inputs(seed)
        found.append(set(selector(scores + 0.05 * shake, hidden + 0.2 * move).kept[0].tolist()))
    return found


def changes(sets):
    return sum(len(a ^ b) for a, b in itertools.pairwise(sets))


def test_hysteresis_keeps_the_set_from_flickering():
    assert changes(kept_sets(0.0)) > 0
    assert changes(kept_sets(0.2)) < changes(kept_sets(0.0)) / 2


def test_a_new_scene_wins_over_hysteresis():
    selector = TokenSelector(TokenOptions(4, alpha=1.0, hysteresis=0.2), PATCHES)
    _, hidden = inputs()
    old, new = torch.zeros(2, 1, PATCHES)
    old[0, :4], new[0, -4:] = 1.0, 1.0
    assert selector(old, hidden).kept.tolist() == [[0, 1, 2, 3]]
    assert selector(new, hidden).kept.tolist() == [[28, 29, 30, 31]]


def test_reset_forgets_what_was_kept():
    selector = TokenSelector(TokenOptions(12, hysteresis=5.0), PATCHES)
    selector(*inputs(0))
    held = selector(*inputs(1)).kept
    assert torch.equal(held, selector(*inputs(2)).kept)  # a bonus that nothing outweighs
    selector.reset()
    assert torch.equal(selector(*inputs(1)).kept, select_tokens(*inputs(1), 12).kept)


@pytest.mark.parametrize(
    ('options', 'quoted'),
    [
        ({'keep': 0}, 'kept tokens are 0'),
        ({'keep': 8, 'method': 'best'}, "'best', expected one of efficientvla, fastv, random"),
        ({'keep': 8, 'diversity': 'far'}, "'far', expected one of key, greedy"),
        ({'keep': 8, 'rows': 'all'}, "'all', expected one of instruction"),
        ({'keep': 8, 'key': 9}, 'key tokens are 9'),
        ({'keep': 8, 'alpha': -0.1}, 'alpha is -0.1'),
        ({'keep': 8, 'hysteresis': -1.0}, 'hysteresis is -1.0'),
        ({'keep': 8, 'hysteresis': float('inf')}, 'hysteresis is inf'),
    ],
)
def test_wrong_options_are_refused_with_their_value(options, quoted):
    with pytest.raises(SelectionError, match=quoted):
        TokenOptions(**options)


def test_more_tokens_than_patches_are_refused():
    with pytest.raises(SelectionError, match='kept tokens are 33, expected at most 32'):
        TokenSelector(TokenOptions(33), PATCHES)


def test_every_role_has_a_name():
    assert ROLE_NAMES[TASK] == 'task' and ROLE_NAMES[UNRANKED] == 'unranked'
