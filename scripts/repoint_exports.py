"""Points the ROS wheels' CMake export files at this machine's Python and numpy headers.

The export files that the wheels install under `<environment>/share` hold two include folders
of the machine that built them. CMake refuses an imported target whose include folder does not
exist, so both are replaced once after installing. Running it again changes nothing.
"""

from __future__ import annotations

import re
import sys
import sysconfig
from pathlib import Path

# Where the wheels' build machine kept its interpreters.
FOREIGN_INCLUDE = re.compile(r'/opt/python/[^;"\s]*?/include(?:/python[0-9.]+)?(?=[;"\s])')


def repoint(text: str, python_include: str, numpy_include: str) -> str:
    """Returns `text` with the build machine's include folders replaced."""

    def replacement(match: re.Match[str]) -> str:
        return numpy_include if 'numpy' in match.group(0) else python_include

    return FOREIGN_INCLUDE.sub(replacement, text)


def repoint_tree(share: Path, python_include: str, numpy_include: str) -> int:
    """Rewrites every CMake file under `share`; returns how many files changed."""
    changed = 0
    for path in sorted(share.glob('*/cmake/*.cmake')):
        before = path.read_text(encoding='utf-8')
        after = repoint(before, python_include, numpy_include)
        if after != before:
            # Replaced whole, so that an interrupted run leaves no half-written file.
            scratch = path.with_suffix('.cmake.new')
            scratch.write_text(after, encoding='utf-8')
            scratch.replace(path)
            changed += 1
    return changed


def main() -> int:
    """Re-points the environment that runs this script."""
    import numpy

    share = Path(sys.prefix) / 'share'
    changed = repoint_tree(share, sysconfig.get_paths()['include'], numpy.get_include())
    print(f'{changed} CMake export files re-pointed under {share}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
