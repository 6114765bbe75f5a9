"""package.xml, the messages and the version numbers say the same and leave nothing unsaid."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import check_package
import pytest

ROOT = Path(__file__).resolve().parents[2]
MANIFEST = (ROOT / 'package.xml').read_text(encoding='utf-8')


def test_package_has_no_faults():
    assert check_package.faults(ROOT) == []


@pytest.mark.parametrize(
    ('wrong', 'complaint'),
    [
        (MANIFEST.replace('format="3"', 'format="2"'), 'format is not 3'),
        (re.sub(r'<member_of_group>.*', '', MANIFEST), 'member_of_group'),
        (re.sub(r'email="[^"]*"', 'email="nobody"', MANIFEST), 'no usable email'),
        (re.sub(r'<buildtool_depend>ament_cmake_python<.*', '', MANIFEST), 'ament_cmake_python'),
        (re.sub(r'<license.*', '', MANIFEST), '<license> is missing'),
        (MANIFEST.replace('</package>', ''), 'not well-formed'),
    ],
)
def test_manifest_fault_is_named(wrong, complaint):
    assert wrong != MANIFEST
    assert any(complaint in fault for fault in check_package.manifest_faults(wrong))


@pytest.mark.parametrize('line', ['float64 rate', 'uint8 IDLE=1', 'float64[] actions  #'])
def test_message_field_without_comment_is_named(line):
    faults = check_package.message_faults('A.msg', f'# fine\n\nuint8 a  # fine\n{line}\n')
    assert len(faults) == 1
    assert faults[0].startswith('A.msg:4:')


def test_all_messages_are_built():
    cmake = (ROOT / 'CMakeLists.txt').read_text(encoding='utf-8')
    built = set(re.findall(r'"(msg/\w+\.msg)"', cmake))
    assert built == {f'msg/{path.name}' for path in (ROOT / 'msg').iterdir()}


def test_all_scripts_without_suffix_are_installed_and_executable():
    cmake = (ROOT / 'CMakeLists.txt').read_text(encoding='utf-8')
    for path in (ROOT / 'scripts').iterdir():
        if path.is_file() and not path.suffix:
            assert f'scripts/{path.name}' in cmake
            assert path.stat().st_mode & 0o111
            assert path.read_text(encoding='utf-8').startswith('#!/usr/bin/env python3\n')


def test_pip_and_ros_state_one_version():
    pip_version = subprocess.run(
        [sys.executable, 'setup.py', '--version'],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    assert set(check_package.versions(ROOT).values()) == {pip_version}


def test_no_setup_cfg_that_the_message_generator_would_pick_up():
    assert not (ROOT / 'setup.cfg').exists()


def test_generated_message_names_are_not_taken():
    taken = {'msg', 'srv', 'action'}
    assert not taken & {path.name for path in (ROOT / 'efficientvla_ros').iterdir()}


def test_licence_is_apache_2():
    text = (ROOT / 'LICENSE').read_text(encoding='utf-8')
    assert 'Apache License' in text
    assert 'Version 2.0, January 2004' in text


def test_pip_installs_the_data_files_of_the_package():
    text = (ROOT / 'setup.py').read_text(encoding='utf-8')
    patterns = re.findall(r"'([\w*./]+/[\w*./]+)'", text[text.index('package_data') :])
    package = ROOT / 'efficientvla_ros'
    covered = {path for pattern in patterns for path in package.glob(pattern)}
    data = {
        path
        for path in package.rglob('*')
        if path.is_file() and path.suffix not in {'.py', '.pyc'}
    }
    assert data - covered == set()
