"""The executable of the mock robot: start, signals, end."""

from __future__ import annotations

import sys

from efficientvla_ros.ros.process import run
from efficientvla_ros.ros.simulator.mock_robot import MockRobot
from efficientvla_ros.ros.transport import make_room_for_images


def main(args: list[str] | None = None) -> int:
    """Runs the node until SIGINT or SIGTERM; returns the exit code."""
    make_room_for_images()
    return run(MockRobot, args)


if __name__ == '__main__':
    sys.exit(main())
