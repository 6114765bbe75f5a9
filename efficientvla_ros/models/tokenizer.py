"""Instructions to token ids: the prompt rule and the embedded model's word-level tokenizer."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Protocol

UNK, BOS, EOS, PAD = 0, 1, 2, 3
"""Special ids; the first three are Llama's."""

_FIRST_WORD = 4
_WORDS = re.compile(r"[a-z0-9']+")


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


def prompt_ids(
    tokenizer: Tokenizer, template: str, suffix: Iterable[int], instruction: str
) -> list[int]:
    """Ids of a whole prompt: template around the lower-cased instruction, then the suffix."""
    text = template.format(instruction=instruction.strip().lower())
    return [*tokenizer.encode(text), *suffix]
