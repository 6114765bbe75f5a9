"""Instructions to token ids: the prompt rule, and tokenizers that need no files.

The tokenizer of the released models is in `folder_tokenizer`.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable
from typing import Protocol

UNK, BOS, EOS, PAD = 0, 1, 2, 3
"""Special ids; the first three are Llama's."""

_FIRST_WORD = 4
_WORDS = re.compile(r"[a-z0-9']+")
_PIECES = re.compile(r'\w+|[^\w ]')


class UnknownWordsError(ValueError):
    """An instruction with words that the model was not trained on."""


class Tokenizer(Protocol):
    """Text to ids, BOS first."""

    def encode(self, text: str) -> list[int]:
        """Returns the ids of `text`, BOS first."""


class WordTokenizer:
    """One id a word over a closed vocabulary; case and punctuation do not matter."""

    def __init__(self, words: Iterable[str]) -> None:
        """Numbers `words` in order, after the special ids."""
        self.words = tuple(words)
        self._ids = {word: _FIRST_WORD + i for i, word in enumerate(self.words)}

    @property
    def vocab_size(self) -> int:
        """Ids in use, special ones included."""
        return _FIRST_WORD + len(self.words)

    def encode(self, text: str) -> list[int]:
        """Returns BOS and the ids of the words of `text`.

        Raises:
            UnknownWordsError: a word is not in the vocabulary; the message names it.
        """
        found = _WORDS.findall(text.lower())
        unknown = sorted({word for word in found if word not in self._ids})
        if unknown:
            raise UnknownWordsError(
                f'the model does not know {", ".join(map(repr, unknown[:5]))}; '
                f'it knows: {" ".join(self.words)}'
            )
        return [BOS, *(self._ids[word] for word in found)]


class HashTokenizer:
    """Ids without a vocabulary, for models with random weights, whose ids mean nothing.

    One id for each word, punctuation mark and line break: about as many as Llama-2's tokenizer
    gives for plain English.
    """

    def __init__(self, vocab_size: int) -> None:
        """Spreads words over the ids of a vocabulary, the special ones left out."""
        self.vocab_size = vocab_size

    def encode(self, text: str) -> list[int]:
        """Returns BOS and one id for each piece of `text`."""
        room = self.vocab_size - _FIRST_WORD
        pieces = _PIECES.findall(text)
        return [BOS, *(_FIRST_WORD + zlib.crc32(piece.encode()) % room for piece in pieces)]


def prompt_ids(
    tokenizer: Tokenizer, template: str, suffix: Iterable[int], instruction: str
) -> list[int]:
    """Ids of a whole prompt: template around the lower-cased instruction, then the suffix.

    A suffix of one id is not doubled where the text ends in it already (OpenVLA's 29871); a
    longer one is always appended (CogACT's 29871, 2), as in the released code of either.
    """
    ids = tokenizer.encode(template.format(instruction=instruction.strip().lower()))
    suffix = list(suffix)
    return ids if suffix == ids[-1:] else [*ids, *suffix]
