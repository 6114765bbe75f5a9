"""Makes action types of control_msgs available to child processes, built once where they lack."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCE = Path(__file__).parent / 'interfaces' / 'control_msgs'


def control_msgs_paths() -> dict[str, str]:
    """Variable -> folder to put first in it so that processes find control_msgs; may be empty.

    Raises:
        RuntimeError: the stand-in cannot be built; with the end of colcon's output.
    """
    if importlib.util.find_spec('control_msgs') is not None:
        return {}
    prefix = _built() / 'install' / 'control_msgs'
    site = next(prefix.glob('l*/python3*/*-packages'), None) or next(prefix.glob('local/l*/*/*'))
    return {
        'PYTHONPATH': str(site),
        'LD_LIBRARY_PATH': str(prefix / 'lib'),
        'AMENT_PREFIX_PATH': str(prefix),
    }


def _built() -> Path:
    """The workspace of this version of the definitions; `build/` is ignored by git."""
    digest = hashlib.sha256(sys.version.encode())
    for path in sorted(SOURCE.rglob('*.*')):
        digest.update(path.name.encode() + path.read_bytes())
    folder = ROOT / 'build' / 'test_interfaces' / digest.hexdigest()[:12]
    if (folder / 'done').exists():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(SOURCE, folder / 'control_msgs')
    command = ['colcon', '--log-base', 'log', 'build', '--cmake-args']
    command += [f'-DPython3_EXECUTABLE={sys.executable}']
    environment = {name: value for name, value in os.environ.items() if name != 'PYTHONPATH'}
    result = subprocess.run(
        command, cwd=folder, env=environment, text=True, stdout=-1, stderr=-2, check=False
    )
    if result.returncode != 0:
        raise RuntimeError(f'control_msgs for the tests: {result.stdout[-2000:]}')
    (folder / 'done').touch()
    return folder


if __name__ == '__main__':
    # Before tests run side by side: a build takes all cores for half a minute.
    control_msgs_paths()
