"""Writes the results of README.md and their picture from docs/reports; --check compares text."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from efficientvla_ros.evaluation.results_page import draw, insert, render  # noqa: E402


def main(arguments: list[str]) -> int:
    """Returns 1 when README.md does not hold what the reports say."""
    readme, reports = ROOT / 'README.md', ROOT / 'docs' / 'reports'
    page = readme.read_text()
    wanted = insert(page, render(reports))
    if '--check' in arguments:
        if page != wanted:
            print('README.md differs from docs/reports: run python scripts/update_results.py')
        return int(page != wanted)
    readme.write_text(wanted)
    draw(reports, ROOT)
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
