"""Llama-2's tokenizer, from its files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from efficientvla_ros.models.errors import CheckpointError, first_line
from efficientvla_ros.models.sources import TOKENIZER_FILE
from efficientvla_ros.models.tokenizer import BOS

LLAMA_PIECES = {1: '<s>', 2: '</s>', 29871: '▁'}
"""Ids that prompts are built from, and the pieces that they must stand for."""

_WHERE = (
    f"a folder with Llama-2's {TOKENIZER_FILE}, such as that of openvla/openvla-7b, which is free "
    'to download'
)


class FolderTokenizer:
    """The tokenizer in a `tokenizer.json`; needs the library transformers.

    The file alone says what is done: no class that a configuration names is looked up, and no
    code is run.
    """

    def __init__(self, folder: Path, pieces: Mapping[int, str] = LLAMA_PIECES) -> None:
        """Reads a tokenizer.

        Args:
            folder: folder with `tokenizer.json`, or that file.
            pieces: ids that must stand for these pieces.

        Raises:
            CheckpointError: transformers or the file is missing, the file is damaged, or it is
                another model's.
        """
        path = folder if folder.is_file() else folder / TOKENIZER_FILE
        if not path.is_file():
            raise CheckpointError(f'{path} does not exist, expected {_WHERE}')
        try:
            from transformers import PreTrainedTokenizerFast
        except ImportError as error:
            raise CheckpointError(
                f'{path} is read with transformers, which cannot be imported '
                f'({first_line(error)}): pip install transformers'
            ) from error
        try:
            self._tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(path))
        except Exception as error:  # the library's parser raises bare exceptions
            raise CheckpointError(
                f'{path} is not a readable tokenizer: {first_line(error)}'
            ) from error
        for token_id, piece in pieces.items():
            found = self._tokenizer.convert_ids_to_tokens(token_id)
            if found != piece:
                raise CheckpointError(f'{path}: id {token_id} is {found!r}, expected {piece!r}')

    @property
    def vocab_size(self) -> int:
        """One more than the highest id in use."""
        return 1 + max(self._tokenizer.get_vocab().values())

    def encode(self, text: str) -> list[int]:
        """Returns BOS, exactly once, and the ids of `text`."""
        return [BOS, *self._tokenizer.encode(text, add_special_tokens=False)]


def find_tokenizer(given: Path | None, folder: Path) -> FolderTokenizer:
    """Reads the tokenizer of a released model.

    Args:
        given: where the user says that it is.
        folder: the checkpoint's folder, where it is looked for otherwise.

    Raises:
        CheckpointError: there is none; the line says where to get it.
    """
    if given is None and not (folder / TOKENIZER_FILE).is_file():
        raise CheckpointError(
            f'{folder} has no {TOKENIZER_FILE}, expected the tokenizer there or given apart: '
            f'{_WHERE}'
        )
    return FolderTokenizer(folder if given is None else Path(given).expanduser())
