"""Writes the results section of README.md from docs/reports; --check only compares."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from efficientvla_ros.evaluation.results_page import insert, render  # noqa: E402


def main(arguments: list[str]) -> int:
    """Returns 1 when README.md does not hold what the reports say."""
    readme = ROOT / 'README.md'
    page = readme.read_text()
    wanted = insert(page, render(ROOT / 'docs' / 'reports'))
    if '--check' in arguments:
        if page != wanted:
            print('README.md differs from docs/reports: run python scripts/update_results.py')
        return int(page != wanted)
    readme.write_text(wanted)
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
