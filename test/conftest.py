"""Each of several processes that run tests has a ROS domain of its own."""

from __future__ import annotations

import os

from domains import worker_domains

from efficientvla_ros.cli.demo_processes import free_domain

if 'PYTEST_XDIST_WORKER' in os.environ:
    # `scripts/isolated.sh` has chosen one for all of them.
    os.environ['ROS_DOMAIN_ID'] = str(free_domain(worker_domains()))
