"""A tokenizer file of Llama-2's structure with a small part of its vocabulary."""

from __future__ import annotations

import json
from pathlib import Path

PIECES = {
    '▁In': 512, ':': 29901, '▁What': 1724, '▁action': 3158, '▁should': 881,
    '▁the': 278, '▁robot': 19964, '▁take': 2125, '▁to': 304, '?': 29973, 'Out': 3744,
    '▁pick': 5839, '▁up': 701, '▁black': 4628, '▁bow': 12580, 'l': 29880, '▁between': 1546,
    '▁plate': 15284, '▁and': 322, '▁r': 364, 'ame': 420, 'kin': 9089, '▁place': 2058, '▁it': 372,
    '▁on': 373, '▁': 29871,
}  # fmt: skip
"""Pieces of Llama-2's vocabulary under their ids there."""

PROMPT_HEAD = [1, 512, 29901, 1724, 3158, 881, 278, 19964, 2125, 304]
PROMPT_TAIL = [29973, 13, 3744, 29901]
INSTRUCTION = 'pick up the black bowl between the plate and the ramekin and place it on the plate'
INSTRUCTION_IDS = [
    5839, 701, 278, 4628, 12580, 29880, 1546, 278, 15284, 322, 278, 364, 420, 9089, 322, 2058,
    372, 373, 278, 15284,
]  # fmt: skip
"""Ids of a prompt and of an instruction, as public projects recorded them."""


def write_tokenizer(folder: Path) -> Path:
    """Writes a `tokenizer.json`.

    Byte-pair merges with byte fallback, blanks as a visible character with one put in front,
    and a template that adds BOS. Real pieces have their real ids; what merging needs on the way
    to them has ids that the excerpt leaves free.
    """
    vocab = {'<unk>': 0, '<s>': 1, '</s>': 2}
    vocab |= {f'<0x{byte:02X}>': 3 + byte for byte in range(256)}
    vocab |= PIECES
    merges, free = [], iter(range(30000, 31000))
    for piece in PIECES:
        for end in range(2, len(piece) + 1):
            left, right = piece[: end - 1], piece[end - 1]
            for part in (left, right, left + right):
                if part not in vocab:
                    vocab[part] = next(free)
            if [left, right] not in merges:
                merges.append([left, right])
    special = [('<unk>', 0), ('<s>', 1), ('</s>', 2)]
    flags = {'single_word': False, 'lstrip': False, 'rstrip': False, 'normalized': False}
    first = {'SpecialToken': {'id': '<s>', 'type_id': 0}}
    sequences = {name: {'Sequence': {'id': name, 'type_id': n}} for n, name in enumerate('AB')}
    content = {
        'version': '1.0',
        'truncation': None,
        'padding': None,
        'added_tokens': [
            {'id': number, 'content': text, 'special': True, **flags} for text, number in special
        ],
        'normalizer': {
            'type': 'Sequence',
            'normalizers': [
                {'type': 'Prepend', 'prepend': '▁'},
                {'type': 'Replace', 'pattern': {'String': ' '}, 'content': '▁'},
            ],
        },
        'pre_tokenizer': None,
        'post_processor': {
            'type': 'TemplateProcessing',
            'single': [first, sequences['A']],
            'pair': [first, sequences['A'], first, sequences['B']],
            'special_tokens': {'<s>': {'id': '<s>', 'ids': [1], 'tokens': ['<s>']}},
        },
        'decoder': None,
        'model': {
            'type': 'BPE',
            'dropout': None,
            'unk_token': '<unk>',
            'continuing_subword_prefix': None,
            'end_of_word_suffix': None,
            'fuse_unk': True,
            'byte_fallback': True,
            'vocab': vocab,
            'merges': merges,
        },
    }
    path = folder / 'tokenizer.json'
    path.write_text(json.dumps(content, ensure_ascii=False), encoding='utf-8')
    return path
