"""Where the instruction lies in a prompt."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from efficientvla_ros.models.tokenizer import Tokenizer, prompt_ids


def instruction_span(
    tokenizer: Tokenizer, template: str, suffix: Iterable[int], instruction: str
) -> tuple[int, int]:
    """Finds the ids of the instruction among those that `prompt_ids` gives.

    An id that covers a part of the instruction and a part of the template counts as
    instruction.

    Args:
        tokenizer: text to ids.
        template: text around the instruction.
        suffix: ids appended to the tokenised prompt.
        instruction: what the robot is asked to do.

    Returns:
        Start and end, start <= index < end; BOS has index 0 and is never inside.
    """
    whole = prompt_ids(tokenizer, template, suffix, instruction)
    before, _, _ = template.partition('{instruction}')
    # A word's id includes the blank in front of it, so the template's last one is not its own.
    lead = tokenizer.encode(before.rstrip())
    start = max(1, _shared(lead, whole))
    through = tokenizer.encode(before + instruction.strip().lower())
    end = _shared(through, whole)
    # Ids part before the instruction ends where its last characters and the template's next
    # ones are one piece ("can?" and "?" make "??").
    return start, max(start, end + (end < len(through)))


def _shared(first: Sequence[int], second: Sequence[int]) -> int:
    """Length of the common beginning."""
    shared = 0
    while shared < min(len(first), len(second)) and first[shared] == second[shared]:
        shared += 1
    return shared
