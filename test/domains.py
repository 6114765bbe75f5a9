"""ROS domains for tests: processes that run tests side by side never share one."""

from __future__ import annotations

import os


def worker_domains() -> range:
    """Those of this process; all where it is the only one (see pytest-xdist)."""
    index = int(os.environ.get('PYTEST_XDIST_WORKER', 'gw0')[2:])
    span = 100 // int(os.environ.get('PYTEST_XDIST_WORKER_COUNT', '1'))
    return range(1 + index * span, 1 + (index + 1) * span)
