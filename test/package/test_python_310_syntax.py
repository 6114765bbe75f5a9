"""The code runs on the Python of Humble: no syntax newer than 3.10."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ('efficientvla_ros', 'scripts', 'launch', 'test')


def test_all_files_parse_as_python_310():
    files = [path for folder in FOLDERS for path in (ROOT / folder).rglob('*.py')]
    files += [ROOT / 'scripts' / 'policy_node', ROOT / 'scripts' / 'tabletop_sim_node']
    assert len(files) > 20
    for path in files:
        text = path.read_text(encoding='utf-8')
        ast.parse(text, filename=str(path), feature_version=(3, 10))


def test_newer_syntax_would_be_found():
    with pytest.raises(SyntaxError):
        ast.parse('try:\n    pass\nexcept* ValueError:\n    pass', feature_version=(3, 10))


def test_no_datetime_utc_or_tomllib_from_311():
    for path in (ROOT / 'efficientvla_ros').rglob('*.py'):
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            if isinstance(node, ast.ImportFrom):
                names = {(node.module, alias.name) for alias in node.names}
                new = {('datetime', 'UTC'), ('typing', 'Self'), ('enum', 'StrEnum')}
                assert not names & new, path
            elif isinstance(node, ast.Import):
                assert 'tomllib' not in {alias.name for alias in node.names}, path
