"""The card beside recordings: what was recorded, how much of it, and with which versions."""

from __future__ import annotations

import json
import platform
from collections import Counter
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

CARD_FILE, CARD_PAGE = 'dataset_card.json', 'README.md'
_SETTINGS_FILE = 'recording.json'
_PACKAGES = ('mujoco', 'numpy', 'opencv-python-headless')


@dataclass(frozen=True)
class RecordingSummary:
    """What a folder of recordings holds."""

    tried: int
    kept: int
    frames: int

    @property
    def success_rate(self) -> float | None:
        """Share of the episodes that are kept, None where none was tried."""
        return self.kept / self.tried if self.tried else None


def recording_folders(folder: Path) -> list[Path]:
    """Returns the folder itself where it holds shards, else those in it that do, in order."""
    if any(folder.glob('shard_*.npz')):
        return [folder]
    return sorted(path.parent for path in folder.glob(f'*/{_SETTINGS_FILE}'))


def summarise(folder: Path) -> RecordingSummary:
    """Counts what the shards of a folder hold, and of the recordings in it."""
    tried = kept = frames = 0
    for recording in recording_folders(folder):
        for path in sorted(recording.glob('shard_*.npz')):
            with np.load(path) as shard:
                tried += int(shard['tried'])
                kept += len(shard['seeds'])
                frames += len(shard['episode'])
    return RecordingSummary(tried, kept, frames)


def write_card(folder: Path) -> dict:
    """Writes `dataset_card.json` and `README.md` into a folder of recordings; returns the card."""
    recordings = [_describe(path) for path in recording_folders(folder)]
    total = summarise(folder)
    card = {
        'format': recordings[0]['format'] if recordings else None,
        'total': {**asdict(total), 'success_rate': total.success_rate},
        'recordings': recordings,
        'versions': _versions(),
        'licence': 'Apache-2.0',
    }
    (folder / CARD_FILE).write_text(json.dumps(card, indent=2) + '\n')
    (folder / CARD_PAGE).write_text(_page(card))
    return card


def _describe(folder: Path) -> dict:
    settings = json.loads((folder / _SETTINGS_FILE).read_text())
    summary = summarise(folder)
    labels, size = Counter(), 0
    tasks = settings.get('tasks', [settings['task']])
    for path in sorted(folder.glob('shard_*.npz')):
        size += path.stat().st_size
        with np.load(path) as shard:
            numbers = shard['tasks'] if 'tasks' in shard else np.zeros(0, int)
        labels.update({tasks[i]: int(n) for i, n in zip(*np.unique(numbers, return_counts=True))})
    return {
        'format': settings['format'],
        'folder': folder.name,
        'task': settings['task'],
        'setting': settings.get('setting', 'matching'),
        'kind': 'scattered' if settings['scattered'] else settings['actor'] or 'expert',
        'image_size': settings['image_size'],
        'seeds': [settings['seed'], settings['seed'] + summary.tried],
        **asdict(summary),
        'success_rate': summary.success_rate,
        'frames_per_episode': summary.frames / summary.kept if summary.kept else None,
        'labelled_plans': dict(labels),
        'bytes': size,
    }


def _versions() -> dict[str, str]:
    found = {'python': platform.python_version()}
    for name in ('efficientvla-ros', *_PACKAGES):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _page(card: dict) -> str:
    total = card['total']
    lines = [
        '# Demonstrations on the simulated table top',
        '',
        f'{total["kept"]} episodes, {total["frames"]} frames, recorded with '
        '`efficientvla record`. Arrays and settings are described in docs/simulation.md of '
        'efficientvla_ros; they need NumPy and a PNG decoder.',
        '',
        '| task | setting | kind | seeds | kept of tried | frames | image | size |',
        '|---|---|---|---|---|---|---|---|',
    ]
    for row in card['recordings']:
        first, last = row['seeds'][0], row['seeds'][1] - 1
        share = f' ({row["success_rate"]:.1%})' if row['tried'] else ''
        lines.append(
            f'| {row["task"]} | {row["setting"]} | {row["kind"]} | {first} to {last} '
            f'| {row["kept"]} of {row["tried"]}{share} | {row["frames"]} '
            f'| {row["image_size"]} px | {row["bytes"] / 1e6:.1f} MB |'
        )
    lines += [
        '',
        'Kind `expert`: the scripted expert acts under disturbances and only episodes that '
        'succeeded are kept. Kind `scattered`: short episodes from random poses, all kept. '
        'Another name is that of a policy that acted in part, all kept. Labels are always those '
        'of the expert, planned from the state in the frame.',
        '',
        'Plans for each instruction (labels):',
        '',
    ]
    lines += [
        f'* {row["folder"]}: '
        + ', '.join(f'{name} {count}' for name, count in row['labelled_plans'].items())
        for row in card['recordings']
    ]
    versions = ', '.join(f'{name} {value}' for name, value in card['versions'].items())
    lines += ['', f'Versions: {versions}. Licence: {card["licence"]}.', '']
    return '\n'.join(lines)
