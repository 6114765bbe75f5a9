"""Instruction to ids, network output to physical actions."""

import numpy as np
import pytest

from efficientvla_ros.models.statistics import ActionStatistics
from efficientvla_ros.models.tokenizer import BOS, UnknownWordsError, WordTokenizer, prompt_ids

WORDS = ['pick', 'up', 'the', 'red', 'can']


def statistics() -> ActionStatistics:
    q01 = np.array([-0.02, -0.04, -0.1, 0, -1, -2, 0.0])
    q99 = np.array([0.04, 0.04, 0.3, 0, 1, 2, 1.0])
    return ActionStatistics(q01, q99, np.array([True] * 6 + [False]))


def test_case_punctuation_and_spaces_do_not_matter():
    tokenizer = WordTokenizer(WORDS)
    plain = tokenizer.encode('pick the red can')
    assert tokenizer.encode('  Pick, the  RED can! ') == plain
    assert plain[0] == BOS and len(plain) == 5


def test_an_unknown_word_is_named_with_those_that_are_known():
    with pytest.raises(UnknownWordsError, match=r"'banana'.*knows: pick up the red can"):
        WordTokenizer(WORDS).encode('pick the banana')


def test_the_prompt_ends_in_the_suffix():
    ids = prompt_ids(WordTokenizer(WORDS), '{instruction}', (2,), 'Pick Red Can')
    assert ids == [1, 4, 7, 8, 2]


def test_actions_survive_the_round_trip_and_constant_dimensions_become_their_value():
    s = statistics()
    actions = np.array([[0.01, -0.01, 0.2, 0.0, 0.5, -1.5, 1.0]])
    assert np.allclose(s.unnormalise(s.normalise(actions)), actions)
    assert s.normalise(actions)[0, 3] == 0.0


def test_outputs_are_clipped_and_the_gripper_is_binarised_before_scaling():
    out = np.array([[3.0, -3.0, 0.0, 0.0, 0.0, 0.0, 0.49], [0, 0, 0, 0, 0, 0, 0.5]])
    found = statistics().unnormalise(out)
    assert found[0, 0] == pytest.approx(0.04) and found[0, 1] == pytest.approx(-0.04)
    assert found[0, 6] == 0.0 and found[1, 6] == 1.0


def test_without_binarisation_the_gripper_keeps_its_value():
    out = np.array([[0.25, -0.5, 0.0, 0.0, 0.0, 0.0, 0.49], [0, 0, 0, 0, 0, 0, -0.9]])
    found = statistics().unnormalise(out, binarise_gripper=False)
    assert found[0, 0] == pytest.approx(-0.02 + 0.06 * 1.25 / 2)
    assert found[:, 6].tolist() == [0.49, -0.9]


def test_identity_statistics_leave_actions_as_they_are():
    out = np.linspace(-0.9, 0.9, 14).reshape(2, 7)
    found = ActionStatistics.identity(7).unnormalise(out, binarise_gripper=False)
    assert np.allclose(found, out)


def test_not_a_number_is_passed_on_and_never_becomes_a_gripper_command():
    found = statistics().unnormalise(np.full((2, 7), np.nan))
    # The constant dimension is NaN too: nothing of a broken output looks valid.
    assert np.isnan(found).all()


def test_a_missing_data_set_lists_those_that_exist():
    both = {
        'bridge_orig': {'action': statistics().to_json()},
        'fractal': {'action': statistics().to_json()},
    }
    with pytest.raises(KeyError, match='bridge_orig, fractal'):
        ActionStatistics.from_json(both, 'libero')
    with pytest.raises(KeyError, match='bridge_orig, fractal'):
        ActionStatistics.from_json(both)
    assert ActionStatistics.from_json({'one': both['fractal']}).q99[2] == pytest.approx(0.3)


def test_statistics_without_a_mask_scale_every_dimension():
    entry = statistics().to_json()
    del entry['mask']
    assert ActionStatistics.from_json({'a': {'action': entry}}).mask.all()
