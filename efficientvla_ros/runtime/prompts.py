"""Instructions as the model reads them, kept from tick to tick."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor

from efficientvla_ros.acceleration.token_scores import row_mask
from efficientvla_ros.models.config import VLMConfig
from efficientvla_ros.models.prompt_span import instruction_span
from efficientvla_ros.models.tokenizer import Tokenizer, UnknownWordsError, prompt_ids
from efficientvla_ros.types import InputError

_KEPT = 64


class Prompt:
    """Ids of one instruction.

    Attributes:
        ids: int64 [1, T], BOS first, on the model's device.
    """

    def __init__(self, ids: Tensor, span: tuple[int, int]) -> None:
        """Takes the ids and where the instruction lies in them."""
        self.ids = ids
        self._span = span
        self._rows: dict[str, Tensor] = {}

    def rows(self, kind: str) -> Tensor:
        """What `row_mask` gives, bool [1, T - 1], on the device of the ids."""
        if kind not in self._rows:
            mask = row_mask(kind, self.ids.shape[1], self._span)
            self._rows[kind] = mask.to(self.ids.device)
        return self._rows[kind]


class Prompts:
    """Turns instructions to prompts; the latest ones are kept, so that a tick tokenises none."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        config: VLMConfig,
        decoded_positions: int,
        device: torch.device,
    ) -> None:
        """Takes what a prompt depends on.

        Args:
            tokenizer: text to ids.
            config: template, suffix and room.
            decoded_positions: positions that the language model needs after the prompt.
            device: where the ids are wanted.
        """
        self._tokenizer, self._config, self._device = tokenizer, config, device
        self._room = config.llm.max_positions - config.num_patches - decoded_positions
        self._kept: OrderedDict[str, Prompt] = OrderedDict()

    def __len__(self) -> int:
        """Prompts that are kept."""
        return len(self._kept)

    def __call__(self, instruction: str) -> Prompt:
        """The prompt of an instruction.

        Raises:
            InputError: it is empty, too long, or has words outside the vocabulary.
        """
        if instruction in self._kept:
            self._kept.move_to_end(instruction)
            return self._kept[instruction]
        prompt = self._make(instruction)
        self._kept[instruction] = prompt
        if len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return prompt

    def shortest(self) -> Prompt:
        """BOS and the suffix alone: a prompt for any vocabulary."""
        ids = torch.tensor([[1, *self._config.suffix_ids]], device=self._device)
        return Prompt(ids, (1, 1))

    def _make(self, instruction: str) -> Prompt:
        if not instruction.strip():
            raise InputError('the instruction is empty, expected text such as "pick red can"')
        text = (self._tokenizer, self._config.prompt_template, self._config.suffix_ids)
        try:
            ids = prompt_ids(*text, instruction)
        except UnknownWordsError as error:
            shown = instruction if len(instruction) <= 80 else instruction[:80] + '...'
            raise InputError(f'instruction {shown!r}: {error}') from error
        if len(ids) > self._room:
            raise InputError(
                f'the instruction has {len(ids)} tokens, '
                f'model {self._config.name} takes at most {self._room}'
            )
        span = instruction_span(*text, instruction)
        return Prompt(torch.tensor([ids], device=self._device), span)
