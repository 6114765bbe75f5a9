"""Key, task and diversity tokens are those of the paper's formulas, ties and all."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_selection import naive_select

from efficientvla_ros.acceleration.token_counts import SelectionError, TokenCounts, token_counts
from efficientvla_ros.acceleration.token_roles import DIVERSITY, KEY, TASK
from efficientvla_ros.acceleration.token_selection import (
    min_max,
    select_tokens,
    sequence_index,
    take,
)


def roles_of(selection, row=0):
    return dict(zip(selection.kept[row].tolist(), selection.role[row].tolist()))


def exact_directions(generator, count, width=16):
    """Vectors of 1, 4 or 16 entries ±1: their norms and cosines are exact in float32."""
    rows = np.zeros((count, width), np.float32)
    for row in rows:
        places = generator.permutation(width)[: generator.choice([1, 4, width])]
        row[places] = generator.choice([-1.0, 1.0], len(places))
    return rows


@st.composite
def selections(draw):
    patches = draw(st.integers(2, 24))
    keep = draw(st.integers(1, patches))
    key = draw(st.integers(1, keep))
    alpha = draw(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]))
    levels = draw(st.integers(1, 6))  # few levels of relevance: many ties
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    relevance = generator.integers(0, levels, (2, patches)) / 8
    hidden = np.stack([exact_directions(generator, patches) for _ in range(2)])
    bonus = generator.integers(0, 2, (2, patches)) * draw(st.sampled_from([0.0, 0.5]))
    return keep, key, alpha, relevance, hidden, bonus


@settings(deadline=None, max_examples=150)
@given(selections(), st.sampled_from(['key', 'greedy']))
def test_it_is_the_naive_loop_ties_included(case, diversity):
    keep, key, alpha, relevance, hidden, _ = case
    found = select_tokens(
        torch.tensor(relevance, dtype=torch.float32),
        torch.from_numpy(hidden),
        keep,
        key,
        alpha,
        diversity,
    )
    task = token_counts(keep, key, alpha).task
    assert found.kept.shape == found.role.shape == (2, keep)
    for row in range(2):
        naive = naive_select(
            relevance[row], hidden[row], keep, key, task, greedy=diversity == 'greedy'
        )
        assert roles_of(found, row) == naive
        assert found.kept[row].tolist() == sorted(naive)


@settings(deadline=None, max_examples=60)
@given(selections(), st.sampled_from(['key', 'greedy']))
def test_a_bonus_counts_in_shares_of_the_range(case, diversity):
    keep, key, alpha, relevance, hidden, bonus = case
    relevance[:, 0], relevance[:, -1] = 0.0, 1.0  # a range of one: the scaling is exact
    found = select_tokens(
        *map(torch.from_numpy, (relevance, hidden)),
        keep,
        key,
        alpha,
        diversity,
        torch.from_numpy(bonus),
    )
    task = token_counts(keep, key, alpha).task
    for row in range(2):
        assert roles_of(found, row) == naive_select(
            relevance[row], hidden[row], keep, key, task, diversity == 'greedy', bonus[row]
        )


@pytest.mark.parametrize('diversity', ['key', 'greedy'])
def test_it_is_the_naive_loop_on_real_numbers_at_full_size(diversity):
    generator = torch.Generator().manual_seed(3)
    relevance = torch.rand(1, 256, generator=generator, dtype=torch.float64)
    hidden = torch.randn(1, 256, 48, generator=generator, dtype=torch.float64)
    hidden += hidden[:, :1] * 2  # alike, as hidden states are
    found = select_tokens(relevance, hidden, 56, diversity=diversity)
    naive = naive_select(relevance[0], hidden[0].numpy(), 56, 4, 26, diversity == 'greedy')
    assert roles_of(found) == naive
    assert found.role[0].bincount().tolist() == [4, 26, 26]
    single = select_tokens(relevance.float(), hidden.float(), 56, diversity=diversity)
    assert torch.equal(single.kept, found.kept)


def test_diversity_is_measured_against_the_key_tokens_only():
    # Patch 2 points where task token 1 does: far from the key token, which is all that counts.
    hidden = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [1.0, 1.0], [1.0, 0.5]]])
    relevance = torch.tensor([[5.0, 4.0, 0.0, 0.0, 0.0]])
    published = select_tokens(relevance, hidden, keep=3, key=1)
    assert roles_of(published) == {0: KEY, 1: TASK, 2: DIVERSITY}
    greedy = select_tokens(relevance, hidden, keep=3, key=1, diversity='greedy')
    assert roles_of(greedy) == {0: KEY, 1: TASK, 3: DIVERSITY}


def test_length_of_a_hidden_state_does_not_matter():
    generator = torch.Generator().manual_seed(0)
    relevance = torch.rand(1, 32, generator=generator)
    hidden = torch.randn(1, 32, 8, generator=generator)
    scaled = hidden * 2.0 ** torch.randint(-3, 4, (1, 32, 1), generator=generator)
    assert torch.equal(
        select_tokens(relevance, hidden, 12).kept, select_tokens(relevance, scaled, 12).kept
    )


@pytest.mark.parametrize('diversity', ['key', 'greedy'])
@pytest.mark.parametrize('bad', [float('nan'), float('inf')])
def test_numbers_that_are_not_finite_still_give_a_set_of_the_right_size(diversity, bad):
    relevance, hidden = torch.rand(1, 20), torch.randn(1, 20, 4)
    for broken in ((relevance * bad, hidden), (relevance, hidden * bad)):
        kept = select_tokens(*broken, 9, 2, diversity=diversity).kept[0]
        assert kept.unique().numel() == 9 and kept.min() >= 0 and kept.max() < 20


def test_published_counts():
    assert token_counts(56) == TokenCounts(4, 26, 26)
    assert token_counts(112, key=4) == TokenCounts(4, 54, 54)
    assert token_counts(112) == TokenCounts(8, 52, 52)
    assert token_counts(14) == TokenCounts(1, 6, 7)
    assert token_counts(100, key=1, alpha=0.29).task == 28
    assert token_counts(101, key=1, alpha=0.29).task == 29  # 0.29 * 100 is below 29 in binary
    assert token_counts(1) == TokenCounts(1, 0, 0)


@pytest.mark.parametrize(
    ('arguments', 'quoted'),
    [
        ({'keep': 0}, 'kept tokens are 0'),
        ({'keep': 9}, 'kept tokens are 9, expected at most 8'),
        ({'keep': 4, 'key': 5}, 'key tokens are 5'),
        ({'keep': 4, 'key': 0}, 'key tokens are 0'),
        ({'keep': 4, 'alpha': 1.5}, 'alpha is 1.5'),
        ({'keep': 4, 'alpha': float('nan')}, 'alpha is nan'),
        ({'keep': 4, 'diversity': 'far'}, "diversity is 'far'"),
    ],
)
def test_impossible_selections_are_refused_in_one_line(arguments, quoted):
    with pytest.raises(SelectionError, match=quoted) as caught:
        select_tokens(torch.rand(1, 8), torch.rand(1, 8, 4), **arguments)
    assert '\n' not in str(caught.value)


def test_what_stays_keeps_its_place_and_all_text_stays():
    # BOS 0, patches 1..6, text 7..9
    kept = torch.tensor([[0, 4], [1, 5]])
    index = sequence_index(kept, patches=6, length=10)
    assert index.tolist() == [[0, 1, 5, 7, 8, 9], [0, 2, 6, 7, 8, 9]]
    x = torch.arange(2 * 10 * 3, dtype=torch.float32).view(2, 10, 3)
    assert torch.equal(take(x, index)[1], x[1, [0, 2, 6, 7, 8, 9]])


def test_all_patches_kept_is_the_sequence_itself():
    x = torch.randn(2, 12, 5)
    kept = select_tokens(torch.rand(2, 8), torch.randn(2, 8, 5), keep=8).kept
    assert torch.equal(take(x, sequence_index(kept, 8, 12)), x)


def test_scaling_to_the_range_keeps_constant_rows_finite():
    scaled = min_max(torch.tensor([[2.0, 4.0, 3.0], [7.0, 7.0, 7.0], [0.0, 1e-30, 5e-31]]))
    assert torch.allclose(scaled, torch.tensor([[0.0, 1.0, 0.5], [0.0] * 3, [0.0, 1.0, 0.5]]))
