"""Whatever name the node gives to a hold or to a change of a command is found in the guide."""

from __future__ import annotations

import re

import pytest
from ros_harness import ROOT

from efficientvla_ros.control.reasons import HoldReason, Intervention

TEXT = (ROOT / 'docs/troubleshooting.md').read_text(encoding='utf-8')
NAMES = sorted({*HoldReason, *Intervention} - {HoldReason.NONE, HoldReason.INACTIVE})


@pytest.mark.parametrize('name', [name.value for name in NAMES])
def test_every_name_is_explained(name):
    assert re.search(rf'`{name}`', TEXT), f'docs/troubleshooting.md says nothing of {name}'
