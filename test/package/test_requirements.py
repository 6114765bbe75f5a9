"""Everything that the code imports is a pinned requirement or a dependency in package.xml."""

from __future__ import annotations

import ast
import re
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENT_FILES = sorted(ROOT.glob('requirements*.txt'))
PIP_NAMES = {
    'cv2': 'opencv-python-headless',
    'pinocchio': 'pin',
    'PIL': 'pillow',
    'yaml': 'pyyaml',
}
OWN_FILES = (*(ROOT / 'scripts').glob('*.py'), *(ROOT / 'test').rglob('*.py'))
OURS = {'efficientvla_ros'} | {path.stem for path in OWN_FILES}
FOLDERS = ('efficientvla_ros', 'launch', 'scripts', 'test')
SETUP_ONLY = {'catkin_pkg'}  # comes with colcon; a check does without it where it is missing
OPTIONAL = {'rerun'}  # used where it is installed, on request only


def requirement_lines(path: Path) -> list[str]:
    lines = path.read_text(encoding='utf-8').splitlines()
    return [line for line in lines if line and not line.startswith('#')]


def required_names() -> set[str]:
    lines = [line for path in REQUIREMENT_FILES for line in requirement_lines(path)]
    return {re.match(r'[A-Za-z0-9_.-]+', line)[0].lower() for line in lines}


def manifest_names() -> set[str]:
    root = ET.parse(ROOT / 'package.xml').getroot()
    return {element.text for element in root if element.tag.endswith('depend')}


def imported_libraries(folders: tuple[str, ...]) -> dict[str, str]:
    """Returns top-level library -> one file that imports it."""
    libraries = {}
    for path in (p for folder in folders for p in (ROOT / folder).rglob('*.py')):
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or '']
            else:
                continue
            libraries |= {name.split('.')[0]: str(path.relative_to(ROOT)) for name in names}
    return libraries


@pytest.mark.parametrize('path', REQUIREMENT_FILES, ids=lambda path: path.name)
def test_requirements_are_pinned(path):
    loose = [line for line in requirement_lines(path) if '==' not in line.split(';')[0]]
    assert loose == []


def test_imported_libraries_are_required():
    required = required_names()
    known = required | manifest_names() | OURS | SETUP_ONLY | OPTIONAL
    known |= set(sys.stdlib_module_names)
    missing = {
        library: path
        for library, path in imported_libraries(FOLDERS).items()
        if library not in known and PIP_NAMES.get(library, library) not in required
    }
    assert missing == {}


def test_ros_packages_that_are_imported_are_in_the_manifest():
    manifest = manifest_names()
    pip_only = {name for name in required_names() if not name.startswith('ros-')}
    ros_wheels = {name[4:].replace('-', '_') for name in required_names() - pip_only}
    imported = set(imported_libraries(('efficientvla_ros', 'launch')))
    assert {name for name in imported & ros_wheels if name not in manifest} == set()


def test_one_version_of_a_requirement_per_python():
    for path in REQUIREMENT_FILES:
        keys = [re.sub(r'==[^;\s]+', '', line) for line in requirement_lines(path)]
        assert len(keys) == len(set(keys)), path.name
