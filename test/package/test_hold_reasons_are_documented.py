"""Every reason why the arm is held is explained where users look it up."""

from __future__ import annotations

import re
from pathlib import Path

from efficientvla_ros.control.reasons import HoldReason

PAGE = Path(__file__).resolve().parents[2] / 'docs' / 'policy_node.md'


def test_the_table_of_hold_reasons_is_complete():
    section = PAGE.read_text(encoding='utf-8').split('## When the arm is held')[1]
    rows = [line for line in section.splitlines() if line.startswith('| `')]
    named = {name for row in rows for name in re.findall(r'`(\w+)`', row.split('|')[1])}
    assert {reason.value for reason in HoldReason} - {'', 'inactive'} <= named
