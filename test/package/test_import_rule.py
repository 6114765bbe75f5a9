"""Rooms import only what DESIGN allows, so that each can be used and tested without the others."""

from __future__ import annotations

from pathlib import Path

import check_imports
import pytest

ROOT = Path(__file__).resolve().parents[2]


def violations_of(tmp_path: Path, file: str, text: str) -> list[str]:
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding='utf-8')
    return check_imports.violations(tmp_path)


def test_package_keeps_the_import_rule():
    assert check_imports.violations(ROOT / 'efficientvla_ros') == []


def test_every_room_is_a_package():
    folders = (ROOT / 'efficientvla_ros').glob('*/*.py')
    assert not [p.parent.name for p in folders if not (p.parent / '__init__.py').exists()]


@pytest.mark.parametrize(
    ('file', 'text', 'complaint'),
    [
        ('models/a.py', 'from efficientvla_ros import types', 'no module of types'),
        ('models/a.py', 'from efficientvla_ros.types import InputError', 'no module of types'),
        ('models/a.py', 'from ..types import InputError', 'no module of types'),
        ('runtime/a.py', 'from efficientvla_ros.control import decode', 'no module of control'),
        ('control/a.py', 'def f():\n    import torch', 'imports torch'),
        ('simulation/a.py', 'import torch.nn', 'imports torch'),
        ('simulation/a.py', 'from ..models import vision', 'no module of models'),
        ('evaluation/a.py', 'import efficientvla_ros.training.trainer', 'no module of training'),
        ('evaluation/a.py', 'def f():\n    import rclpy', 'imports rclpy'),
        ('evaluation/a.py', 'import torch', 'at module level'),
        ('cli/a.py', 'from rclpy.node import Node', 'imports rclpy'),
        ('cli/a.py', 'import mujoco', 'slows --help'),
        ('ros/a.py', 'from efficientvla_ros.cli import main', 'no module of cli'),
        ('ros/a.py', 'class A:\n    import torch', 'at module level'),
        ('attic/a.py', 'import os', 'not a room'),
        ('control/__init__.py', 'from .decode import decode_chunk', 'free of imports'),
    ],
)
def test_violation_is_found(tmp_path, file, text, complaint):
    found = violations_of(tmp_path, file, text)
    assert len(found) == 1
    assert complaint in found[0]
    assert found[0].startswith(f'efficientvla_ros/{file}:')


@pytest.mark.parametrize(
    ('file', 'text'),
    [
        ('ros/a.py', 'def f():\n    import torch'),
        ('ros/a.py', 'from efficientvla_ros.msg import ActionChunk'),
        ('ros/a.py', 'from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch'),
        ('cli/a.py', 'def f():\n    from efficientvla_ros.training import trainer'),
        ('models/a.py', 'import torch\nfrom . import vision\nfrom efficientvla_ros import models'),
        ('__init__.py', 'from pkgutil import extend_path'),
    ],
)
def test_allowed_import_is_not_reported(tmp_path, file, text):
    assert violations_of(tmp_path, file, text) == []
