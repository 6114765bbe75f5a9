"""Writes the results of README.md and docs/benchmark.md, and pictures, from docs/reports.

--check compares the texts instead.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from efficientvla_ros.evaluation import benchmark_page, results_page  # noqa: E402

REPORTS = ROOT / 'docs' / 'reports'
PAGES = {
    ROOT / 'README.md': results_page.render,
    ROOT / 'docs' / 'benchmark.md': benchmark_page.render,
}


def main(arguments: list[str]) -> int:
    """Returns 1 when a page does not hold what the reports say."""
    differs = 0
    for path, render in PAGES.items():
        page = path.read_text()
        wanted = results_page.insert(page, render(REPORTS))
        if '--check' not in arguments:
            path.write_text(wanted)
        elif page != wanted:
            print(f'{path.name} differs from docs/reports: run python scripts/update_results.py')
            differs = 1
    if '--check' not in arguments:
        results_page.draw(REPORTS, ROOT)
    return differs


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
