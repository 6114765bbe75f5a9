"""What a result was measured on and with."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from collections.abc import Iterator
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGE_FOLDER = Path(__file__).resolve().parent.parent
_DISTRIBUTIONS = ('torch', 'transformers', 'numpy', 'mujoco', 'pin')


def provenance(device: str = 'cpu') -> dict:
    """Returns date, hardware, versions and git revision for a report.

    Args:
        device: where the model ran; a CUDA device is described too.
    """
    return {
        'created': datetime.now(timezone.utc).isoformat(timespec='seconds'),
        'hardware': {
            'cpu': _cpu_name(),
            'cores': os.cpu_count(),
            'memory_gb': round(_memory_bytes() / 1e9, 1),
            'machine': platform.machine(),
            'load_average': round(os.getloadavg()[0], 2) if hasattr(os, 'getloadavg') else None,
        }
        | (_gpu(device) if device.startswith('cuda') else {}),
        'versions': {'python': platform.python_version(), 'os': platform.platform()}
        | {name: _version(name) for name in _DISTRIBUTIONS},
        'git_revision': git_revision(),
    }


def git_revision() -> str:
    """Returns the commit of the source tree, with '+changes' if it has any; '' outside git."""
    commit = _git('rev-parse', 'HEAD')
    if not commit:
        return ''
    return commit + ('+changes' if _git('status', '--porcelain', '--', '.') else '')


def model_digest(model: str) -> str:
    """Returns the SHA-256 over the file or all files of a model, '' where there is none.

    Args:
        model: name of an embedded model or path of a checkpoint folder or file.
    """
    for place in (PACKAGE_FOLDER / 'weights' / model, Path(model).expanduser()):
        if model and place.exists():
            break
    else:
        return ''
    folder = place if place.is_dir() else place.parent
    digest = hashlib.sha256()
    for path in sorted(place.rglob('*')) if place.is_dir() else [place]:
        if path.is_file():
            digest.update(str(path.relative_to(folder)).encode())
            for piece in _pieces(path):
                digest.update(piece)
    return digest.hexdigest()


def _pieces(path: Path) -> Iterator[bytes]:
    # A checkpoint can be larger than the memory.
    with path.open('rb') as file:
        while piece := file.read(1 << 22):
            yield piece


def _git(*arguments: str) -> str:
    try:
        result = subprocess.run(
            ['git', *arguments],
            cwd=PACKAGE_FOLDER,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ''
    return result.stdout.strip()


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return ''


def _gpu(device: str) -> dict:
    import torch

    properties = torch.cuda.get_device_properties(device)
    return {
        'gpu': properties.name,
        'gpu_memory_gb': round(properties.total_memory / 1e9, 1),
        'gpu_capability': f'{properties.major}.{properties.minor}',
        'cuda': torch.version.cuda,
    }


def _cpu_name() -> str:
    try:
        lines = Path('/proc/cpuinfo').read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(':', 1)[1].strip() for line in lines if line.startswith('model name')]
    return names[0] if names else platform.processor() or platform.machine()


def _memory_bytes() -> int:
    try:
        return os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
    except (OSError, ValueError, AttributeError):
        return 0
