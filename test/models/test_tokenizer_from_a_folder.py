"""Llama-2's tokenizer from its file, and the prompts of both kinds of policy."""

import json
import sys

import pytest
from tokenizer_writer import (
    INSTRUCTION,
    INSTRUCTION_IDS,
    PROMPT_HEAD,
    PROMPT_TAIL,
    write_tokenizer,
)

from efficientvla_ros.models.config import CONFIGS
from efficientvla_ros.models.errors import CheckpointError
from efficientvla_ros.models.folder_tokenizer import FolderTokenizer, find_tokenizer
from efficientvla_ros.models.tokenizer import HashTokenizer, prompt_ids

TEMPLATE = CONFIGS['cogact-base'].prompt_template


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('tokenizer')
    write_tokenizer(folder)
    return folder


class Fixed:
    """A tokenizer whose text ends in given ids."""

    def __init__(self, ids: list[int]) -> None:
        self._ids = ids

    def encode(self, text: str) -> list[int]:
        return list(self._ids)


def test_prompts_have_the_recorded_ids(folder):
    tokenizer = FolderTokenizer(folder)
    prompt = [*PROMPT_HEAD, *INSTRUCTION_IDS, *PROMPT_TAIL]
    cogact, openvla = (CONFIGS[name].suffix_ids for name in ('cogact-base', 'openvla-7b'))
    assert prompt_ids(tokenizer, TEMPLATE, cogact, INSTRUCTION) == [*prompt, 29871, 2]
    assert prompt_ids(tokenizer, TEMPLATE, openvla, INSTRUCTION) == [*prompt, 29871]


def test_case_and_outer_blanks_of_the_instruction_do_not_matter(folder):
    tokenizer = FolderTokenizer(folder)
    shouted = f'  {INSTRUCTION.upper()}\n'
    ids = prompt_ids(tokenizer, TEMPLATE, (29871, 2), shouted)
    assert ids == prompt_ids(tokenizer, TEMPLATE, (29871, 2), INSTRUCTION)


def test_characters_outside_of_the_vocabulary_become_bytes(folder):
    ids = FolderTokenizer(folder).encode('é')
    assert ids[0] == 1 and ids[-2:] == [3 + 0xC3, 3 + 0xA9]


def test_bos_comes_exactly_once_whatever_the_template_adds(folder, tmp_path):
    content = json.loads((folder / 'tokenizer.json').read_text())
    content['post_processor'] = None
    (tmp_path / 'tokenizer.json').write_text(json.dumps(content))
    with_template, without = FolderTokenizer(folder), FolderTokenizer(tmp_path)
    assert with_template.encode(INSTRUCTION) == without.encode(INSTRUCTION)
    assert with_template.encode(INSTRUCTION).count(1) == 1


@pytest.mark.parametrize('end', [[5], [5, 29871], [5, 29871, 2]])
def test_only_a_suffix_of_one_id_is_not_doubled(end):
    assert prompt_ids(Fixed(end), TEMPLATE, (29871, 2), 'x') == [*end, 29871, 2]
    expected = end if end[-1] == 29871 else [*end, 29871]
    assert prompt_ids(Fixed(end), TEMPLATE, (29871,), 'x') == expected


def test_the_folder_that_is_given_counts_more_than_the_checkpoint(folder, tmp_path):
    (tmp_path / 'tokenizer.json').write_text('broken')
    assert find_tokenizer(folder, tmp_path).encode('?')[-1] == 29973
    assert find_tokenizer(folder / 'tokenizer.json', tmp_path).encode('?')[-1] == 29973
    assert find_tokenizer(None, folder).encode('?')[-1] == 29973


def test_a_missing_tokenizer_is_named_with_a_place_to_get_it(tmp_path):
    for given in (None, tmp_path / 'elsewhere'):
        with pytest.raises(CheckpointError, match=r'tokenizer\.json.*openvla/openvla-7b') as error:
            find_tokenizer(given, tmp_path)
        assert '\n' not in str(error.value)


def test_a_damaged_tokenizer_is_one_clear_line(folder, tmp_path):
    for content in ('', '{', '[]', '{"model": 3}'):
        (tmp_path / 'tokenizer.json').write_text(content)
        with pytest.raises(CheckpointError, match='is not a readable tokenizer') as error:
            FolderTokenizer(tmp_path)
        assert '\n' not in str(error.value)


def test_the_tokenizer_of_another_model_is_refused(folder, tmp_path):
    text = (folder / 'tokenizer.json').read_text()
    (tmp_path / 'tokenizer.json').write_text(text.replace('29871', '29872'))
    with pytest.raises(CheckpointError, match=r"id 29871 is .*, expected '▁'"):
        FolderTokenizer(tmp_path)


def test_transformers_is_asked_for_where_it_is_missing(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, 'transformers', None)
    with pytest.raises(CheckpointError, match='pip install transformers') as error:
        FolderTokenizer(folder)
    assert '\n' not in str(error.value)


def test_made_up_ids_are_as_many_as_real_ones_and_within_the_vocabulary():
    tokenizer = HashTokenizer(32064)
    for instruction in ('pick up the can', 'open the top drawer, then close it'):
        ids = prompt_ids(tokenizer, TEMPLATE, (29871, 2), instruction)
        fixed = len(PROMPT_HEAD) + len(PROMPT_TAIL) + 2
        words = instruction.replace(',', ' ,').split()
        assert len(ids) == fixed + len(words)
        assert ids[0] == 1 and all(3 < number < 32064 for number in ids[1:-1])
    assert tokenizer.encode('pick') == HashTokenizer(32064).encode('pick')
    assert tokenizer.encode('pick') != tokenizer.encode('place')
    assert max(HashTokenizer(64).encode(INSTRUCTION)) < 64
