"""The instruction is found in the ids of its prompt."""

import pytest
from tokenizer_writer import (
    INSTRUCTION,
    INSTRUCTION_IDS,
    PROMPT_HEAD,
    PROMPT_TAIL,
    write_tokenizer,
)

from efficientvla_ros.models.config import CONFIGS
from efficientvla_ros.models.folder_tokenizer import FolderTokenizer
from efficientvla_ros.models.prompt_span import instruction_span
from efficientvla_ros.models.tokenizer import HashTokenizer, WordTokenizer, prompt_ids

LLAMA_TEMPLATE = CONFIGS['cogact-base'].prompt_template


class Pieces:
    """Tokenizer of known pieces, longest first: may join what template and instruction share."""

    def __init__(self, *pieces: str) -> None:
        self.pieces = sorted(pieces, key=len, reverse=True)

    def encode(self, text: str) -> list[int]:
        ids = [1]
        while text:
            piece = next((p for p in self.pieces if text.startswith(p)), text[0])
            ids.append(hash(piece))
            text = text[len(piece) :]
        return ids


def words_inside(tokenizer, template, suffix, instruction):
    start, end = instruction_span(tokenizer, template, suffix, instruction)
    return prompt_ids(tokenizer, template, suffix, instruction)[start:end]


@pytest.mark.parametrize('suffix', [(29871, 2), (29871,)])
def test_llama_prompt(tmp_path, suffix):
    write_tokenizer(tmp_path)
    tokenizer = FolderTokenizer(tmp_path)
    span = instruction_span(tokenizer, LLAMA_TEMPLATE, suffix, f'  {INSTRUCTION.upper()} ')
    assert span == (len(PROMPT_HEAD), len(PROMPT_HEAD) + len(INSTRUCTION_IDS))
    assert words_inside(tokenizer, LLAMA_TEMPLATE, suffix, INSTRUCTION) == INSTRUCTION_IDS
    whole = prompt_ids(tokenizer, LLAMA_TEMPLATE, suffix, INSTRUCTION)
    assert whole[: span[0]] == PROMPT_HEAD and whole[span[1] :] == [*PROMPT_TAIL, *suffix]


def test_word_tokenizer_of_the_embedded_model():
    tokenizer = WordTokenizer(['pick', 'up', 'red', 'can'])
    assert instruction_span(tokenizer, '{instruction}', (2,), ' Pick red can ') == (1, 4)
    assert words_inside(tokenizer, '{instruction}', (2,), 'pick can') == [4, 7]


def test_random_weights_tokenizer():
    tokenizer = HashTokenizer(1000)
    ids = tokenizer.encode('pick up the can')[1:]
    assert words_inside(tokenizer, LLAMA_TEMPLATE, (29871, 2), 'Pick up the can') == ids
    assert words_inside(tokenizer, '{instruction}', (2,), 'pick up the can') == ids


def test_words_that_the_template_has_too_do_not_confuse_it():
    tokenizer = HashTokenizer(1000)
    ids = tokenizer.encode('take to ? out')[1:]
    assert words_inside(tokenizer, LLAMA_TEMPLATE, (2,), 'take to ? out') == ids


def test_a_piece_that_reaches_into_the_template_counts_as_instruction():
    tokenizer = Pieces('take to', ' can', '??', 'to can')
    assert words_inside(tokenizer, 'take to {instruction}? Out', (2,), 'can?') == [
        hash(' can'),
        hash('??'),
    ]
    assert words_inside(tokenizer, 'to {instruction}!', (2,), 'can') == [hash('to can')]
