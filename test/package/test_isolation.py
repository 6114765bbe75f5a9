"""`make test` runs in a ROS domain of its own that is heard on this machine only."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NAMES = ('ROS_DOMAIN_ID', 'ROS_AUTOMATIC_DISCOVERY_RANGE', 'ROS_LOCALHOST_ONLY')


def isolated(**settings: str) -> dict[str, str]:
    """Returns the ROS settings that a command started through isolated.sh sees."""
    if not shutil.which('bash'):
        pytest.skip('needs bash')
    environment = {k: v for k, v in os.environ.items() if k not in (*NAMES, 'ROS_DISTRO')}
    environment['PYTHONPATH'] = str(ROOT)
    environment['PATH'] = f'{Path(sys.executable).parent}:/usr/bin:/bin'
    result = subprocess.run(
        [str(ROOT / 'scripts' / 'isolated.sh'), 'env'],
        env=environment | settings,
        capture_output=True,
        text=True,
        check=True,
    )
    seen = dict(line.split('=', 1) for line in result.stdout.splitlines() if '=' in line)
    return {name: seen[name] for name in NAMES if name in seen}


def test_domain_is_chosen_and_discovery_stays_on_this_machine():
    seen = isolated()
    assert 1 <= int(seen.pop('ROS_DOMAIN_ID')) <= 101
    assert seen == {'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST'}


def test_humble_has_another_switch():
    seen = isolated(ROS_DISTRO='humble', ROS_DOMAIN_ID='5')
    assert seen == {'ROS_DOMAIN_ID': '5', 'ROS_LOCALHOST_ONLY': '1'}
