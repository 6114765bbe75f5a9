"""The targets that the documentation names exist and explain themselves."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAKEFILE = (ROOT / 'Makefile').read_text(encoding='utf-8')
TARGETS = re.search(r'^\.PHONY: (.*)$', MAKEFILE, re.MULTILINE)[1].split()


def make(*arguments: str) -> str:
    if not shutil.which('make'):
        pytest.skip('needs make')
    return subprocess.run(
        ['make', *arguments], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout


def test_required_targets_exist():
    assert {'setup', 'demo', 'test', 'bench', 'lint', 'clean', 'help'} <= set(TARGETS)


def test_help_is_the_default_and_explains_every_target():
    text = make()
    for target in TARGETS:
        assert re.search(rf'^ *make {target} +\S+', text, re.MULTILINE), target


@pytest.mark.parametrize(
    ('target', 'command'),
    [
        ('demo', 'efficientvla demo'),
        ('test', 'python -m pytest'),
        ('bench', 'efficientvla benchmark --model tabletop-small'),
    ],
)
def test_target_sets_up_first_and_then_runs(target, command):
    lines = make('--dry-run', target)
    assert 0 <= lines.index('scripts/setup_env.sh') < lines.index(command)


def test_ci_runs_make_test():
    script = ROOT / '.ci' / 'run'
    assert script.stat().st_mode & 0o111
    assert script.read_text(encoding='utf-8').rstrip().endswith('exec make test')
